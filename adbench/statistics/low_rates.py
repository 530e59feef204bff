"""Bootstrap replicates of AUPIMO: the highest scores of good images and of defects, counted by image in bins.

A replicate of good images changes the false-positive rate at a threshold, and so the weight of each defective pixel; a
replicate of images with a defect changes which of them count.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adbench.metrics.support.pimo import HIGH, integrals
from adbench.types import Scores, Truth

BINS = 256  # their ranks among the good pixels grow by a constant factor
_EVERY = 7  # of an image's pixels are looked at for its share of the highest scores
_MARGIN = 2  # by how much more than the share that the rate `HIGH` may need in a replicate
_BLOCK = 250  # replicates at a time


@dataclass(frozen=True)
class TailHistograms:
    """Shares of the pixels of N images in B bins of their score, the highest first, of a good image or of its defects: (N, B).

    The last bin has all the rest. defective: the images with a defective pixel (N,).
    """

    good: NDArray[np.float64]
    overlap: NDArray[np.float64]
    is_good: NDArray[np.bool_]
    defective: NDArray[np.bool_]

    def replicates(self, times: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return AUPIMO (R,) where image i counts `times`[r, i] times; NaN where a weighting has no image with a defect."""
        return np.concatenate([self._block(times[start : start + _BLOCK]) for start in range(0, len(times), _BLOCK)])

    def _block(self, times: NDArray[np.float64]) -> NDArray[np.float64]:
        own, bad = times[:, self.is_good], times[:, self.defective]
        rate = own @ np.cumsum(self.good[self.is_good], axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            above, at = integrals(rate / own.sum(axis=1, keepdims=True))
            overlap = self.overlap[self.defective]
            found = np.cumsum(overlap, axis=1)
            values = above @ (found - overlap).T + at @ found.T  # of each image in each replicate
            return np.asarray((values * bad).sum(axis=1) / bad.sum(axis=1))


def tail_histograms(scores: Scores, truth: Truth) -> TailHistograms:
    """Return the histograms of N maps under N masks, of which some are good and some have defective pixels."""
    masks = [np.asarray(mask, dtype=bool) for mask in (() if truth.masks is None else truth.masks)]
    good = np.flatnonzero(~truth.anomalous)
    highest = [_highest(np.asarray(scores.maps[i]).ravel(), good.size) for i in good.tolist()]
    ranked = np.sort(np.concatenate(highest))[::-1]
    places = np.unique(np.geomspace(1, ranked.size, BINS).astype(np.int64)) - 1
    edges = np.unique(ranked[places])  # ascending
    shape = len(masks), edges.size + 1
    found = TailHistograms(np.zeros(shape), np.zeros(shape), ~truth.anomalous, np.zeros(len(masks), dtype=bool))
    for i, values in zip(good.tolist(), highest, strict=True):
        found.good[i] = _shares(values, edges, masks[i].size)
    for i in np.flatnonzero(truth.anomalous).tolist():
        defective = np.asarray(scores.maps[i])[masks[i]]
        if defective.size:
            found.defective[i], found.overlap[i] = True, _shares(defective[defective >= edges[0]], edges, defective.size)
    return found


def _highest(scores: NDArray[np.float32], images: int) -> NDArray[np.float32]:
    """Return the scores (pixels,) of a good image that may lie below the rate `HIGH` if it is drawn once among `images`."""
    share = min(1.0, _MARGIN * HIGH * images)
    sample = scores[::_EVERY]
    level = np.partition(sample, place := max(0, int(sample.size * (1 - share)) - 1))[place]
    return np.asarray(scores[scores >= level])


def _shares(scores: NDArray[np.float32], edges: NDArray[np.float32], pixels: int) -> Sequence[float] | NDArray[np.float64]:
    """Return the share of `pixels` in each bin, the highest first: those of `scores` >= an edge, and in the last bin the rest."""
    counts = np.bincount(np.searchsorted(edges, scores, side="right"), minlength=edges.size + 1)[:0:-1]
    return np.append(counts, pixels - counts.sum()) / pixels
