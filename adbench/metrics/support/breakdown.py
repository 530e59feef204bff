"""Metrics by kind of defect and by size of defect, beside those of the whole test set.

A kind is measured against all good images: false positives are theirs and those on the good pixels of its own images.
A size is the side sqrt(area) of an 8-connected region, relative to the side of the layer's receptive field: small below a
quarter (the layer sees it with much around it), large above the whole (the layer never sees it at once), medium between.
Regions of a size are measured against the good pixels of all images; an image has the size of its largest region.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from adbench.metrics import ORDER, Case, Regions, image_curves, measure, reasons
from adbench.metrics.support.checks import Selected, check, defective_pixels, good_pixels
from adbench.metrics.support.counting import count_below
from adbench.metrics.support.curves import Curves
from adbench.types import Maps, Masks, Sample, Scores, Truth

Chosen = NDArray[np.bool_]
Metrics = dict[str, float | None]
Name = TypeVar("Name")


@dataclass(frozen=True)
class Subset:
    """What counts of N images in G groups with M defective pixels (image by image, as `Regions.weights`).

    images: (N,), for image metrics. groups: (G,), whose good pixels count. pixels: (M,), the defective ones that count.
    """

    images: Chosen
    groups: Chosen
    pixels: Chosen


def evaluate_subsets(
    scores: Scores, truth: Truth, pro_limit: float, regions: Regions | None, groups: NDArray[np.int64],
    parts: Mapping[Name, Subset],
) -> tuple[Metrics, dict[Name, Metrics]]:  # fmt: skip
    """Return `evaluate`'s metrics of all images, and those of `ORDER` for each part; `groups` (N,) are from 0 to G - 1.

    `regions` are those of the masks. Raises ValueError if shapes do not match or a score is NaN.
    """
    check(scores, truth)
    undefined = reasons(truth)
    ranks = None
    if "pixel" not in undefined:
        assert truth.masks is not None and regions is not None  # noqa: S101  otherwise `reasons` has said so
        ranks = _Ranks(scores.maps, truth.masks, regions, groups)
    image = None if "image" in undefined else image_curves(scores, truth)
    whole = measure(Case(scores, truth, pro_limit, image, ranks.curves() if ranks else None))
    return whole, {name: _metrics(scores, truth, pro_limit, ranks, part) for name, part in parts.items()}


def _metrics(scores: Scores, truth: Truth, pro_limit: float, ranks: _Ranks | None, part: Subset) -> Metrics:
    chosen = np.flatnonzero(part.images).tolist()
    anomalous = truth.anomalous[chosen]
    own = Scores(scores.image[chosen], Selected(scores.maps, chosen))
    labels = Truth(anomalous, None if truth.masks is None else Selected(truth.masks, chosen))
    image = image_curves(own, labels) if anomalous.any() and not anomalous.all() else None
    pixel = ranks.curves(part.pixels, part.groups) if ranks else None
    return measure(Case(own, labels, pro_limit, image, pixel), ORDER)


class _Ranks:
    """The defective pixels in order of their scores, and how many good ones of each group lie below each."""

    def __init__(self, maps: Maps, masks: Masks, regions: Regions, groups: NDArray[np.int64]) -> None:
        defective = defective_pixels(maps, masks)
        if len(defective) != len(regions.weights):
            raise ValueError(f"regions cover {len(regions.weights)} defective pixels, the masks have {len(defective)}")
        self._order = np.argsort(defective)
        ranked = defective[self._order]
        new = _starts(ranked)
        self._rank, self._weights = np.cumsum(new) - 1, regions.weights[self._order]
        found = []
        pixels = sum(np.size(mask) for mask in masks)  # as fine bins for a small group as for all: less is left to sort
        for group in range(groups.max() + 1):
            chosen = np.flatnonzero(groups == group).tolist()
            good, total = good_pixels(Selected(maps, chosen), Selected(masks, chosen), ranked.dtype)
            found.append((*count_below(good, ranked[new], pixels), total))
        self._below, self._not_above, self._good = (np.array(column) for column in zip(*found, strict=True))

    def curves(self, pixels: Chosen | None = None, groups: Chosen | None = None) -> Curves | None:
        """Return the curves of the chosen defective pixels against the good pixels of the chosen groups; None = all.

        None if there is no such defective or no such good pixel.
        """
        chosen = slice(None) if pixels is None else pixels[self._order]
        own = slice(None) if groups is None else groups
        rank, good = self._rank[chosen], int(self._good[own].sum())
        if not rank.size or not good:
            return None
        first = np.flatnonzero(_starts(rank))
        overlap = np.cumsum(self._weights[chosen][::-1])[::-1][first]
        return Curves(
            false_above=(good - self._not_above[own].sum(axis=0)[rank[first]])[::-1],
            false_at=(good - self._below[own].sum(axis=0)[rank[first]])[::-1],
            true_at=(rank.size - first)[::-1],
            weight_at=(overlap / overlap[0])[::-1],
            good=good,
            anomalous=rank.size,
        )


def _starts(ranked: NDArray[Any]) -> Chosen:
    """Return which values of an ascending array differ from the one before."""
    return np.concatenate(([True], ranked[1:] != ranked[:-1])) if ranked.size else np.zeros(0, dtype=bool)


def pixels_of(images: Sequence[bool] | Chosen, masks: Masks) -> Chosen:
    """Return which of the M defective pixels lie in the chosen of N images: (M,)."""
    return np.repeat(np.asarray(images), [np.count_nonzero(mask) for mask in masks])


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
    metrics, parts = evaluate_subsets(scores, truth, pro_limit, regions, groups, chosen)
    details: dict[str, Any] = {}
    for (table, name), values in parts.items():
        rounded = {metric: None if v is None else round(v, _DIGITS) for metric, v in values.items()}
        details.setdefault(table, {})[name] = counted[table, name][1] | rounded
    return metrics, details


def _kind(truth: Truth, groups: NDArray[np.int64], number: int) -> tuple[Subset, dict[str, int]]:
    """The images of one kind with all good ones, and how many it has."""
    own, all_groups = groups == number, np.arange(groups.max() + 1)
    pixels = np.zeros(0, bool) if truth.masks is None else pixels_of(own, truth.masks)
    part = Subset((groups == 0) | own, (all_groups == 0) | (all_groups == number), pixels)
    return part, {"images": int(own.sum())}


def _sizes(
    masks: Masks, regions: Regions, groups: NDArray[np.int64], relative_field: float
) -> Iterator[tuple[str, tuple[Subset, dict[str, int]]]]:
    """Yield each size that occurs, with what counts for it, and how many images and regions have it."""
    pixels, images = classes(masks, regions, relative_field)
    for i in np.unique(pixels).tolist():
        part = Subset((groups == 0) | (images == i), np.ones(groups.max() + 1, bool), pixels == i)
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
