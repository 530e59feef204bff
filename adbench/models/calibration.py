"""Good images held out from a fit, and the threshold that they set."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from adbench.core.errors import DataError, UsageError
from adbench.data.check import check_files, warn_of_remarks
from adbench.data.image_lists import find_images
from adbench.metrics.support.labels import CategoryInputs
from adbench.models.files import load_model, save_model
from adbench.models.prediction import Scorer
from adbench.models.thresholds import Threshold, check_rate, set_threshold
from adbench.pictures.overlays import smoothed
from adbench.sweep.workspace import Workspace
from adbench.types import Category, OnStep, Sample

log = logging.getLogger("adbench")


@dataclass(frozen=True)
class HoldOut:
    """The share of the good images to hold out from the fit, and the false-positive rate of the threshold that they set."""

    fpr: float
    share: float

    def __post_init__(self) -> None:
        check_rate(self.fpr)
        check_share(self.share)

    @staticmethod
    def wanted(fpr: float | None, share: float | None) -> HoldOut | None:
        """Return the hold-out that the options --fpr and --holdout ask for, or None without --fpr."""
        if fpr is not None:
            return HoldOut(fpr, 0.25 if share is None else share)
        if share is not None:
            raise UsageError("--holdout needs a false-positive rate; add e.g. --fpr 0.01")
        return None


def check_share(share: float) -> None:
    """Raise UsageError unless the share is strictly between 0 and 1."""
    if not 0 < share < 1:
        raise UsageError(f"--holdout {share:g}: the share of good images held out must be above 0 and below 1, e.g. 0.25")


def hold_out_images(inputs: CategoryInputs, share: float, seed: int) -> tuple[CategoryInputs, tuple[Sample, ...]]:
    """Return the inputs without the training images held out, and those held out, drawn at random by `seed`.

    Copies of an image are never split between both sides; of held-out copies one is kept. Raise DataError if all training
    images are copies of one.
    """
    category = inputs.category
    digests = [inputs.facts[sample.path].sha256 for sample in category.train]
    distinct = sorted(set(digests))
    if len(distinct) < 2:
        raise DataError(f"category '{category.name}' has one training image: none can be held out; add good images")
    count = min(max(1, round(share * len(distinct))), len(distinct) - 1)
    chosen = set(np.random.default_rng(seed).permutation(distinct)[:count].tolist())
    pairs = list(zip(digests, category.train, strict=True))
    held = {digest: sample for digest, sample in pairs if digest in chosen}
    rest = tuple(sample for digest, sample in pairs if digest not in chosen)
    return CategoryInputs(replace(category, train=rest), inputs.facts), tuple(held.values())


def calibrate(scorer: Scorer, paths: Sequence[Path], fpr: float, on_step: OnStep) -> Threshold:
    """Return the threshold for a false-positive rate from good images that the detector was not fitted to.

    Log a warning if there are too few images for that rate.
    """
    found: list[tuple[float, float, float]] = []
    for scores in scorer.score(paths, on_step):
        maps = smoothed(np.asarray(scores.maps), scorer.detector.smoothing)
        found += zip(scores.image.tolist(), maps.max(axis=(1, 2)).tolist(), np.median(maps, axis=(1, 2)).tolist(), strict=True)
    images, highest, medians = zip(*found, strict=True)
    threshold = set_threshold(images, highest, float(np.median(medians)), fpr)
    if threshold.shortfall:
        log.warning("%s", threshold.shortfall)
    return threshold


def recalibrate(workspace: Workspace, file: Path, sources: Sequence[Path], fpr: float) -> dict[str, Any]:
    """Set the threshold of the model in `file` from good images, write it there, and return it.

    Raise UsageError if the model was fitted to one of the images, DataError for one that cannot be read.
    """
    check_rate(fpr)
    model, images = load_model(file), find_images(sources)
    samples = tuple(Sample(image.path, str(image.name)) for image in images)
    category = Category("", "", samples, ())
    facts = check_files([category], workspace.cache / "files.json", workspace.on_step)
    warn_of_remarks(category, facts)
    fitted = set(model.fitted)
    seen = [sample.path for sample in samples if facts[sample.path].sha256 in fitted]
    if seen:
        raise UsageError(
            f"threshold: {file} was fitted to {len(seen)} of these {len(samples)} images, e.g. {seen[0]}, so their scores "
            "are too low; give good images that it has not seen"
        )
    distinct = {facts[sample.path].sha256: sample.path for sample in samples}
    threshold = calibrate(Scorer.of(model, file, workspace), list(distinct.values()), fpr, workspace.on_step)
    save_model(file, replace(model, threshold=threshold))
    return {"model": str(file), "threshold": threshold.record()}
