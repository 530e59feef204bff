"""Synthetic defects written as a dataset in MVTec AD's layout, with a manifest of how it was made. It registers nothing."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from adbench import __version__
from adbench.errors import DataError, UsageError
from adbench.files import unwritable
from adbench.synthetic.contact_sheet import ContactSheet
from adbench.synthetic.foreground import learn_foreground
from adbench.synthetic.generation import Maker, Recipe, SyntheticImage
from adbench.synthetic.parts import Parts
from adbench.types import Category, OnStep, Sample, ignore_step

MANIFEST = "synthetic.json"


@dataclass(frozen=True)
class Order:
    """What to make: `count` defective images, on the share `hold_out` of the good images; the rest is for training.

    Raises UsageError for a count below 1 or a share outside (0, 1).
    """

    recipe: Recipe
    count: int = 100
    seed: int = 0
    hold_out: float = 0.25

    def __post_init__(self) -> None:
        if self.count < 1:
            raise UsageError(f"--count {self.count}: give 1 or more")
        if not 0 < self.hold_out < 1:
            raise UsageError(f"--hold-out {self.hold_out:g}: give a fraction above 0, below 1")


def write_dataset(
    category: Category, out: Path, order: Order, contact_sheet: Path | None = None, on_step: OnStep = ignore_step
) -> dict[str, Any]:
    """Write OUT/CATEGORY and return what is in it. Only training images are read.

    train/good and test/good: byte copies of the images that are not, and are, held out. test/KIND/NNN.png and
    ground_truth/KIND/NNN_mask.png: defects on held-out images, so that no detector has seen what lies around them.
    synthetic.json: seeds, options, and the source, kind and size of each. The folder appears when it is whole. An
    earlier one that this function wrote is replaced; DataError for any other, and for fewer than two good images.
    """
    train, held_out = _split(category, order)
    target = out / category.name
    maker = Maker(Parts(held_out, learn_foreground(category.train, on_step)), order.recipe, order.seed)
    sheet = ContactSheet()
    with _whole_folder(target) as folder:
        _copy(train, folder / "train" / "good")
        _copy(held_out, folder / "test" / "good")
        defects = []
        for index in range(order.count):
            defects.append(_write(maker.make(index), folder, sheet))
            on_step(index + 1, order.count, "painting defects")
        manifest = {
            "adbench": __version__,
            "category": category.name,
            **asdict(order),
            "foreground": "object" if maker.parts.foreground.object else "texture",
            "train": [sample.name for sample in train],
            "good": [sample.name for sample in held_out],
            "defects": defects,
        }
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    if contact_sheet:
        sheet.save(contact_sheet)
    return _summary(target, manifest, contact_sheet)


def _split(category: Category, order: Order) -> tuple[list[Sample], list[Sample]]:
    """Return the samples to train on and those held out, at least one of each, in their own order."""
    samples = category.train
    if len(samples) < 2:
        raise DataError(f"category '{category.name}' has 1 good image; one to train on and one to paint on are needed")
    count = min(max(round(order.hold_out * len(samples)), 1), len(samples) - 1)
    chosen = set(np.random.default_rng([order.seed, 2]).permutation(len(samples))[:count].tolist())
    return [s for k, s in enumerate(samples) if k not in chosen], [s for k, s in enumerate(samples) if k in chosen]


@contextmanager
def _whole_folder(target: Path) -> Iterator[Path]:
    """Yield a folder beside `target` that takes its place at the end, and is removed after an error."""
    if target.exists() and not (target / MANIFEST).is_file():
        raise DataError(f"{target} is there and was not made by 'adbench synth'; choose another --out")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
        try:
            yield folder
            folder.chmod(0o755)
            shutil.rmtree(target, ignore_errors=True)
            os.replace(folder, target)  # noqa: PTH105
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        raise unwritable(target, error) from error


def _copy(samples: Sequence[Sample], folder: Path) -> None:
    folder.mkdir(parents=True)
    for sample in samples:
        shutil.copyfile(sample.path, folder / sample.path.name)


def _write(made: SyntheticImage, folder: Path, sheet: ContactSheet) -> dict[str, Any]:
    """Write image and mask, show them to the sheet, and return their line of the manifest."""
    image = f"test/{made.kind}/{made.index:03d}.png"
    mask = f"ground_truth/{made.kind}/{made.index:03d}_mask.png"
    for name, pixels in ((image, made.image), (mask, made.mask.astype(np.uint8) * 255)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / name, compress_level=1)
    sheet.add(made)
    facts = {"kind": made.kind, "source": made.source.name, "seed": [made.seed, made.index]}
    return {"image": image, "mask": mask, **facts, "size_px": round(made.size_px, 1), "area_px": int(made.mask.sum())}


def _summary(target: Path, manifest: dict[str, Any], contact_sheet: Path | None) -> dict[str, Any]:
    sizes = [defect["size_px"] for defect in manifest["defects"]]
    kinds = Counter(defect["kind"] for defect in manifest["defects"])
    return {
        "out": str(target),
        "category": manifest["category"],
        "foreground": manifest["foreground"],
        "train": len(manifest["train"]),
        "good": len(manifest["good"]),
        "defects": dict(sorted(kinds.items())),
        "size_px": {"min": min(sizes), "median": float(np.median(sizes)), "max": max(sizes)},
        "contact_sheet": str(contact_sheet) if contact_sheet else None,
    }
