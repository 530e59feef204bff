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
    errors = np.nanstd(replicates, axis=1)
    fixed = errors <= 1e-9  # float32 replicates of equal values
    scale = np.where(fixed, 1, errors)
    sizes = np.where(fixed & (np.abs(estimates) > 1e-6), np.inf, np.abs(estimates) / scale)
    deviations = np.abs(replicates - np.nanmean(replicates, axis=1, keepdims=True)) / scale[:, None]
    largest = np.nanmax(np.where(fixed[:, None], 0, deviations), axis=0)
    reached = (largest[None] >= sizes[:, None] - 1e-12).sum(axis=1)
    return np.asarray((reached + 1) / (replicates.shape[1] + 1))
