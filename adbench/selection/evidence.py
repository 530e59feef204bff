"""What each validation image says about a candidate, kept small, and what the candidate's score would be on other images.

The score of a candidate is the mean of image AUROC and AU-PRO. Its interval is a bootstrap (Efron, 1979) over the
held-out images: each is drawn, with all that was painted on it, as often as chance says. All candidates are scored on
the same draws, so that their differences have intervals too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adbench.truth import Labels
from adbench.types import Scores

DRAWS = 1000
COVERED = (0.025, 0.975)  # quantiles that an interval runs between
_POINTS = 96  # thresholds at which an image's part in AU-PRO is kept
Floats = NDArray[np.float64]


def score_of(metrics: dict[str, float | None]) -> float | None:
    """Return the mean of image AUROC and AU-PRO, a fraction of 1; None where one of them is not defined."""
    image, region = metrics.get("image_auroc"), metrics.get("aupro")
    return None if image is None or region is None else (image + region) / 2


@dataclass(frozen=True)
class Evidence:
    """A candidate's outcome by image, N images, K thresholds from high to low, the last below every score.

    scores, anomalous: (N,). good_pixels: (N,) and how many of them score at least each threshold, false: (N, K).
    regions: (N,) defects and the sum of their shares that score at least each threshold, found: (N, K).
    """

    scores: Floats
    anomalous: NDArray[np.bool_]
    good_pixels: NDArray[np.int64]
    false: NDArray[np.int64]
    regions: NDArray[np.int64]
    found: Floats

    def record(self) -> dict[str, Any]:
        """Return the form that JSON holds; shares of defects to the sixth digit."""
        plain = {name: value.tolist() for name, value in vars(self).items()}
        return plain | {"found": np.round(self.found, 6).tolist()}

    @staticmethod
    def from_record(record: dict[str, Any]) -> Evidence:
        """Return what `record()` gave."""
        return Evidence(**{name: np.asarray(value) for name, value in record.items()})


def gather(scores: Scores, labels: Labels) -> Evidence:
    """Return the evidence in scores whose maps lie on the labels' grid; the labels must have masks."""
    assert labels.truth.masks is not None and labels.regions is not None  # noqa: S101  painted images have masks
    masks = [np.asarray(mask, dtype=bool) for mask in labels.truth.masks]
    maps = [np.asarray(one) for one in scores.maps]
    thresholds = _thresholds(np.concatenate([one[~mask] for one, mask in zip(maps, masks, strict=True)]))
    ends = np.cumsum([np.count_nonzero(mask) for mask in masks])
    weights = np.split(labels.regions.weights, ends[:-1])
    pairs = list(zip(maps, masks, weights, strict=True))
    return Evidence(
        scores=np.asarray(scores.image, dtype=np.float64),
        anomalous=np.asarray(labels.truth.anomalous),
        good_pixels=np.array([np.count_nonzero(~mask) for mask in masks]),
        false=np.stack([_at_least(one[~mask], thresholds) for one, mask, _ in pairs]).astype(np.int64),
        regions=np.array([round(weight.sum()) for weight in weights]),
        found=np.stack([_at_least(one[mask], thresholds, weight) for one, mask, weight in pairs]),
    )


def _thresholds(good: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return scores that ever larger shares of the good pixels reach: dense where few do, for there AU-PRO is decided."""
    shares = np.linspace(0, 1, _POINTS) ** 2
    good = np.sort(good)[::-1]
    picked = good[np.minimum((shares * good.size).astype(int), good.size - 1)]
    picked[-1] = -np.inf
    return np.asarray(picked, dtype=np.float32)


def _at_least(values: NDArray[np.float32], thresholds: NDArray[np.float32], weights: Floats | None = None) -> Floats:
    """Return for each of the falling thresholds (K,) how many values, or how much of their weight, reach it."""
    place = np.searchsorted(-thresholds, -values, side="left")
    return np.cumsum(np.bincount(place, weights, minlength=len(thresholds))[: len(thresholds)])


def draw(sources: Sequence[int], seed: int, count: int = DRAWS) -> Floats:
    """Return how often each of N images counts in each draw, (count, N): as often as its source is drawn."""
    number = max(sources) + 1
    picks = np.random.default_rng([seed, 2]).integers(number, size=(count, number))
    times = np.stack([np.bincount(row, minlength=number) for row in picks])
    return times[:, list(sources)].astype(np.float64)


def replicates(evidence: Evidence, times: Floats, score: float, pro_limit: float = 0.3) -> Floats:
    """Return the score that each draw (count, N) would have given, (count,), where the images as they are give `score`."""
    once = np.ones((1, times.shape[1]))
    values = [_auroc(evidence, t) + _aupro(evidence, t, pro_limit) for t in (once, times)]
    return np.clip(values[1] / 2 + (score - values[0] / 2), 0, 1)  # what few thresholds cost AU-PRO is made up for


def _auroc(evidence: Evidence, times: Floats) -> Floats:
    bad = evidence.anomalous
    higher, lower = evidence.scores[bad][:, None], evidence.scores[~bad][None]
    wins = (higher > lower) + 0.5 * (higher == lower)
    pairs = times[:, bad].sum(axis=1) * times[:, ~bad].sum(axis=1)
    return np.asarray(((times[:, bad] @ wins) * times[:, ~bad]).sum(axis=1) / pairs)


def _aupro(evidence: Evidence, times: Floats, limit: float) -> Floats:
    """Return AU-PRO of each draw; between thresholds the curve is taken for straight."""
    rate = times @ evidence.false / (times @ evidence.good_pixels)[:, None]
    overlap = times @ evidence.found / (times @ evidence.regions)[:, None]
    rate, overlap = (np.pad(curve, ((0, 0), (1, 0))) for curve in (rate, overlap))
    start, end = rate[:, :-1], rate[:, 1:]
    width = np.clip(limit - start, 0, end - start)
    slope = np.divide(np.diff(overlap, axis=1), end - start, out=np.zeros_like(start), where=end > start)
    return np.asarray((width * (overlap[:, :-1] + slope * width / 2)).sum(axis=1) / limit)


def interval(values: Floats) -> tuple[float, float]:
    """Return the interval that holds 95 % of the replicates."""
    low, high = np.quantile(values, COVERED)
    return float(low), float(high)
