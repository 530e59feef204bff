"""Metrics of parts of the test images, e.g. of one kind of defect. As exact as those of the whole, from the same one sort.

Good pixels are counted between the sorted defective ones group by group. The whole's count is the sum over all groups, a
part's the sum over its own; so the parts cost little beside the whole, and the whole's metrics are the same bits as
`evaluate`'s. No metric is registered here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from adbench.metrics import ORDER, Case, Regions, image_curves, measure, reasons
from adbench.metrics.counting import count_below
from adbench.metrics.curves import Curves
from adbench.metrics.inputs import Selected, check, defective_pixels, good_pixels
from adbench.types import Maps, Masks, Scores, Truth

Chosen = NDArray[np.bool_]
Metrics = dict[str, float | None]
Name = TypeVar("Name")


@dataclass(frozen=True)
class Part:
    """What counts of N images in G groups with M defective pixels (image by image, as `Regions.weights`).

    images: (N,), for image metrics. groups: (G,), whose good pixels count. pixels: (M,), the defective ones that count.
    """

    images: Chosen
    groups: Chosen
    pixels: Chosen


def evaluate_parts(
    scores: Scores, truth: Truth, pro_limit: float, regions: Regions | None, groups: NDArray[np.int64],
    parts: Mapping[Name, Part],
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


def _metrics(scores: Scores, truth: Truth, pro_limit: float, ranks: "_Ranks | None", part: Part) -> Metrics:
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
