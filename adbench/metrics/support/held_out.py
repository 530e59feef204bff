"""Good images that no fit sees: they set thresholds, or become validation data."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from adbench.core.errors import DataError
from adbench.data.shots import shortage
from adbench.metrics.support.labels import CategoryInputs
from adbench.types import Job, Sample, Shots

SHARE = 0.25  # of the training images, where a dataset has no validation images


def hold_out_images(inputs: CategoryInputs, share: float, seed: int) -> tuple[CategoryInputs, tuple[Sample, ...]]:
    """Return the inputs without the training images held out, and those held out, drawn at random by `seed`.

    Copies of an image are never split between both sides; of held-out copies one is kept. Raise DataError if all training
    images are copies of one.
    """
    distinct = distinct_images(inputs)
    if len(distinct) < 2:
        raise DataError(f"category '{inputs.category.name}' has one training image: none can be held out; add good images")
    count = min(max(1, round(share * len(distinct))), len(distinct) - 1)
    return without_images(inputs, np.random.default_rng(seed).permutation(distinct)[:count].tolist())


def for_thresholds(
    inputs: CategoryInputs, seed: int, share: float | None = None
) -> tuple[CategoryInputs, tuple[Sample, ...], str]:
    """Return the inputs to fit to, the held-out images that set a threshold, each once, and the split that these are in.

    They are the dataset's validation images, without copies of training images, if it has any; else, or with a `share`, that
    share of the training images, by default a quarter.
    """
    validation = {inputs.facts[sample.path].sha256: sample for sample in reversed(inputs.split("validation"))}
    own = set(distinct_images(inputs))
    if share is None and (fresh := tuple(sample for digest, sample in reversed(validation.items()) if digest not in own)):
        return inputs, fresh, "validation"
    return *hold_out_images(inputs, SHARE if share is None else share, seed), "train"


def fitted_to(inputs: CategoryInputs, job: Job) -> CategoryInputs:
    """Return the inputs with the training images among which a job's shots are drawn."""
    return for_thresholds(inputs, job.seed)[0] if job.thresholds else inputs


def shots_shortage(inputs: CategoryInputs, shots: Shots, held_out: bool, seed: int) -> str | None:
    """Return why a category has too few training images for so many shots, or None; `held_out`: if some set thresholds."""
    if short := shortage(inputs.category, shots):
        return short
    if not held_out or len(distinct_images(inputs)) < 2:
        return None
    rest = for_thresholds(inputs, seed)[0].category
    return shortage(rest, shots, len(inputs.category.train) - len(rest.train))


def distinct_images(inputs: CategoryInputs) -> list[str]:
    """Return the SHA-256 of the training images, in order, copies once."""
    return sorted({inputs.facts[sample.path].sha256 for sample in inputs.category.train})


def without_images(inputs: CategoryInputs, digests: Iterable[str]) -> tuple[CategoryInputs, tuple[Sample, ...]]:
    """Return the inputs without the training images of these SHA-256, and those images, copies once."""
    chosen, category = set(digests), inputs.category
    pairs = [(inputs.facts[sample.path].sha256, sample) for sample in category.train]
    held = {digest: sample for digest, sample in pairs if digest in chosen}
    rest = tuple(sample for digest, sample in pairs if digest not in chosen)
    return CategoryInputs(replace(category, train=rest), inputs.facts), tuple(held.values())
