"""Scores as one histogram per image, from which the curves of any weighting of the images are one matrix product."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adbench.types import Maps, Masks

Floats = NDArray[np.floating[Any]]
Weights = NDArray[np.float64]

BINS = 2048  # half of them equally filled by good pixels, half by defective ones
SHIFT = 13  # mantissa bits dropped: 1024 fine bins between a height above the lowest score and its double
FINE = 1 << (31 - SHIFT)
EVERY = 7  # of the good pixels are looked at for the choice of bins; all are counted


@dataclass(frozen=True)
class Histograms:
    """Items of N images in B bins of their score, the highest first. All (N, B).

    good, anomalous: how many there are. overlap: the anomalous ones' weights (1 / size of their region, for pixels).
    """

    good: Weights
    anomalous: Weights
    overlap: Weights


def image_histograms(scores: Floats, anomalous: NDArray[np.bool_]) -> Histograms:
    """Return the histograms of N images, one item each, scores and labels (N,): a bin per distinct score, nothing is lost."""
    values, home = np.unique(-scores, return_inverse=True)
    single = np.eye(values.size)[home]
    positive = single * anomalous[:, None]
    return Histograms(single - positive, positive, positive)


def pixel_histograms(maps: Maps, masks: Masks, weights: Weights, bins: int = BINS) -> Histograms:
    """Return the histograms of the pixels of N maps (H, W) under N masks.

    `weights` is `Regions.weights` of the masks. Bins are quantiles of the pixels, at most `bins`; for 6.5 million
    pixels they cost a third of what the exact metrics cost, since a bin is found by a float's leading bits.
    """
    low = min(float(np.min(m)) for m in maps)
    table, count = _bin_table(maps, masks, low, bins)
    found = Histograms(*(np.zeros((len(maps), count)) for _ in range(3)))
    start = 0
    for i, (anomaly_map, mask) in enumerate(zip(maps, masks, strict=True)):
        home = table[_fine(anomaly_map, low)]
        inside = home[mask]
        found.anomalous[i] = np.bincount(inside, minlength=count)
        found.overlap[i] = np.bincount(inside, weights[start : start + inside.size], minlength=count)
        found.good[i] = np.bincount(home.ravel(), minlength=count) - found.anomalous[i]
        start += inside.size
    return found


def _fine(scores: Floats, low: float) -> NDArray[np.int32]:
    """Return the fine bin of each score >= `low`: the leading bits of a float >= 0 grow with it."""
    height = np.subtract(scores, low, dtype=np.float32)
    return np.right_shift(height.view(np.int32), SHIFT)


def _bin_table(maps: Maps, masks: Masks, low: float, bins: int) -> tuple[NDArray[np.int16], int]:
    """Return the bin of each fine bin (FINE,), 0 for the highest scores, and the number of bins."""
    good = _fine_counts((m[~k][::EVERY] for m, k in zip(maps, masks, strict=True)), low)
    defective = _fine_counts((m[k] for m, k in zip(maps, masks, strict=True)), low)
    above = [np.cumsum(counts[::-1]) - counts[::-1] for counts in (good, defective)]
    steps = [np.floor(a / max(c.sum(), 1) * (bins // 2)) for a, c in zip(above, (good, defective), strict=True)]
    table = np.cumsum(np.diff(steps[0] + steps[1], prepend=0) > 0).astype(np.int16)
    return table[::-1], int(table[-1]) + 1


def _fine_counts(parts: Iterable[Floats], low: float) -> NDArray[np.int64]:
    counts = np.zeros(FINE, dtype=np.int64)
    for part in parts:
        counts += np.bincount(_fine(part, low), minlength=FINE)
    return counts
