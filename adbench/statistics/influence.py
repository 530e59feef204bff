"""How much each test image contributes to the error of a metric, by the jackknife; and the interval that follows from it.

Leave out one image i of the n in its stratum (good or anomalous): the metric becomes t(i). The influence value of the image is
sqrt((n - 1) / n) * (mean of t over the stratum - t(i)). The squares of all images sum to the jackknife's variance of the metric
(Efron and Stein, Annals of Statistics 9, 1981), for AUROC exactly that of DeLong, DeLong and Clarke-Pearson (Biometrics 44,
1988). Differences and means of metrics have the differences and means of influence values, so that no result needs to know
the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.floating[Any]]
LEVEL = 0.95
METHOD = "logit jackknife"  # of the intervals in a record
MOST_UNITS = 400  # of more images, several are left out at a time
_ENLARGED = 1.2  # of standard errors from replicates, which do not tell the number of images
_NOTHING = 1e-9  # standard errors below it are rounding


@dataclass(frozen=True)
class Units:
    """What is left out together: one image, several of many, or an original with all images made of it.

    kept: (U, N), 0 for the images left out, else 1. strata: (U,), the stratum of each unit, from 0.
    """

    kept: NDArray[np.float64]
    strata: NDArray[np.int64]


def make_units(anomalous: NDArray[np.bool_], sources: Sequence[int] | None, random: np.random.Generator) -> Units:
    """Return the units of N images, `anomalous` (N,); `sources` as in `draw_replicates`. Many images are grouped at random."""
    if sources is not None:
        home = np.asarray(sources)
        return Units((home != np.arange(home.max() + 1)[:, None]).astype(float), np.zeros(home.max() + 1, dtype=np.int64))
    kinds = [np.flatnonzero(anomalous == kind) for kind in (False, True)]
    most = MOST_UNITS // 2
    groups = [group for images in kinds for group in np.array_split(random.permutation(images), min(most, images.size) or 1)]
    kept = np.ones((len(groups), anomalous.size))
    for row, group in zip(kept, groups, strict=True):
        row[group] = 0
    filled = [index for index, group in enumerate(groups) if group.size]  # a kind without images has no unit
    strata = [int(anomalous[groups[index][0]]) for index in filled]
    return Units(kept[filled], np.unique(np.array(strata, dtype=np.int64), return_inverse=True)[1])


def influence_values(left_out: Values, strata: NDArray[np.int64]) -> Values:
    """Return the influence values (M, U) of M metrics that have the values `left_out` (M, U) without each unit.

    NaN for a unit that is alone in its stratum, or without which the metric is not defined.
    """
    found = np.full(left_out.shape, np.nan)
    for stratum in np.unique(strata):
        own = left_out[:, strata == stratum]
        if (count := own.shape[1]) > 1:
            found[:, strata == stratum] = np.sqrt((count - 1) / count) * (own.mean(axis=1, keepdims=True) - own)
    return found


@dataclass(frozen=True)
class Influence:
    """The influence values (k, U) of U units on k estimates, and the stratum (U,) of each unit.

    counted: whether units are images, so that their number tells how far the values can be trusted.
    """

    values: Values
    strata: NDArray[np.int64]
    counted: bool = True

    @staticmethod
    def of_replicates(replicates: Values) -> Influence:
        """Return bootstrap replicates (k, R), all that results of earlier versions have, as R units.

        The squares of a row sum to the variance of the replicates, enlarged because the number of images is unknown.
        """
        deviations = replicates - np.nanmean(replicates, axis=1, keepdims=True)
        values = _ENLARGED * np.nan_to_num(deviations) / np.sqrt(replicates.shape[1])
        return Influence(values, np.zeros(replicates.shape[1], dtype=np.int64), counted=False)

    @staticmethod
    def mean(parts: Sequence[Influence]) -> Influence:
        """Return the influence on the means of estimates over parts that have no unit in common, such as categories."""
        starts = np.cumsum([0, *(part.strata.max(initial=-1) + 1 for part in parts)])
        strata = np.concatenate([part.strata + start for part, start in zip(parts, starts, strict=False)])
        values = np.concatenate([part.values for part in parts], axis=1) / len(parts)
        return Influence(values, strata, all(part.counted for part in parts))

    @property
    def sizes(self) -> NDArray[np.int64]:
        """(U,): how many units the stratum of each unit has."""
        return np.bincount(self.strata)[self.strata]

    @property
    def variances(self) -> Values:
        """(k,), of the estimates; 0 where only rounding makes the units differ."""
        found = np.square(self.values).sum(axis=1)
        return np.where(found <= _NOTHING**2, 0, found)

    def intervals(self, estimates: Values) -> list[tuple[float, float] | None]:
        """Return the 95 % interval of each of k fractions, of logits by Student's t; None where nothing is known of it.

        The degrees of freedom are Welch's and Satterthwaite's. At 0 and 1, and where leaving out an image changes nothing, it is
        that of Clopper and Pearson for as many trials as the smallest stratum has units. At 1 that is a lower bound which holds
        for AUROC whatever the distribution: pairs of a good and an anomalous image that share none are independent trials.
        """
        found: list[tuple[float, float] | None] = []
        for estimate, variance, row in zip(np.clip(estimates, 0, 1), self.variances, self.values, strict=True):
            if variance > 0 and 0 < estimate < 1:
                found.append(_logit_interval(float(estimate), float(variance), self._degrees(row)))
            else:
                found.append(exact_interval(float(estimate), int(self.sizes.min())) if self.counted else None)
        return found

    def margins(self) -> Values:
        """Return the half widths (k,) of the 95 % intervals of differences, by Student's t; NaN where nothing is known of it."""
        from scipy.special import stdtrit  # t.ppf of scipy.stats, which takes a second to import

        found = np.full(len(self.values), np.nan)
        for i, (variance, row) in enumerate(zip(self.variances, self.values, strict=True)):
            if variance > 0:
                found[i] = stdtrit(self._degrees(row), (1 + LEVEL) / 2) * np.sqrt(variance)
        return found

    def _degrees(self, row: Values) -> float:
        """Return the degrees of freedom of the variance that a row of values gives."""
        parts, counts = np.bincount(self.strata, np.square(row)), np.bincount(self.strata)
        return float(parts.sum() ** 2 / (np.square(parts) / (counts - 1)).sum())


def _logit_interval(estimate: float, variance: float, degrees: float) -> tuple[float, float]:
    from scipy.special import expit, logit, stdtrit

    half = stdtrit(degrees, (1 + LEVEL) / 2) * np.sqrt(variance) / (estimate * (1 - estimate))
    low, high = expit([logit(estimate) - half, logit(estimate) + half])
    return float(low), float(high)


def exact_interval(estimate: float, trials: int) -> tuple[float, float]:
    """Return the interval of Clopper and Pearson (Biometrika 26, 1934) for a share of trials; one-sided at 0 and at 1."""
    from scipy.special import betaincinv  # beta.ppf of scipy.stats

    hits, missed = estimate * trials, (1 - estimate) * trials
    tail = (1 - LEVEL) / 2 if hits > 0 < missed else 1 - LEVEL
    low = float(betaincinv(hits, missed + 1, tail)) if hits > 0 else 0.0
    return low, float(betaincinv(hits + 1, missed, 1 - tail)) if missed > 0 else 1.0
