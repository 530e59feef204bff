"""Synthetic defects written as a dataset in MVTec AD's layout, with a manifest of how it was made. It registers nothing."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from adbench import __version__
from adbench.core.errors import DataError, UsageError
from adbench.core.files import unwritable
from adbench.data.synthetic.foreground import learn_foreground
from adbench.data.synthetic.generation import Maker, Recipe, SyntheticImage
from adbench.data.synthetic.kinds import REVISION
from adbench.data.synthetic.parts import Parts
from adbench.types import Category, OnStep, Sample, ignore_step

MANIFEST = "synthetic.json"


def write_dataset(
    train: Category, held_out: Sequence[Sample], out: Path, recipe: Recipe, count: int, seed: int,
    show: Callable[[SyntheticImage], None], on_step: OnStep = ignore_step,
) -> dict[str, Any]:  # fmt: skip
    """Write OUT/CATEGORY with `count` defective images and return what is in it.

    train/good and test/good: byte copies of the training images of `train`, and of those held out. test/KIND/NNN.png and
    ground_truth/KIND/NNN_mask.png: defects on held-out images, so that no detector has seen what lies around them.
    synthetic.json: seeds, options, and the source, kind and size of each. The folder appears when it is whole. An
    earlier one that this function wrote is replaced. Each image is passed to `show`. Raises DataError for a folder of any
    other origin, UsageError for a count below 1.
    """
    if count < 1:
        raise UsageError(f"--count {count}: give 1 or more")
    maker = Maker(Parts(held_out, learn_foreground((*train.train, *held_out), on_step)), recipe, seed)
    target = out / train.name
    with _whole_folder(target) as folder:
        _copy(train.train, folder / "train" / "good")
        _copy(held_out, folder / "test" / "good")
        defects = []
        for index in range(count):
            defects.append(_write(made := maker.make(index), folder))
            show(made)
            on_step(index + 1, count, "painting defects")
        manifest = {
            "adbench": __version__,
            "revision": REVISION,
            "category": train.name,
            "foreground": "object" if maker.parts.foreground.object else "texture",
            "recipe": asdict(recipe),
            "seed": seed,
            "train": [sample.name for sample in train.train],
            "good": [sample.name for sample in held_out],
            "defects": defects,
        }
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    return _summary(target, manifest)


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
        target = folder / sample.path.name
        if target.exists():  # two folders of good images may use the same names
            target = folder / f"{sample.path.parent.name}_{sample.path.name}"
        shutil.copyfile(sample.path, target)


def _write(made: SyntheticImage, folder: Path) -> dict[str, Any]:
    """Write image and mask, and return their line of the manifest."""
    image = f"test/{made.kind}/{made.index:03d}.png"
    mask = f"ground_truth/{made.kind}/{made.index:03d}_mask.png"
    for name, pixels in ((image, made.image), (mask, made.mask.astype(np.uint8) * 255)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / name, compress_level=1)
    facts = {"kind": made.kind, "source": made.source.name, "seed": [made.seed, made.index]}
    return {"image": image, "mask": mask, **facts, "size_px": round(made.size_px, 1), "area_px": int(made.mask.sum())}


def _summary(target: Path, manifest: dict[str, Any]) -> dict[str, Any]:
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
    }
