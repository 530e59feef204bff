"""Differences between configurations over the same test images, tested together.

The test flips signs: under the hypothesis that two configurations are equal, an image's contribution to their difference is as
likely to have either sign, for all configurations at once. A difference D has the contributions d_i = c_i + D a_i, where c_i
are influence values (`statistics.influence`) and the a_i >= 0 sum to 1: D is put back, since the values are centered on it, and
they would make the test liberal with few images. A stratum of n images gets a share of D in proportion to 1 / sqrt(n), its
standard error at equal spread. The statistic is D / sqrt(sum of d_i^2), which all flips leave in the denominator as it is, so
that it is studentized in each of them. The largest one of all comparisons corrects for their number: the single-step "max T" of
Westfall and Young (Resampling-Based Multiple Testing, 1993), which needs no independence. For two rows
and one sample it is Fisher's randomization test, slightly conservative because influence values have n - 1 for n.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from adbench.statistics.influence import LEVEL, Influence, Values

FLIPS = 999
_NOTHING = 1e-9  # standard errors below it are rounding


@dataclass(frozen=True)
class Findings:
    """What is known of m differences: p-values (m,), and simultaneous 95 % intervals, (m,) each; NaN where nothing is known."""

    p: Values
    low: Values
    high: Values


@dataclass(frozen=True)
class Sample:
    """Differences (m,) with their influence values on common units."""

    estimates: Values
    influence: Influence


def compare_all(samples: Sequence[Sample]) -> Findings:
    """Return the tests of all differences of all samples, one after the other, corrected for all of them.

    Samples have no units in common. None of the p-values is below 1 / (FLIPS + 1).
    """
    flipped = [_Flipped.of(sample.influence, number) for number, sample in enumerate(samples)]
    found = [one.statistics(sample.estimates, one.values, one.sums) for one, sample in zip(flipped, samples, strict=True)]
    largest = np.max([chance.max(axis=0, initial=0) for _, chance in found], axis=0)
    tests = [one.tests(sample.estimates, one.values, size, largest)
             for one, sample, (size, _) in zip(flipped, samples, found, strict=True)]  # fmt: skip
    return Findings(*(np.concatenate([getattr(test, name) for test in tests]) for name in ("p", "low", "high")))


def compare_with_best(best: int, estimates: Values, influence: Influence) -> Findings:
    """Return the tests of the differences of k configurations to one of them, k - best; its own p is 1.

    Corrected for all k (k - 1) / 2 pairs: the best was picked by its estimate, so any pair could have become the one that is
    looked at.
    """
    flipped, largest = _Flipped.of(influence, 0), np.zeros(FLIPS)
    for differences, values, sums in _pairs(estimates, flipped):
        largest = np.maximum(largest, flipped.statistics(differences, values, sums)[1].max(axis=0))
    own = flipped.against(best)
    differences = estimates - estimates[best]
    size, _ = flipped.statistics(differences, *own)
    found = flipped.tests(differences, own[0], size, largest)
    for values, value in ((found.p, 1), (found.low, 0), (found.high, 0)):
        values[best] = value
    return found


def _pairs(estimates: Values, flipped: _Flipped) -> Iterator[tuple[Values, Values, Values]]:
    for i in range(len(estimates) - 1):
        values, sums = flipped.against(i)
        yield (estimates - estimates[i])[i + 1 :], values[i + 1 :], sums[i + 1 :]


@dataclass(frozen=True)
class _Flipped:
    """Influence values (m, U), their sums (m, FLIPS) under random signs, the shares (U,) of a difference, and their sums."""

    values: Values
    sums: Values
    shares: Values
    share_sums: Values

    @staticmethod
    def of(influence: Influence, seed: int) -> _Flipped:
        units = influence.strata.size
        signs = np.random.default_rng(seed).integers(0, 2, (units, FLIPS), dtype=np.int8) * 2.0 - 1
        shares = influence.sizes**-1.5
        shares /= shares.sum()
        values = np.asarray(influence.values, dtype=np.float64)
        return _Flipped(values, values @ signs, shares, shares @ signs)

    def against(self, index: int) -> tuple[Values, Values]:
        """Return the values and the sums of the differences to a row."""
        return self.values - self.values[index], self.sums - self.sums[index]

    def statistics(self, estimates: Values, values: Values, sums: Values) -> tuple[Values, Values]:
        """Return the statistic of each difference, (m,), and under each flip, (m, FLIPS); 0 where there is no error."""
        errors = np.sqrt(np.square(values).sum(axis=1) + np.square(estimates) * np.square(self.shares).sum())
        scale = np.where(errors <= _NOTHING, 0, 1 / np.maximum(errors, _NOTHING))  # NaN where nothing is known
        chance = np.abs(sums + estimates[:, None] * self.share_sums) * scale[:, None]
        return np.abs(estimates) * scale, np.nan_to_num(chance)

    def tests(self, estimates: Values, values: Values, sizes: Values, largest: Values) -> Findings:
        """Return the tests of differences with these statistics, given the largest statistic under each flip.

        The interval has the differences that the test would not reject: |D - x| <= q sqrt(V + (D - x)^2 A), where V is the
        variance and A the sum of the squared shares.
        """
        unknown = np.isnan(sizes)
        p = ((largest >= sizes[:, None] - 1e-9).sum(axis=1) + 1) / (len(largest) + 1)
        quantile = np.quantile(largest, LEVEL, method="higher")
        room = 1 - quantile**2 * np.square(self.shares).sum()
        half = quantile * np.sqrt(np.square(values).sum(axis=1) / room) if room > 0 else np.full(len(sizes), 2.0)
        low, high = np.maximum(estimates - half, -1), np.minimum(estimates + half, 1)
        return Findings(*(np.where(unknown, np.nan, found) for found in (p, low, high)))
