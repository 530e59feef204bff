"""Validation images from good images alone: some are held out, and synthetic defects are painted on copies of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from adbench.core.errors import DataError, UsageError
from adbench.core.files import replacing, write_text
from adbench.data.check import check_files, split_fingerprint
from adbench.data.images import Range, White
from adbench.data.synthetic.generation import Recipe, make_defects
from adbench.data.synthetic.kinds import REVISION
from adbench.metrics.support.held_out import distinct_images, hold_out_images, without_images
from adbench.metrics.support.labels import CategoryInputs
from adbench.models.calibration import check_share
from adbench.types import OnStep, Sample, digest, ignore_step

LEAST_IMAGES = 10
_MOST_HELD_OUT = 60  # more would cost time and hardly narrow an interval
_MOST_RESERVED = 99  # enough for a false-positive rate of 0.01


@dataclass(frozen=True)
class ValidationRecipe:
    """How validation images are made: the share of the good images to hold out, the number of defects, and their recipe.

    reserve: the share of the good images that take no part, so that a threshold can be set on them. None: a quarter, at most as
    many as a false-positive rate of 0.01 needs.
    """

    share: float = 0.25
    defects: int = 60
    recipe: Recipe = field(default_factory=Recipe)
    reserve: float | None = None

    def __post_init__(self) -> None:
        check_share(self.share)
        if self.reserve is not None and not 0 <= self.reserve < 1 - self.share:
            raise UsageError(
                f"--reserve {self.reserve:g}: the share of good images kept for a threshold must be at least 0 and below "
                f"{1 - self.share:g}, since --holdout takes {self.share:g}"
            )

    def reserved(self, images: int) -> int:
        """Return how many of so many good images take no part; two are always left."""
        wanted = min(round(images / 4), _MOST_RESERVED) if self.reserve is None else round(self.reserve * images)
        return max(0, min(wanted, images - 2))


@dataclass(frozen=True)
class Validation:
    """A category whose test images are the held-out good images, then synthetic images made of them.

    sizes: of each defect, as a fraction of the image's side. reserved: SHA-256 of the good images that take no part.
    """

    inputs: CategoryInputs
    sizes: tuple[float, ...]
    seed: int = 0
    reserved: tuple[str, ...] = ()

    @property
    def images(self) -> dict[str, list[str]]:
        """The SHA-256 of the good images that the candidates are fitted to, that they are scored on, and that take no part."""
        category, facts = self.inputs.category, self.inputs.facts
        parts = {"fit": category.train, "validation": category.test[: self.held_out]}
        found = {name: sorted({facts[sample.path].sha256 for sample in part}) for name, part in parts.items()}
        return found | {"reserved": list(self.reserved)}

    @property
    def held_out(self) -> int:
        """How many good images are held out."""
        return len(self.inputs.category.test) - len(self.sizes)

    def subset(self, share: float) -> Validation:
        """Return the validation with a random share of the training images, and all test images."""
        category = self.inputs.category
        count = max(1, round(share * len(category.train)))
        chosen = np.sort(np.random.default_rng(self.seed).permutation(len(category.train))[:count])
        smaller = replace(category, train=tuple(category.train[k] for k in chosen))
        return replace(self, inputs=CategoryInputs(smaller, self.inputs.facts, self.inputs.sources, self.inputs.reference))


def make_validation(
    good: CategoryInputs, holdout: ValidationRecipe, seed: int, cache: Path, on_step: OnStep = ignore_step,
    value_range: Range | None = None,
) -> Validation:  # fmt: skip
    """Return validation data made of a category's training images; the synthetic images are painted once, below `cache`.

    value_range: as in a View.

    Raise DataError if there are too few good images, or if no defect can be painted.
    """
    count = len(good.category.train)
    if count < LEAST_IMAGES:
        raise DataError(f"category '{good.category.name}' has {count} good training images; select needs {LEAST_IMAGES} or more")
    good, reserved = _reserve(good, holdout, seed)
    # of all images as many as the share says, but not more than defects: each is to get one
    wanted = min(holdout.share * count, _MOST_HELD_OUT, holdout.defects)
    rest, held = hold_out_images(good, wanted / len(good.category.train), seed)
    recipe = {name: value for name, value in asdict(holdout).items() if name != "reserve"}
    folder = cache / "synthetic" / digest([split_fingerprint(held, good.facts), recipe, seed, REVISION, *(value_range or ())])
    defects = _read_defects(folder) or _paint_defects(folder, held, holdout, seed, value_range or good.white, on_step)
    synthetic = (_sample(folder, defect) for defect in defects)
    category = replace(rest.category, dataset=f"{rest.category.dataset}+synthetic", test=(*held, *synthetic))
    facts = check_files([category], cache / "files.json", on_step)
    sources = (*range(len(held)), *(defect["source"] for defect in defects))
    inputs = CategoryInputs(category, facts, sources, good.category.train)
    return Validation(inputs, tuple(defect["size"] for defect in defects), seed, reserved)


def _reserve(good: CategoryInputs, holdout: ValidationRecipe, seed: int) -> tuple[CategoryInputs, tuple[str, ...]]:
    """Return the inputs without the images that take no part, and the SHA-256 of those.

    They are the first of the same permutation as in `train --holdout`: with the same seed it holds out none that the candidates
    were scored on, unless it holds out more than these.
    """
    distinct = distinct_images(good)
    chosen = np.random.default_rng(seed).permutation(distinct)[: holdout.reserved(len(distinct))].tolist()
    return without_images(good, chosen)[0], tuple(sorted(chosen))


def _sample(folder: Path, defect: dict[str, Any]) -> Sample:
    file = f"{defect['stem']}.png"
    return Sample(folder / "images" / file, f"synthetic/{file}", defect["kind"], (folder / "masks" / file,))


def _read_defects(folder: Path) -> list[dict[str, Any]] | None:
    """Return the list of the defects painted into `folder`, or None if anything is missing."""
    try:
        defects: list[dict[str, Any]] = json.loads((folder / "defects.json").read_text(encoding="utf-8"))
        files = [file for one in (_sample(folder, defect) for defect in defects) for file in (one.path, *(one.masks or ()))]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return defects if all(file.is_file() for file in files) else None


def _paint_defects(
    folder: Path, held: Sequence[Sample], holdout: ValidationRecipe, seed: int, white: White, on_step: OnStep
) -> list[dict[str, Any]]:
    """Paint the synthetic images and masks into `folder`, list them in defects.json once all are there, and return the list."""
    defects = []
    for made in make_defects(held, holdout.defects, seed, holdout.recipe, on_step, white):
        stem = f"{made.index:03d}-{made.kind}"
        for name, pixels in {"images": made.image, "masks": made.mask.astype(np.uint8) * 255}.items():
            with replacing(folder / name / f"{stem}.png") as temporary:
                Image.fromarray(pixels).save(temporary, format="PNG", compress_level=1)
        size = made.size_px / float(np.sqrt(made.mask.size))
        defects.append({"stem": stem, "kind": made.kind, "source": held.index(made.source), "size": size})
    write_text(folder / "defects.json", json.dumps(defects, indent=1))
    return defects
