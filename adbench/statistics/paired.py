"""Differences between configurations over the same bootstrap replicates of the test images."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from adbench.statistics.bootstrap import LEVEL

Values = NDArray[np.floating[Any]]


def interval(replicates: Values) -> tuple[float, float]:
    """Return the percentile interval that holds 95 % of replicates (R,), those that are defined."""
    low, high = np.nanquantile(replicates, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def p_values(estimates: Values, replicates: Values) -> Values:
    """Return p-values (m,) of the hypotheses that each of m differences is zero, corrected for all m at once.

    estimates: (m,), replicates: (m, R), centered on them. A difference counts as large if in few replicates any of the m
    deviates as much from its own center, in standard errors: the single-step "max T" of Westfall and Young
    (Resampling-Based Multiple Testing, 1993), which needs no independence. None is below 1 / (R + 1). A difference that
    is zero in every replicate has p = 1.
    """
    errors, largest = _standard_errors(replicates), _largest_deviations(replicates)
    return _shares(_sizes(estimates, errors), largest)


def p_values_against_best(best: int, estimates: Values, replicates: Values) -> Values:
    """Return p-values (k,) of the differences between one of k configurations and each other; its own is 1.

    estimates: (k,), replicates: (k, R). Corrected as in `p_values`, but for all k (k - 1) / 2 pairs: the best configuration was
    picked by its estimate, so any pair could have become the one that is looked at.
    """
    largest = np.zeros(replicates.shape[1])
    for i in range(len(estimates) - 1):
        largest = np.maximum(largest, _largest_deviations(replicates[i + 1 :] - replicates[i]))
    errors = _standard_errors(replicates - replicates[best])
    found = _shares(_sizes(estimates - estimates[best], errors), largest)
    found[best] = 1
    return found


def _standard_errors(replicates: Values) -> Values:
    """Return the standard deviation (m,) of replicates (m, R), 0 where only the rounding of float32 makes them differ."""
    errors = np.nanstd(replicates, axis=1)
    return np.where(errors <= 1e-9, 0, errors)


def _sizes(estimates: Values, errors: Values) -> Values:
    """Return the absolute estimates (m,) in standard errors; infinite where an estimate without error is not zero."""
    fixed = errors == 0
    return np.where(fixed & (np.abs(estimates) > 1e-6), np.inf, np.abs(estimates) / np.where(fixed, 1, errors))


def _largest_deviations(replicates: Values) -> Values:
    """Return the largest deviation (R,) of m rows of replicates (m, R) from their centers, in standard errors."""
    errors = _standard_errors(replicates)[:, None]
    deviations = np.abs(replicates - np.nanmean(replicates, axis=1, keepdims=True)) / np.where(errors == 0, 1, errors)
    return np.asarray(np.nanmax(np.where(errors == 0, 0, deviations), axis=0))


def _shares(sizes: Values, largest: Values) -> Values:
    """Return the share of replicates, the observed one included, whose largest deviation reaches each of m sizes."""
    reached = (largest[None] >= sizes[:, None] - 1e-12).sum(axis=1)
    return np.asarray((reached + 1) / (len(largest) + 1))
