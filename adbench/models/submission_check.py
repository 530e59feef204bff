"""The rules of a submission to the MVTec AD 2 server, as its public checking code states them, and a check of a folder by them.

ROOT/anomaly_images/OBJECT/{test_private,test_private_mixed}/NNN_{regular,mixed}.tiff: anomaly maps, 2-D, float16.
ROOT/anomaly_images_thresholded: the same tree of .png masks, 2-D, only 0 and 255.
Images are numbered from 000 without gaps. There is nothing else in ROOT, not even a log file. Beyond the public code, a map
must be finite and have its image's size, and a mask must be 255 exactly where its map is above `ABOVE`.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

MAPS, MASKS = "anomaly_images", "anomaly_images_thresholded"
SUFFIX = {MAPS: ".tiff", MASKS: ".png"}
ENDING = {"test_private": "regular", "test_private_mixed": "mixed"}
COUNTS = {
    "can": 321,
    "fabric": 314,
    "fruit_jelly": 255,
    "rice": 277,
    "sheet_metal": 142,
    "vial": 276,
    "wallplugs": 232,
    "walnuts": 228,
}
ABOVE = 0.5
Sizes = Mapping[PurePosixPath, tuple[int, int]]  # (height, width) of each image, by OBJECT/SPLIT/STEM


def faults(root: Path, sizes: Sizes) -> list[str]:
    """Return what is wrong with a submission of maps of these images, each fault with the file's name; empty if nothing is."""
    found = [*misnumbered(list(sizes)), *extras(root, sizes)]
    for name, size in sizes.items():
        anomaly_map, mask = (root / file for file in files_of(name))
        found += [f"{path.relative_to(root)} is missing" for path in (anomaly_map, mask) if not path.is_file()]
        if anomaly_map.is_file() and mask.is_file():
            found += content_faults(root, anomaly_map, mask, size)
    return found


def files_of(name: PurePosixPath) -> tuple[Path, Path]:
    """Return the map and the mask of the image OBJECT/SPLIT/STEM within a submission."""
    maps, masks = (Path(kind, *name.parent.parts, name.name + suffix) for kind, suffix in SUFFIX.items())
    return maps, masks


def extras(root: Path, sizes: Sizes) -> list[str]:
    """Return a fault for each file and folder in `root` that a submission of maps of these images does not have."""
    files = {file for name in sizes for file in files_of(name)}
    known = files | {parent for file in files for parent in file.parents}
    found = {path.relative_to(root) for path in root.rglob("*")}
    return [f"{path} does not belong to it" for path in sorted(found - known)]


def misnumbered(names: Sequence[PurePosixPath]) -> Iterator[str]:
    """Yield a fault for each folder whose images are not NNN_regular (test_private) or NNN_mixed, from 000 without gaps."""
    for folder in sorted({name.parent for name in names}):
        ending = ENDING.get(folder.name, "")
        expected = {f"{number:03d}_{ending}" for number in range(sum(name.parent == folder for name in names))}
        if other := sorted(name.name for name in names if name.parent == folder and name.name not in expected):
            yield f"{folder} has the image {other[0]}, but the server asks for 000_{ending} to {max(expected)}"


def uncounted(names: Sequence[PurePosixPath]) -> list[str]:
    """Return what an incomplete copy of MVTec AD 2 lacks: objects, and images in its folders."""
    objects = {name.parts[0] for name in names}
    lacking = [f"object {name}" for name in COUNTS.keys() - objects]
    for folder in sorted({name.parent for name in names}):
        count, wanted = sum(name.parent == folder for name in names), COUNTS.get(folder.parts[0])
        if wanted is not None and count != wanted:
            lacking.append(f"{folder}: {count} of {wanted} images")
    return sorted(lacking)


def content_faults(root: Path, anomaly_map: Path, mask: Path, size: tuple[int, int]) -> Iterator[str]:
    """Yield what is wrong with the content of the two files of an image of this size."""
    import tifffile  # slow to import

    names = {path: path.relative_to(root) for path in (anomaly_map, mask)}
    try:
        scores, binary = np.asarray(tifffile.imread(anomaly_map)), np.asarray(Image.open(mask))
    except Exception as error:  # the readers raise whatever a damaged file makes them stumble over
        yield f"{names[anomaly_map]} or its mask cannot be read ({' '.join(str(error).split()) or type(error).__name__})"
        return
    for path, found in ((anomaly_map, scores), (mask, binary)):
        if found.shape != size:
            yield f"{names[path]} has the shape {found.shape}, its image {size}"
    if scores.dtype != np.float16:
        yield f"{names[anomaly_map]} is of type {scores.dtype}, not float16"
    elif not np.isfinite(scores).all():
        yield f"{names[anomaly_map]} has values that are not finite"
    if other := np.setdiff1d(np.unique(binary), (0, 255)).tolist():
        yield f"{names[mask]} has the value {other[0]}, but only 0 and 255 are allowed"
    elif scores.shape == binary.shape and not _agree(scores, binary):
        yield f"{names[mask]} is not 255 exactly where its map is above {ABOVE}"


def _agree(scores: NDArray[np.float16], binary: NDArray[np.uint8]) -> bool:
    return bool(((scores > ABOVE) == (binary > 0)).all())
