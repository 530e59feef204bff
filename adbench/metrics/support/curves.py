"""The sorted curves that all metrics share: false and true positives at every distinct score of an anomalous item.

Every curve rises only at scores of anomalous items (images or pixels). So only those few are sorted with their weights;
the good ones, by far the most, are counted between them. Nothing is binned or sampled.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adbench.metrics.support.inputs import reasons
from adbench.metrics.support.regions import Regions, components
from adbench.types import Scores, Truth

Floats = NDArray[np.floating[Any]]
Counts = NDArray[np.int64]
Chosen = NDArray[np.bool_]
BLOCK = 1 << 22  # good scores that are sorted at a time: fewer need less memory, but every block is searched for all values


@dataclass(frozen=True)
class Curves:
    """Counts at the k distinct scores s of anomalous items, from the highest to the lowest; each (k,), k >= 1.

    An item is predicted anomalous at threshold s if its score is >= s; equal scores make one point.
    """

    false_above: Counts  # good items with a score > s
    false_at: Counts  # good items with a score >= s
    true_at: Counts  # anomalous items with a score >= s
    weight_at: NDArray[np.float64]  # their share of the weight of all: the per-region overlap, for pixels
    good: int  # number of good items, >= 1
    anomalous: int  # number of anomalous items, >= 1


def count_below(parts: Iterable[Floats], values: Floats) -> tuple[Counts, Counts, int]:
    """Return for each of the ascending distinct `values` (k,) how many scores are < it and how many are <= it, and of how many.

    parts: the scores in arrays of any length, no NaN. Infinite ones are in order.
    """
    below, not_above, total = np.zeros(values.size, np.int64), np.zeros(values.size, np.int64), 0
    for block in _blocks(parts, values.dtype):
        block.sort()
        total += block.size
        found = np.searchsorted(block, values)
        below += found
        equal = np.flatnonzero(block[np.minimum(found, block.size - 1)] == values)
        found[equal] = np.searchsorted(block, values[equal], side="right")
        not_above += found
    return below, not_above, total


def _blocks(parts: Iterable[Floats], dtype: np.dtype[Any]) -> Iterator[Floats]:
    """Yield copies of all scores in arrays of at least `BLOCK`, the last one shorter."""
    held, size = list[Floats](), 0
    for part in parts:
        held.append(part)
        size += part.size
        if size >= BLOCK:
            yield np.concatenate(held, dtype=dtype)
            held, size = [], 0
    if size:
        yield np.concatenate(held, dtype=dtype)


class Ranking:
    """The M anomalous items in order of their scores, and how many good items of each of G groups lie below each."""

    def __init__(self, anomalous: Floats, weights: NDArray[np.float64], good: Iterable[Iterable[Floats]]) -> None:
        """Rank scores `anomalous` (M,) with `weights` (M,) > 0 among the `good` scores of each group, arrays of any length."""
        self.anomalous = anomalous
        self._order = np.argsort(anomalous)
        ranked = anomalous[self._order]
        new = _starts(ranked)
        self._rank, self._weights = np.cumsum(new) - 1, weights[self._order]
        counted = [count_below(group, ranked[new]) for group in good]
        self._below, self._not_above, self._good = (np.array(column) for column in zip(*counted, strict=True))

    @property
    def groups(self) -> int:
        """The number G of groups."""
        return len(self._good)

    def curves(
        self, items: Chosen | None = None, groups: Chosen | None = None, weights: NDArray[np.float64] | None = None
    ) -> Curves | None:
        """Return the curves of the chosen anomalous items (M,) against the good items of the chosen groups (G,); None = all.

        weights: (M,) >= 0, instead of those that the items were ranked with. None if there is no such anomalous or no such
        good item.
        """
        chosen = slice(None) if items is None else items[self._order]
        own = slice(None) if groups is None else groups
        rank, good = self._rank[chosen], int(self._good[own].sum())
        if not rank.size or not good:
            return None
        first = np.flatnonzero(_starts(rank))
        own_weights = self._weights if weights is None else weights[self._order]
        overlap = np.cumsum(own_weights[chosen][::-1])[::-1][first]
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


def image_curves(scores: Scores, truth: Truth) -> Curves | None:
    """Return the curves of image scores, each image with weight 1; None without both good and anomalous images."""
    image, anomalous = np.asarray(scores.image), np.asarray(truth.anomalous, dtype=bool)
    return Ranking(_floats(image[anomalous]), np.ones(np.count_nonzero(anomalous)), [[image[~anomalous]]]).curves()


def rank_pixels(
    scores: Scores, truth: Truth, regions: Regions | None = None, groups: NDArray[np.int64] | None = None
) -> Ranking | None:
    """Return the ranking of all defective pixels, image by image; None where pixel metrics are undefined.

    A pixel's weight is 1 / size of its region; `regions` are those of the masks, computed if not given. groups: (N,), the
    group of each image's good pixels, 0 to G - 1. Good pixels are read image by image and never all in memory.
    """
    if truth.masks is None or "pixel" in reasons(truth):
        return None
    regions = regions or components(truth.masks)
    pixels = [np.asarray(m)[np.asarray(k, dtype=bool)] for m, k in zip(scores.maps, truth.masks, strict=True)]
    defective = _floats(np.concatenate(pixels))
    if len(defective) != len(regions.weights):
        raise ValueError(f"regions cover {len(regions.weights)} defective pixels, the masks have {len(defective)}")
    groups = np.zeros(len(pixels), dtype=np.int64) if groups is None else groups
    images = [np.flatnonzero(groups == group).tolist() for group in range(groups.max() + 1)]
    maps, masks = scores.maps, truth.masks
    good = ((np.asarray(maps[i])[~np.asarray(masks[i], dtype=bool)] for i in own) for own in images)
    return Ranking(defective, regions.weights, good)


def _floats(values: NDArray[Any]) -> Floats:
    """Return `values` as float32, or in the wider type that holds them."""
    return values.astype(np.result_type(np.float32, values), copy=False)
