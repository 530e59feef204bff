"""Good images held out from a fit, and the threshold that they give a model."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from adbench.core.environment import choose_device
from adbench.core.errors import DataError, UsageError
from adbench.data.check import Facts, check_files
from adbench.data.image_lists import find_images
from adbench.metrics.support.labels import CategoryInputs
from adbench.models.files import load_model, save_model
from adbench.models.prediction import Scorer
from adbench.models.thresholds import Threshold, check_rate
from adbench.sweep.workspace import Workspace
from adbench.types import Category, OnStep, Sample

log = logging.getLogger("adbench")


@dataclass(frozen=True)
class HoldOut:
    """How many good images are kept from the fit, as a share of them, and the false-positive rate to set by them."""

    fpr: float
    share: float = 0.25

    def __post_init__(self) -> None:
        check_rate(self.fpr)
        check_share(self.share)

    @staticmethod
    def wanted(fpr: float | None, share: float | None) -> HoldOut | None:
        """Return what the options --fpr and --holdout ask for, if anything."""
        if fpr is None:
            if share is not None:
                raise UsageError("--holdout: nothing is held out without a rate; add e.g. --fpr 0.01")
            return None
        return HoldOut(fpr) if share is None else HoldOut(fpr, share)

    def divide(self, inputs: CategoryInputs, seed: int) -> tuple[CategoryInputs, tuple[Sample, ...]]:
        """Return the inputs with fewer training images, and those held out; see `divide`."""
        return divide(inputs, self.share, seed)


def check_share(share: float) -> None:
    """Raise UsageError unless some images can be held out, and some not."""
    if not 0 < share < 1:
        raise UsageError(f"--holdout {share:g}: the share of good images held out must be above 0 and below 1, e.g. 0.25")


def divide(inputs: CategoryInputs, share: float, seed: int) -> tuple[CategoryInputs, tuple[Sample, ...]]:
    """Return the inputs with fewer training images, and those held out, drawn at random by `seed`.

    Images with the same content stay together, and count once among the held out. DataError if there is only one.
    """
    category, digests = inputs.category, _digests(inputs.category.train, inputs.facts)
    contents = sorted(set(digests))
    if len(contents) < 2:
        raise DataError(f"category '{category.name}' has one training image: none can be held out; add good images")
    count = min(max(1, round(share * len(contents))), len(contents) - 1)
    chosen = set(np.random.default_rng(seed).permutation(contents)[:count].tolist())
    pairs = list(zip(digests, category.train, strict=True))
    held = {digest: sample for digest, sample in pairs if digest in chosen}
    rest = tuple(sample for digest, sample in pairs if digest not in chosen)
    return CategoryInputs(replace(category, train=rest), inputs.facts), tuple(held.values())


def _digests(samples: Sequence[Sample], facts: Facts) -> list[str]:
    return [facts[sample.path].sha256 for sample in samples]


def fitted_digests(inputs: CategoryInputs) -> tuple[str, ...]:
    """Return the SHA-256 of each image that a model is fitted to, once, sorted."""
    return tuple(sorted(set(_digests(inputs.category.train, inputs.facts))))


def recalibrate(workspace: Workspace, file: Path, sources: Sequence[Path], fpr: float) -> dict[str, Any]:
    """Set the threshold of the model in `file` from good images, and write it there; return it.

    Raises UsageError if the model was fitted to one of the images, DataError for one that cannot be read.
    """
    check_rate(fpr)
    images, model = find_images(sources), load_model(file)
    samples = tuple(Sample(image.path, str(image.name)) for image in images)
    facts = check_files([Category("", "", samples, ())], workspace.cache / "files.json", workspace.on_step)
    seen = [sample.path for sample in samples if facts[sample.path].sha256 in set(model.fitted)]
    if seen:
        raise UsageError(
            f"threshold: {file} was fitted to {len(seen)} of these {len(samples)} images, e.g. {seen[0]}; their scores "
            "are too low: give good images that it has not seen"
        )
    scorer = Scorer(workspace.network_of(file, model.job), model.job, model.detector, choose_device(workspace.device))
    distinct = {facts[sample.path].sha256: sample.path for sample in samples}
    threshold = calibrate(scorer, list(distinct.values()), fpr, workspace.on_step)
    save_model(file, replace(model, threshold=threshold))
    return {"model": str(file), "threshold": threshold.record()}


def calibrate(scorer: Scorer, paths: Sequence[Path], fpr: float, on_step: OnStep) -> Threshold:
    """Return the threshold for a false-positive rate; a warning is logged if there are too few images for it."""
    threshold = scorer.threshold(paths, fpr, on_step)
    if threshold.shortfall:
        log.warning("%s", threshold.shortfall)
    return threshold
