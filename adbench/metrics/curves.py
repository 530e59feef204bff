"""The one sort that all metrics share: false and true positives at every distinct score of an anomalous item.

Every curve rises only at scores of anomalous items (images or pixels). So only those few are sorted with a payload;
the good ones, by far the most, are merely counted between them. Nothing is binned or sampled in the result.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Counts = NDArray[np.int64]

GOODS_PER_BIN = 6  # fewer bins exclude less, more no longer fit a CPU's cache
MAX_BINS, STEP = 1 << 22, 1 << 20


@dataclass(frozen=True)
class Curves:
    """Counts at the k distinct scores s of anomalous items, from the highest to the lowest; each (k,).

    An item is predicted anomalous at threshold s if its score is >= s; equal scores make one point.
    """

    false_above: Counts  # good items with a score > s
    false_at: Counts  # good items with a score >= s
    true_at: Counts  # anomalous items with a score >= s
    weight_at: NDArray[np.float64]  # their share of the weight of all: the per-region overlap, for pixels
    good: int  # items in all
    anomalous: int


def trace(good: Floats, anomalous: Floats, weights: NDArray[np.float64]) -> Curves:
    """Return the curves of `good` (n,) and `anomalous` (m,) scores, n, m >= 1, one dtype, no NaN; `weights` (m,) > 0.

    Infinite scores are in order. `good` may be overwritten: hand over a copy.
    """
    order = np.argsort(anomalous)
    ranked = anomalous[order]
    first = np.flatnonzero(np.concatenate(([True], ranked[1:] != ranked[:-1])))
    below, not_above = count_below(good, ranked[first])
    overlap = np.cumsum(weights[order][::-1])[::-1][first]
    return Curves(
        false_above=(good.size - not_above)[::-1],
        false_at=(good.size - below)[::-1],
        true_at=(ranked.size - first)[::-1],
        weight_at=(overlap / overlap[0])[::-1],
        good=good.size,
        anomalous=ranked.size,
    )


def count_below(good: Floats, values: Floats) -> tuple[Counts, Counts]:
    """Return for each of the ascending distinct `values` (k,) how many `good` scores are < it and <= it; may sort `good`."""
    good, skipped = thin(good, values)
    good.sort()
    below = np.searchsorted(good, values)
    equal = below < good.size
    equal[equal] = good[below[equal]] == values[equal]
    not_above = below.copy()
    not_above[equal] = np.searchsorted(good, values[equal], side="right")
    return below + skipped, not_above + skipped


def thin(good: Floats, values: Floats) -> tuple[Floats, Counts]:
    """Return the `good` scores that share a bin with one of `values`, and for each value how many of the others are below it.

    Sorting the remainder only is what makes the metrics fast. The bins divide the range of `values` evenly, but for the
    few highest, which share the last one; float subtraction and multiplication are monotone, so a score in a lower bin
    is lower. Without a usable width nothing is left out.
    """
    bins = min(good.size // GOODS_PER_BIN, MAX_BINS)
    low, high = values[0], values[-1 - values.size // 200]
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        scale = good.dtype.type(bins - 1) / (high - low)
    if bins < STEP // 16 or not 0 < scale < np.inf:
        return good, np.zeros(values.size, dtype=np.int64)
    home = ((np.minimum(values, high) - low) * scale).astype(np.int32)
    occupied = np.zeros(bins + 1, dtype=bool)
    occupied[home] = True
    counts = np.zeros(bins + 1, dtype=np.int64)
    size = 0
    step = min(max(STEP, bins), good.size)
    scaled, index = np.empty(step, dtype=good.dtype), np.empty(step, dtype=np.intp)  # fresh memory would cost more
    for start in range(0, good.size, step):
        part = good[start : start + step]
        x, home_of = scaled[: part.size], index[: part.size]
        np.clip(part, low, high, out=x)
        np.subtract(x, low, out=x)
        np.multiply(x, scale, out=x)
        np.copyto(home_of, x, casting="unsafe")
        counts += np.bincount(home_of, minlength=bins + 1)
        kept = part[occupied[home_of]]
        good[size : size + kept.size] = kept  # never ahead of what is still to be read
        size += kept.size
    counts[occupied] = 0
    return good[:size], np.cumsum(counts, out=counts)[home]
