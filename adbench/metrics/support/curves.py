"""The one sort that all metrics share: false and true positives at every distinct score of an anomalous item.

Every curve rises only at scores of anomalous items (images or pixels). So only those few are sorted with a payload;
the good ones, by far the most, are merely counted between them. Nothing is binned or sampled in the result.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adbench.metrics.support.counting import Counts, Floats, count_below


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


def trace(good: Iterable[Floats], num_good: int, anomalous: Floats, weights: NDArray[np.float64]) -> Curves:
    """Return the curves of `anomalous` scores (m,) with `weights` (m,) > 0, m >= 1, against `num_good` >= 1 good ones.

    good: in arrays of any length, of the dtype of `anomalous`. No score is NaN; infinite ones are in order.
    """
    order = np.argsort(anomalous)
    ranked = anomalous[order]
    first = np.flatnonzero(np.concatenate(([True], ranked[1:] != ranked[:-1])))
    below, not_above = count_below(good, ranked[first], num_good)
    overlap = np.cumsum(weights[order][::-1])[::-1][first]
    return Curves(
        false_above=(num_good - not_above)[::-1],
        false_at=(num_good - below)[::-1],
        true_at=(ranked.size - first)[::-1],
        weight_at=(overlap / overlap[0])[::-1],
        good=num_good,
        anomalous=ranked.size,
    )
