"""Anomaly maps that another program wrote, measured as ours are."""

from __future__ import annotations

import hashlib
import logging
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adbench.core.environment import memory_bytes
from adbench.core.errors import DataError
from adbench.data.decoding import decode
from adbench.features.anomaly_maps import upsample
from adbench.metrics import names
from adbench.metrics.support.labels import CategoryInputs
from adbench.types import Sample, Scores, Size

log = logging.getLogger("adbench")
_HELD = 0.25  # of the memory: maps that need more are read again each time
_SUFFIXES = (".npy", ".tiff", ".tif", ".png")  # of an image with several maps, the first of these is read
_SHOWN = 5  # missing or bad maps named in a message


Measure = Callable[[CategoryInputs, Scores, str], dict[str, float | None]]  # of a category; also the digest of its maps


def evaluate_maps(inputs: Sequence[CategoryInputs], folder: Path, size: Size, measure: Measure) -> list[dict[str, Any]]:
    """Return what `measure` finds in each category's maps FOLDER/CATEGORY/test/KIND/NAME.npy, .tiff or .png, of one channel.

    A map is resized bilinearly to the evaluation grid and not smoothed; an image's score is its map's maximum, before resizing.
    A category whose maps are not all there and readable has metrics of None, a reason, and "failed": True. Raise DataError if
    `folder` has no map, and if every category has failed.
    """
    listed = MapFolder(folder)
    found = [[listed.find(item.category.name, sample) for sample in item.category.test] for item in inputs]
    wanted = [PurePath(item.category.name, sample.name) for item in inputs for sample in item.category.test]
    if wanted and not any(path for paths in found for path in paths):
        why = "none has the name of a test image" if folder.is_dir() else "no such folder"
        example = f"{wanted[0].with_suffix('.npy')}, .tiff or .png"
        raise DataError(f"no maps in {folder}: {why}; each of {len(wanted)} images needs one, e.g. {example}")
    answers = [_attempt(listed, item, paths, size, measure) for item, paths in zip(inputs, found, strict=True)]
    if all(answer.get("failed") for answer in answers):
        raise DataError(" | ".join(answer["reason"] for answer in answers))
    for answer in answers:
        if answer.get("failed"):
            log.warning("category '%s' is not measured: %s", answer["category"], answer["reason"])
    listed.warn_of_others({path for paths in found for path in paths if path})
    return answers


class MapFolder:
    """The maps below a folder; each subfolder is listed once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._listed: dict[Path, dict[str, Path]] = {}

    def find(self, category: str, sample: Sample) -> Path | None:
        """Return the map of a test image, None if there is none.

        It has the image's name in MVTec AD's layout or in that of the dataset, with the suffix of a map in upper or lower case.
        """
        places = dict.fromkeys([PurePath(sample.name).parent, PurePath("test", sample.path.parent.name)])
        for place in places:
            files = self._files(self.folder / category / place)
            # 000.png.npy first: 000.png and 000.bmp may be two images
            for name in map(_composed, (sample.path.name, sample.path.stem)):
                if path := next((files[name + suffix] for suffix in _SUFFIXES if name + suffix in files), None):
                    return path
        return None

    def _files(self, folder: Path) -> dict[str, Path]:
        """Return the maps in a folder by name, suffixes in lower case; none if it is missing."""
        if folder not in self._listed:
            try:
                files = sorted(f for f in folder.iterdir() if not f.name.startswith(".")) if folder.is_dir() else []
            except OSError as error:
                raise DataError(f"cannot list {folder}: {error.strerror}; make it readable") from error
            maps = [file for file in files if file.suffix.lower() in _SUFFIXES]
            self._listed[folder] = {_composed(f"{file.stem}{file.suffix.lower()}"): file for file in maps}
        return self._listed[folder]

    def warn_of_others(self, used: set[Path]) -> None:
        """Log a warning if some maps in the listed folders belong to no test image, not even as a second map."""
        stems = {stem for path in used for stem in (path.with_suffix(""), path.with_suffix("").with_suffix(""))}
        others = [path for files in self._listed.values() for path in files.values() if path.with_suffix("") not in stems]
        if others:
            log.warning(
                "%d maps in %s belong to no test image and are not measured, e.g. %s", len(others), self.folder, others[0]
            )


def _composed(name: str) -> str:
    """Return a file name in the one Unicode form to compare: macOS writes accents as letters of their own."""
    return unicodedata.normalize("NFC", name)


def _attempt(
    listed: MapFolder, item: CategoryInputs, paths: Sequence[Path | None], size: Size, measure: Measure
) -> dict[str, Any]:
    """Return the metrics of a category, or why it has none."""
    try:
        return _evaluate(item, _complete(listed.folder, item, paths), size, measure)
    except DataError as error:
        return {"category": item.category.name, "metrics": dict.fromkeys(names()), "reason": str(error), "failed": True}


def _complete(folder: Path, item: CategoryInputs, paths: Sequence[Path | None]) -> list[Path]:
    """Return the maps of a category; raise DataError if an image has none, or two images have the same."""
    pairs = list(zip(item.category.test, paths, strict=True))
    missing = [f"{item.category.name}/{sample.name}" for sample, path in pairs if path is None]
    if missing:
        raise DataError(
            f"{folder}: no map for {len(missing)} test images: {_some(missing)}; write CATEGORY/test/KIND/NAME.npy, .tiff or .png"
        )
    counts = Counter(paths)
    shared = [f"{item.category.name}/{sample.name}" for sample, path in pairs if counts[path] > 1]
    if shared:
        raise DataError(f"{folder}: one map for several test images: {_some(shared)}; name each map like its image, e.g. "
                        f"{PurePath(shared[0]).name}.npy")  # fmt: skip
    return [path for path in paths if path]


def _some(words: Sequence[str]) -> str:
    return ", ".join(words[:_SHOWN]) + (f" and {len(words) - _SHOWN} more" if len(words) > _SHOWN else "")


def _evaluate(item: CategoryInputs, paths: Sequence[Path], size: Size, measure: Measure) -> dict[str, Any]:
    if not paths:
        return {"category": item.category.name, "metrics": dict.fromkeys(names()), "reason": "no labeled test images"}
    labels, files = item.labels(size), MapFiles(paths, size, item.native_sizes())
    image, kept, bad, content = list[float](), list[NDArray[np.float32]](), list[str](), hashlib.sha256()
    for index, path in enumerate(paths):
        try:
            raw = read_map(path)
        except DataError as error:  # the others are read, so that all bad maps are named at once
            bad.append(str(error))
            continue
        content.update(repr(raw.shape).encode() + raw.tobytes())
        image.append(float(raw.max()))
        if files.nbytes < memory_bytes() * _HELD and not bad:
            kept.append(files.resized(index, raw))
    if bad:
        raise DataError(bad[0] if len(bad) == 1 else f"{len(bad)} bad maps: {' | '.join(bad[:_SHOWN])}")
    scores = Scores(np.array(image, dtype=np.float32), kept or files)
    metrics = measure(item, scores, content.hexdigest())
    return {"category": item.category.name, "metrics": metrics, "reason": "; ".join(labels.remarks) or None}


@dataclass(frozen=True)
class MapFiles(Sequence[NDArray[np.float32]]):
    """Maps on the evaluation grid (`size`, or each image's own (H, W) in `native`), read from their files when asked for."""

    paths: Sequence[Path]
    size: Size
    native: Sequence[tuple[int, int]]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: Any) -> Any:
        return self.resized(index, read_map(self.paths[index]))

    def resized(self, index: int, raw: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return a map (h, w) that has been read."""
        if self.size == "native" and raw.shape == self.native[index]:
            return raw
        return upsample([raw], self.size, [self.native[index]])[0]

    @property
    def nbytes(self) -> int:
        """Bytes of all maps in memory."""
        if self.size == "native":
            return 4 * sum(height * width for height, width in self.native)
        return 4 * self.size**2 * len(self)


def read_map(path: Path) -> NDArray[np.float32]:
    """Return a (H, W) float32 map; raise DataError unless the file holds one finite two-dimensional array of numbers."""
    try:
        raw = np.load(path, allow_pickle=False) if path.suffix.lower() == ".npy" else _picture(path.read_bytes())
        if raw.dtype.kind not in "buif":
            raise ValueError(f"values of type {raw.dtype} are no scores")
        values = np.squeeze(np.asarray(raw, dtype=np.float32))
    except Exception as error:  # numpy's and Pillow's readers raise whatever a damaged file makes them stumble over
        reason = " ".join((str(error) or type(error).__name__).split())
        raise DataError(f"map {path}: cannot be read ({reason}); write it again") from error
    if values.ndim != 2 or not values.size or not np.isfinite(values).all():
        raise DataError(f"map {path}: must be one finite two-dimensional array, not of shape {raw.shape}")
    return values


def _picture(data: bytes) -> NDArray[Any]:
    """Return the values of a picture file; of a gray one that is stored as colors, one channel."""
    raster = decode(data)
    if raster.unread or (raster.alpha is not None and raster.alpha.min() < raster.alpha.max()):
        raise ValueError(f"it has further {raster.unread or 'values in alpha'}")
    if raster.rounded_off:
        raise ValueError("its 16-bit colors would be rounded to 8 bits, those of gray, TIFF or .npy are not")
    gray = raster.values.ndim == 3 and (raster.values == raster.values[..., :1]).all()
    return raster.values[..., 0] if gray else raster.values
