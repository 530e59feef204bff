"""Metrics at a threshold that was fixed without test images: what a user of the detector would have seen.

An image counts as anomalous if its score is strictly above the threshold, a pixel likewise, as `predict` decides.
- image_recall: the share of anomalous images above the threshold. image_fpr: the share of good ones. image_f1: 2 TP / (2 TP +
  FP + FN) of images.
- seg_f1: the same of pixels, whose counts are added up over all images of the category, good ones included, at the evaluation
  grid. MVTec AD 2's server computes its SegF1 so, from binary maps at native resolution; the metric of the same name in the
  VAND challenges' starter kit is the mean over images of the best F1 of each, with thresholds that only labels can give.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adbench.metrics import AT_THRESHOLD, in_order
from adbench.statistics.bootstrap import Draws
from adbench.statistics.influence import exact_interval, influence_values
from adbench.statistics.rules import Limits
from adbench.types import Scores, Truth

Counts = NDArray[np.float64]
_DIGITS = 6  # of what is recorded


@dataclass(frozen=True)
class Decided:
    """Metrics at the thresholds of one or several rules.

    metrics: of the first rule. replicates: (4, R), influence: (4, U) of these, in the order of `AT_THRESHOLD`. details: a record
    for each rule. reason: why the first rule set no threshold, if so.
    """

    metrics: Mapping[str, float | None]
    replicates: NDArray[np.floating[Any]]
    influence: NDArray[np.floating[Any]]
    details: Sequence[dict[str, Any]]
    reason: str | None


def decide(limits: Sequence[Limits], scores: Scores, truth: Truth, draws: Draws) -> Decided:
    """Return the metrics of N test images at the thresholds of each rule; maps and masks on the evaluation grid."""
    counted = [count_decisions(one, scores, truth) for one in limits]
    everything = np.ones((1, len(truth.anomalous)))
    found = [dict(zip(AT_THRESHOLD, map(_defined, metrics_of(counts, everything)[:, 0]), strict=True)) for counts in counted]
    details = [
        one.record() | {"metrics": _rounded(metrics), "image_fpr_interval": _attained(counts)}
        for one, metrics, counts in zip(limits, found, counted, strict=True)
    ]
    influence = influence_values(metrics_of(counted[0], draws.units.kept), draws.units.strata)
    return Decided(found[0], metrics_of(counted[0], draws.times), influence, details, limits[0].reason)


def count_decisions(limits: Limits, scores: Scores, truth: Truth) -> Counts:
    """Return (7, N): whether each image is a true positive, false positive, false negative or true negative, and how many of its
    pixels are one of the first three; NaN where there is no threshold or no mask."""
    anomalous, counts = np.asarray(truth.anomalous, dtype=bool), np.full((7, len(truth.anomalous)), np.nan)
    if limits.image is not None:
        found = np.asarray(scores.image) > limits.image
        counts[:4] = found & anomalous, found & ~anomalous, ~found & anomalous, ~found & ~anomalous
    if limits.pixel is not None and truth.masks is not None:
        for i, (anomaly_map, mask) in enumerate(zip(scores.maps, truth.masks, strict=True)):
            found, defective = np.asarray(anomaly_map) > limits.pixel, np.asarray(mask, dtype=bool)
            counts[4:, i] = [np.count_nonzero(part) for part in (found & defective, found & ~defective, ~found & defective)]
    return counts


def metrics_of(counts: Counts, times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the metrics, (4, R), in the order of `AT_THRESHOLD`, where image i counts `times`[r, i] times; NaN if undefined.

    counts: as `count_decisions` returns them. F1 and recall are undefined without an anomalous image or a defective pixel.
    """
    hits, false, missed, clear, pixel_hits, pixel_false, pixel_missed = counts @ times.T
    with np.errstate(divide="ignore", invalid="ignore"):
        recall, rate = hits / (hits + missed), false / (false + clear)
        found = (_f1(hits, false, missed), recall, rate, _f1(pixel_hits, pixel_false, pixel_missed))
    return np.stack(found)


def _f1(hits: Counts, false: Counts, missed: Counts) -> Counts:
    """Return F1, NaN where nothing is anomalous."""
    return np.where(hits + missed > 0, 2 * hits / (2 * hits + false + missed), np.nan)


def _defined(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _rounded(metrics: Mapping[str, float | None]) -> dict[str, float | None]:
    return {name: None if value is None else round(value, _DIGITS) for name, value in metrics.items()}


def _attained(counts: Counts) -> list[float] | None:
    """Return the interval of Clopper and Pearson of the false-positive rate on these test images; None if there is none."""
    false, clear = counts[1].sum(), counts[3].sum()
    if not false + clear > 0:  # NaN too
        return None
    return [round(end, _DIGITS) for end in exact_interval(float(false / (false + clear)), int(false + clear))]


def merged(
    names: Iterable[str], rows: NDArray[np.float32], more: Iterable[str], more_rows: NDArray[np.floating[Any]]
) -> NDArray[np.float32]:
    """Return an array with a row for each metric in `names` (in order, and perhaps further rows), and in `more`, in order."""
    ordered = in_order(names)
    found = dict(zip(ordered, rows, strict=False)) | dict(zip(more, more_rows, strict=True))
    return np.stack([*(found[name] for name in in_order(found)), *rows[len(ordered) :]]).astype(np.float32)
