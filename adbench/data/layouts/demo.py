"""The dataset `demo`: generated parts and defects, so that everything can be tried without a download.

Written once in MVTec AD's layout. Every image has its own seed, made of the version, the category, the split, the kind
and its number: it depends on no other image. A mask is where the defect has changed its image, not where it was meant to.
"""

import os
import shutil
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_closing, binary_fill_holes, label

from adbench.core.files import unwritable
from adbench.data.demo import defects, parts
from adbench.data.demo.drawing import SIZE, Rng, light, photograph
from adbench.data.layouts import register
from adbench.data.layouts.mvtec import MVTec
from adbench.types import OnStep, ignore_step

VERSION = 1  # grows with every change that moves a pixel
TRAIN, GOOD, EACH = 32, 12, 6  # images per category; of each of the four defects
CATEGORIES: dict[str, tuple[Callable[[Rng], parts.Part], dict[str, defects.Defect]]] = {
    "board": (parts.board, {"crooked": defects.crooked, "missing": defects.missing_component,
                            "scratch": defects.scratch, "solder": defects.solder}),
    "fabric": (parts.fabric, {"hole": defects.hole, "pulled": defects.bend, "stain": defects.stain,
                              "thread": defects.missing_thread}),
    "metal": (parts.metal, {"dent": defects.dent, "pits": defects.pits, "scratch": defects.scratch,
                            "stain": defects.stain}),
    "nut": (parts.nut, {"bent": defects.bend, "chip": defects.chip, "rust": defects.rust, "scratch": defects.scratch}),
}  # fmt: skip
_LEAST_CHANGE, _LEAST_AREA = 6, 12  # grey levels; pixels
_STALE_S = 3600.0


@register("demo")
class Demo(MVTec):
    """Four categories, two textures and two objects, of 256 x 256 pixels."""

    generated = True

    def matches(self, root: Path) -> bool:
        return False

    def generate(self, cache: Path, on_step: OnStep = ignore_step) -> Path:
        """Return `cache`/demo-v1, made if it is not there or not whole. Raises DataError if it cannot be written."""
        target = cache / f"demo-v{VERSION}"
        if _whole(target):
            return target
        try:
            cache.mkdir(parents=True, exist_ok=True)
            _remove_stale(target)
            folder = Path(tempfile.mkdtemp(dir=cache, prefix=f".{target.name}."))
            try:
                write(folder, on_step)
                _move(folder, target)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
        except OSError as error:
            raise unwritable(target, error) from error
        return target


def _plan() -> Iterator[tuple[str, str, str, int]]:
    """Yield (category, split, kind, number) of every image."""
    for category, (_, kinds) in CATEGORIES.items():
        yield from ((category, "train", "good", k) for k in range(TRAIN))
        yield from ((category, "test", "good", k) for k in range(GOOD))
        yield from ((category, "test", kind, k) for kind in kinds for k in range(EACH))


def write(folder: Path, on_step: OnStep = ignore_step) -> None:
    """Write all images and masks below `folder`, in MVTec AD's layout."""
    plan = list(_plan())
    for done, (category, split, kind, number) in enumerate(plan):
        on_step(done, len(plan), f"drawing {category}")
        image, mask = draw(category, split, kind, number)
        _save(image, folder / category / split / kind / f"{number:03d}.png")
        if kind != "good":
            _save(mask.astype(np.uint8) * 255, folder / category / "ground_truth" / kind / f"{number:03d}_mask.png")
    on_step(len(plan), len(plan), "drawn")


def draw(category: str, split: str, kind: str, number: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return one image (SIZE, SIZE, 3) uint8 and its mask (SIZE, SIZE), empty for kind "good"."""
    rng = np.random.default_rng([VERSION, *(zlib.crc32(word.encode()) for word in (category, split, kind)), number])
    make, kinds = CATEGORIES[category]
    part = make(rng)
    brightness, noise = light(rng), _noise(rng)
    clean = photograph(part.image, brightness, noise)
    if kind == "good":
        return clean, np.zeros((SIZE, SIZE), bool)
    severity = (0.1, 0.45, 0.9)[number % 3] + rng.uniform(-0.1, 0.1)
    return _with_mask(clean, photograph(kinds[kind](part, rng, severity), brightness, noise))


def _noise(rng: Rng) -> NDArray[np.float32]:
    """Return sensor noise (SIZE, SIZE, 3): some of each colour, some of all together."""
    return 0.010 * rng.standard_normal((SIZE, SIZE, 3), np.float32) + 0.008 * rng.standard_normal((SIZE, SIZE, 1), np.float32)


def _with_mask(clean: NDArray[np.uint8], damaged: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return the damaged image and where it differs from the clean one.

    Differences that nobody can see, and specks, are taken back from the image, so that the mask says all that changed.
    """
    change = np.abs(clean.astype(np.int16) - damaged).max(axis=2) >= _LEAST_CHANGE
    regions, _ = label(binary_fill_holes(binary_closing(change, np.ones((3, 3)), iterations=2)), np.ones((3, 3)))
    large = np.bincount(regions.ravel()) >= _LEAST_AREA
    large[0] = False
    mask = large[regions]
    return np.where(mask[..., None], damaged, clean), mask


def _save(pixels: NDArray[np.uint8], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, compress_level=1)


def _whole(folder: Path) -> bool:
    count = {"train": TRAIN, "test": GOOD + 4 * EACH, "ground_truth": 4 * EACH}
    return all(sum(1 for _ in (folder / c).glob(f"{s}/*/*.png")) == n for c in CATEGORIES for s, n in count.items())


def _remove_stale(target: Path) -> None:
    """Remove what earlier, killed calls have left; a folder that is not old may be another process's work."""
    for folder in target.parent.glob(f".{target.name}.*"):
        if time.time() - folder.stat().st_mtime > _STALE_S:
            shutil.rmtree(folder, ignore_errors=True)


def _move(folder: Path, target: Path) -> None:
    """Rename `folder` to `target`; if another process was first, its folder stays."""
    folder.chmod(0o755)
    if target.exists() and not _whole(target):
        shutil.rmtree(target)
    try:
        os.replace(folder, target)  # noqa: PTH105
    except OSError:
        if not _whole(target):
            raise
