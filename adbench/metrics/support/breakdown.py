"""Metrics by kind of defect and by size of defect, beside those of the whole test set.

A kind is measured against all good images: false positives are theirs and those on the good pixels of its own images.
A size is the side sqrt(area) of an 8-connected region as a fraction of the image's side, sqrt(height x width): the classes are
the same for all layers, image sizes and evaluation grids. Regions of a size are measured against the good pixels of all images;
an image has the size of its largest region.

`found` is the share of the images of a kind or size whose score is above a threshold that at most 1 % of the good test images
exceed. The threshold is chosen on these good images themselves; with fewer than 100 of them, none exceeds it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from adbench.metrics import Case, Regions, measure, whole_case
from adbench.metrics.support.curves import Chosen, image_curves, rank_pixels
from adbench.metrics.support.inputs import check, select
from adbench.metrics.support.saturation import kind_groups
from adbench.types import Masks, OnStep, Sample, Scores, Truth, ignore_step

LIMITS = (1 / 64, 1 / 32, 1 / 16, 1 / 8)  # of a region's side, relative to the image's
SIZES = ("below 1/64", "1/64 to 1/32", "1/32 to 1/16", "1/16 to 1/8", "above 1/8")
FALSE_ALARMS = 0.01  # the share of good images above the threshold behind `found`
KIND = "by_defect"  # name of the table by kind
_DIGITS = 6


class _Part(NamedTuple):
    """A kind or size of defect, and what counts for it of N images in G groups with M defective pixels.

    images: (N,), for image metrics. groups: (G,), whose good pixels count. pixels: (M,), the defective ones that count, in the
    order of `Regions.weights`. counts: how many images and regions it has.
    """

    table: str
    name: str
    images: Chosen
    groups: Chosen
    pixels: Chosen
    counts: dict[str, int]


def evaluate_broken_down(
    scores: Scores, truth: Truth, pro_limit: float, regions: Regions | None, samples: Sequence[Sample],
    on_step: OnStep = ignore_step,
) -> tuple[dict[str, float | None], dict[str, Any]]:  # fmt: skip
    """Return `evaluate`'s metrics of all N images, and `by_defect` and `by_side`: {kind or size: counts and metrics}.

    `samples` are the images, `regions` those of the masks. Sizes need masks.
    Raises ValueError if shapes do not match or a score is NaN.
    """
    check(scores, truth)
    truth = replace(truth, kinds=[sample.defect for sample in samples])
    kinds, groups = kind_groups(truth)
    parts = list(_kinds(kinds, truth, groups))
    if truth.masks is not None and regions is not None:
        parts += _sizes(truth.masks, regions, groups)
    threshold = good_threshold(scores, truth)
    ranking = rank_pixels(scores, truth, regions, groups)
    whole = whole_case(scores, truth, pro_limit, ranking)
    details: dict[str, Any] = {}
    for number, part in enumerate(parts):
        on_step(number, len(parts), "metrics")
        own, own_images = select(scores, truth, np.flatnonzero(part.images)), np.flatnonzero(part.images & truth.anomalous)
        pixel = ranking.curves(part.pixels, part.groups) if ranking else None
        anomalous = ranking.curves(part.pixels, part.groups & (np.arange(ranking.groups) > 0)) if ranking else None
        pimo = None if whole.pimo is None else whole.pimo[part.images]
        saturated = {name: curves for name, curves in whole.saturated.items() if part.table == KIND and name == part.name}
        metrics = measure(Case(*own, pro_limit, image_curves(*own), pixel, pimo, saturated, anomalous))
        rounded = {name: None if value is None else round(value, _DIGITS) for name, value in metrics.items()}
        found = {"found": round(float((scores.image[own_images] > threshold).mean()), _DIGITS)} if own_images.size else {}
        details.setdefault(part.table, {})[part.name] = part.counts | found | rounded
    return measure(whole), details


def _kinds(kinds: Sequence[str], truth: Truth, groups: NDArray[np.int64]) -> Iterator[_Part]:
    """Yield the part of each kind: its images, whose group is its number from 1 on, with all good ones."""
    counts = [0] * len(groups) if truth.masks is None else _pixels(truth.masks)
    for number, kind in enumerate(kinds, start=1):
        own, against = groups == number, np.isin(np.arange(groups.max() + 1), (0, number))
        yield _Part(KIND, kind, (groups == 0) | own, against, np.repeat(own, counts), {"images": int(own.sum())})


def good_threshold(scores: Scores, truth: Truth) -> float:
    """Return the lowest image score that at most `FALSE_ALARMS` of the good images exceed; infinite without good images."""
    good = np.sort(scores.image[~truth.anomalous])[::-1]
    return float(good[int(FALSE_ALARMS * good.size)]) if good.size else float("inf")


def _sizes(masks: Masks, regions: Regions, groups: NDArray[np.int64]) -> Iterator[_Part]:
    """Yield the part of each size that occurs."""
    pixels, images = classes(masks, regions)
    for i in np.unique(pixels).tolist():
        own, inside, everywhere = images == i, pixels == i, np.ones(groups.max() + 1, bool)
        counts = {"images": int(own.sum()), "regions": int(regions.weights[inside].sum().round())}  # a region weighs 1
        yield _Part("by_side", SIZES[i], (groups == 0) | own, everywhere, inside, counts)


def classes(masks: Masks, regions: Regions) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the size, as an index into `SIZES`, of each defective pixel's region (M,) and of each image (N,), -1 = none."""
    counts = _pixels(masks)
    areas = np.repeat([np.size(mask) for mask in masks], counts)
    pixels = np.digitize(np.sqrt(1 / regions.weights / areas), LIMITS)
    own = np.split(pixels, np.cumsum(counts)[:-1])
    return pixels, np.array([part.max(initial=-1) for part in own], dtype=np.int64)


def _pixels(masks: Masks) -> list[int]:
    """Return the number of defective pixels of each mask."""
    return [int(np.count_nonzero(mask)) for mask in masks]
