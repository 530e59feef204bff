"""Metrics by kind of defect and by size of defect, beside those of the whole test set.

A kind is measured against all good images: false positives are theirs and those on the good pixels of its own images.
A size is the side sqrt(area) of an 8-connected region, relative to the side of the layer's receptive field: small below a
quarter (the layer sees it with much around it), large above the whole (the layer never sees it at once), medium between.
Regions of a size are measured against the good pixels of all images; an image has the size of its largest region.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adbench.metrics import Regions
from adbench.metrics.parts import Part, evaluate_parts, pixels_of
from adbench.types import Masks, Sample, Scores, Truth

SIZES = ("small", "medium", "large")
LIMITS = (0.25, 1.0)  # sides, relative to the receptive field's: small below the first, large above the second
_DIGITS = 6


def evaluate_broken_down(
    scores: Scores, truth: Truth, pro_limit: float, regions: Regions | None, samples: Sequence[Sample],
    relative_field: float | None,
) -> tuple[dict[str, float | None], dict[str, Any]]:  # fmt: skip
    """Return the metrics of all N images, and `by_defect` and `by_size`: {kind or size: counts and the seven metrics}.

    `samples` are the images; without `relative_field`, receptive field / image size, or without masks there are no sizes.
    """
    kinds = sorted({sample.defect for sample in samples if sample.anomalous})
    groups = np.array([1 + kinds.index(s.defect) if s.anomalous else 0 for s in samples], dtype=np.int64)
    counted = {("by_defect", kind): _kind(truth, groups, i) for i, kind in enumerate(kinds, start=1)}
    if truth.masks is not None and regions is not None and relative_field:
        counted |= {("by_size", size): part for size, part in _sizes(truth.masks, regions, groups, relative_field)}
    chosen = {name: part for name, (part, _) in counted.items()}
    metrics, parts = evaluate_parts(scores, truth, pro_limit, regions, groups, chosen)
    details: dict[str, Any] = {}
    for (table, name), values in parts.items():
        rounded = {metric: None if v is None else round(v, _DIGITS) for metric, v in values.items()}
        details.setdefault(table, {})[name] = counted[table, name][1] | rounded
    return metrics, details


def _kind(truth: Truth, groups: NDArray[np.int64], number: int) -> tuple[Part, dict[str, int]]:
    """The images of one kind with all good ones, and how many it has."""
    own, all_groups = groups == number, np.arange(groups.max() + 1)
    pixels = np.zeros(0, bool) if truth.masks is None else pixels_of(own, truth.masks)
    part = Part((groups == 0) | own, (all_groups == 0) | (all_groups == number), pixels)
    return part, {"images": int(own.sum())}


def _sizes(
    masks: Masks, regions: Regions, groups: NDArray[np.int64], relative_field: float
) -> Iterator[tuple[str, tuple[Part, dict[str, int]]]]:
    """Yield each size that occurs, with what counts for it, and how many images and regions have it."""
    pixels, images = classes(masks, regions, relative_field)
    for i in np.unique(pixels).tolist():
        part = Part((groups == 0) | (images == i), np.ones(groups.max() + 1, bool), pixels == i)
        number = int(regions.weights[pixels == i].sum().round())  # each region's pixels weigh 1 together
        yield SIZES[i], (part, {"images": int((images == i).sum()), "regions": number})


def classes(masks: Masks, regions: Regions, relative_field: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the size, as an index into `SIZES`, of each defective pixel's region (M,) and of each image (N,), -1 = none."""
    areas = np.concatenate([np.full(np.count_nonzero(mask), np.size(mask)) for mask in masks])
    sides = np.sqrt(1 / regions.weights / areas) / relative_field
    pixels = np.digitize(sides, LIMITS)
    ends = np.cumsum([np.count_nonzero(mask) for mask in masks])
    own = np.split(pixels, ends[:-1])
    return pixels, np.array([part.max(initial=-1) for part in own], dtype=np.int64)
