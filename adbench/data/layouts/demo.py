"""The dataset `demo`: generated parts and defects, to try everything without a download.

It is written once, in MVTec AD's layout. The seed of an image is made of the version, its category, split, kind and number,
so that no image depends on another. A mask shows the pixels that the defect has visibly changed.
"""

import shutil
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_closing, binary_fill_holes

from adbench.data.demo import defects, parts
from adbench.data.demo.drawing import SIZE, Rng, light, photograph
from adbench.data.layouts import register
from adbench.data.layouts.mvtec import MVTec
from adbench.data.regions import large_regions
from adbench.data.writing import save_png, whole_folder
from adbench.types import OnStep, ignore_step

VERSION = 1  # increase it with every change that alters a pixel
TRAIN, GOOD, EACH = 32, 12, 6  # images per category; EACH: of each of the four defects
CATEGORIES: dict[str, tuple[Callable[[Rng], parts.Part], dict[str, defects.Defect]]] = {
    "board": (parts.board, {"crooked": defects.crooked, "missing": defects.missing_component,
                            "scratch": defects.scratch, "solder": defects.solder}),
    "fabric": (parts.fabric, {"hole": defects.hole, "pulled": defects.bend, "stain": defects.stain,
                              "thread": defects.missing_thread}),
    "metal": (parts.metal, {"dent": defects.dent, "pits": defects.pits, "scratch": defects.scratch,
                            "stain": defects.stain}),
    "nut": (parts.nut, {"bent": defects.bend, "chip": defects.chip, "rust": defects.rust, "scratch": defects.scratch}),
}  # fmt: skip
_LEAST_CHANGE, _LEAST_AREA = 6, 12  # gray levels; pixels
_STALE_S = 3600.0  # age at which a temporary folder is no longer another process's work


@register("demo")
class Demo(MVTec):
    """Four categories, two textures and two objects, of 256 x 256 pixels."""

    generated = True

    def matches(self, root: Path) -> bool:
        return False

    def categories(self, root: Path) -> list[str]:
        return sorted(CATEGORIES)

    def generate(self, cache: Path, on_step: OnStep = ignore_step) -> Path:
        """Return `cache`/demo-v1; make it if it is missing or incomplete. Raises DataError if it cannot be written."""
        target = cache / f"demo-v{VERSION}"
        if not _complete(target):
            with whole_folder(target, unless=lambda: _complete(target)) as folder:
                for other in cache.glob(f".{target.name}.*"):  # left by killed processes; young ones may be in use
                    if other != folder and time.time() - other.stat().st_mtime > _STALE_S:
                        shutil.rmtree(other, ignore_errors=True)
                write(folder, on_step)
        return target


def write(folder: Path, on_step: OnStep = ignore_step) -> None:
    """Write all images and masks below `folder`, in MVTec AD's layout."""
    plan = [
        (category, split, kind, number)
        for category, (_, kinds) in CATEGORIES.items()
        for split, kind, count in [("train", "good", TRAIN), ("test", "good", GOOD), *(("test", kind, EACH) for kind in kinds)]
        for number in range(count)
    ]
    for done, (category, split, kind, number) in enumerate(plan):
        on_step(done, len(plan), f"drawing {category}")
        image, mask = draw(category, split, kind, number)
        save_png(image, folder / category / split / kind / f"{number:03d}.png")
        if kind != "good":
            save_png(mask.astype(np.uint8) * 255, folder / category / "ground_truth" / kind / f"{number:03d}_mask.png")
    on_step(len(plan), len(plan), "drawn")


def draw(category: str, split: str, kind: str, number: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return one image (SIZE, SIZE, 3) uint8 and its mask (SIZE, SIZE), empty for kind "good".

    Invisible differences and specks are undone in the image, so that the mask covers every changed pixel.
    """
    rng = np.random.default_rng([VERSION, *(zlib.crc32(word.encode()) for word in (category, split, kind)), number])
    make, kinds = CATEGORIES[category]
    part = make(rng)
    brightness = light(rng)
    noise = 0.010 * rng.standard_normal((SIZE, SIZE, 3), np.float32)  # of the sensor: independent per color
    noise = noise + 0.008 * rng.standard_normal((SIZE, SIZE, 1), np.float32)  # common to all colors
    clean = photograph(part.image, brightness, noise)
    if kind == "good":
        return clean, np.zeros((SIZE, SIZE), bool)
    severity = (0.1, 0.45, 0.9)[number % 3] + rng.uniform(-0.1, 0.1)
    damaged = photograph(kinds[kind](part, rng, severity), brightness, noise)
    change = np.abs(clean.astype(np.int16) - damaged).max(axis=2) >= _LEAST_CHANGE
    mask = large_regions(binary_fill_holes(binary_closing(change, np.ones((3, 3)), iterations=2)), _LEAST_AREA)
    return np.where(mask[..., None], damaged, clean), mask


def _complete(folder: Path) -> bool:
    count = {"train": TRAIN, "test": GOOD + 4 * EACH, "ground_truth": 4 * EACH}
    return all(sum(1 for _ in (folder / c).glob(f"{s}/*/*.png")) == n for c in CATEGORIES for s, n in count.items())
