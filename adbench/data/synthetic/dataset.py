"""Write synthetic defects as a dataset in MVTec AD's layout, with a manifest of how it was made."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from adbench import __version__
from adbench.core.errors import DataError, UsageError
from adbench.data.image_lists import unique_names
from adbench.data.images import White
from adbench.data.synthetic.foreground import learn_foreground
from adbench.data.synthetic.generation import Maker, Parts, Recipe, SyntheticImage
from adbench.data.synthetic.kinds import REVISION
from adbench.data.writing import MANIFEST, save_png, whole_folder
from adbench.types import Category, OnStep, Sample, ignore_step


def write_dataset(
    train: Category, held_out: Sequence[Sample], out: Path, recipe: Recipe, count: int, seed: int,
    show: Callable[[SyntheticImage], None], on_step: OnStep = ignore_step, replace: bool = False,
    white: White = 1.0,
) -> dict[str, Any]:  # fmt: skip
    """Write OUT/CATEGORY with `count` defective images and return a summary of its content.

    - train/good: byte copies of the training images of `train`; test/good: byte copies of the images of `held_out`.
    - test/KIND/NNN.png and ground_truth/KIND/NNN_mask.png: defects on held-out images, which no detector is trained on.
    - synthetic.json: seeds and options, and the source, kind and size of each defect.

    The folder appears when it is complete. Each image is passed to `show`. Raises UsageError for a count below 1, DataError if a
    folder is in the way, unless this function has written it and `replace` is true. white: see `data.images.read_levels`.
    """
    if count < 1:
        raise UsageError(f"--count {count}: give 1 or more")
    target = out / train.name
    if target.exists() and not (target / MANIFEST).is_file():
        raise DataError(f"{target} is there and was not made by 'adbench synth'; choose another --out")
    if target.exists() and not replace:
        raise DataError(f"{target} is there, from an earlier 'adbench synth'; add --force to replace it, or choose another --out")
    maker = Maker(Parts(held_out, learn_foreground((*train.train, *held_out), on_step, white), white), recipe, seed)
    with whole_folder(target) as folder:
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


def _copy(samples: Sequence[Sample], folder: Path) -> None:
    folder.mkdir(parents=True)
    taken: set[str] = set()
    names = []
    for sample in samples:  # two folders of good images may use the same names
        name = sample.path.name
        names.append(PurePath(f"{sample.path.parent.name}_{name}" if name in taken else name))
        taken.add(name)
    for sample, unique in zip(samples, unique_names(names), strict=True):
        shutil.copyfile(sample.path, folder / unique)


def _write(made: SyntheticImage, folder: Path) -> dict[str, Any]:
    """Write the image and its mask; return their entry in the manifest."""
    image = f"test/{made.kind}/{made.index:03d}.png"
    mask = f"ground_truth/{made.kind}/{made.index:03d}_mask.png"
    save_png(made.image, folder / image)
    save_png(made.mask.astype(np.uint8) * 255, folder / mask)
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
