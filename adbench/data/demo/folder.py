"""Generated parts in a folder of the user's own: a dataset, and images that are in no dataset."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from adbench.core.errors import DataError
from adbench.core.registry import match
from adbench.data.demo.drawing import SIZE
from adbench.data.layouts.demo import CATEGORIES, draw
from adbench.data.writing import save_png, whole_folder
from adbench.types import OnStep, ignore_step


@dataclass(frozen=True)
class Counts:
    """Images per category: good ones to train on, good ones to test with, defective ones of each kind, and new ones."""

    train: int
    good: int
    defective: int
    new: int


class _Drawing(NamedTuple):
    """What `draw` takes, and where the image and, for a labeled defect, its mask are written."""

    category: str
    split: str
    kind: str
    number: int
    image: str
    mask: str = ""


def write_demo(
    out: Path, names: Sequence[str], counts: Counts, side: int = SIZE, on_step: OnStep = ignore_step
) -> dict[str, Any]:  # fmt: skip
    """Write generated images of `side` pixels below the new folder `out`, and return a summary.

    - parts/CATEGORY: a dataset in MVTec AD's layout. As far as counts and side are the same, its files are those of `demo`.
    - new/CATEGORY: `counts.new` images without a place in that dataset, every second one defective; the file's name says how.
    - more_good/CATEGORY: as many good ones.

    names: the categories, all if there are none. The folder appears when it is complete. Raises UsageError for an unknown
    category, DataError if `out` exists or cannot be written.
    """
    chosen = list(dict.fromkeys(match("category", name, CATEGORIES, where=" of the generated parts") for name in names))
    if out.exists():
        raise DataError(f"--out {out}: exists already; name a new folder, or delete this one")
    plan = [drawing for category in chosen or CATEGORIES for drawing in _plan(category, counts)]
    with whole_folder(out, unless=out.exists) as folder:
        for done, drawing in enumerate(plan):
            on_step(done, len(plan), f"drawing {drawing.category}")
            _write(drawing, folder, side)
    on_step(len(plan), len(plan), "drawn")
    images = {kind: str(out / kind) for kind in ("parts", "new", "more_good")}
    categories = {
        name: asdict(counts) | {"defective": counts.defective * len(CATEGORIES[name][1])} for name in chosen or CATEGORIES
    }
    return images | {"side": side, "categories": categories}


def _plan(category: str, counts: Counts) -> Iterator[_Drawing]:
    kinds = list(CATEGORIES[category][1])
    labeled = [("train", "good", counts.train), ("test", "good", counts.good)]
    for split, kind, count in [*labeled, *(("test", kind, counts.defective) for kind in kinds)]:
        for number in range(count):
            image = f"parts/{category}/{split}/{kind}/{number:03d}.png"
            mask = "" if kind == "good" else f"parts/{category}/ground_truth/{kind}/{number:03d}_mask.png"
            yield _Drawing(category, split, kind, number, image, mask)
    for number in range(counts.new):
        kind = kinds[number // 2 % len(kinds)] if number % 2 else "good"
        yield _Drawing(category, "new", kind, number, f"new/{category}/{number:03d}_{kind}.png")
        yield _Drawing(category, "more_good", "good", number, f"more_good/{category}/{number:03d}.png")


def _write(drawing: _Drawing, folder: Path, side: int) -> None:
    image, mask = draw(*drawing[:4])
    shape = (side, side)
    save_png(np.asarray(Image.fromarray(image).resize(shape, Image.Resampling.BICUBIC)), folder / drawing.image)
    if drawing.mask:
        white = Image.fromarray(mask.astype(np.uint8) * 255)
        save_png(np.asarray(white.resize(shape, Image.Resampling.NEAREST)), folder / drawing.mask)
