"""Are k configurations different over n categories? Rank tests as Demsar recommends (JMLR 7, 2006), all by scipy.

`values` (n, k): one row per category, one column per configuration, higher = better. Equal values share their mean rank.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

ALPHA = 0.05
Values = NDArray[np.float64]


def least_categories(comparisons: int, alpha: float = ALPHA) -> int:
    """Return the fewest categories over which Wilcoxon's test can be significant in the first of Holm's steps.

    Its smallest two-sided p-value over n categories, all differences with one sign, is 2 / 2^n; Holm asks for alpha / m.
    """
    return 1 + math.ceil(math.log2(comparisons / alpha))


def mean_ranks(values: Values) -> Values:
    """Return the mean rank (k,) of each configuration, 1 = best."""
    from scipy.stats import rankdata

    return np.asarray(rankdata(-values, axis=1).mean(axis=0))


def friedman(values: Values) -> float:
    """Return the p-value of Friedman's test (chi-squared, corrected for ties) that k >= 3 configurations do not differ."""
    from scipy.stats import friedmanchisquare

    if (values == values[:, :1]).all():
        return 1.0
    return float(friedmanchisquare(*values.T).pvalue)


def critical_difference(categories: int, configurations: int, alpha: float = ALPHA) -> float:
    """Return by how much two mean ranks must differ to be significant in Nemenyi's test (Demsar 2006, section 3.2.2)."""
    from scipy.stats import studentized_range

    quantile = studentized_range.ppf(1 - alpha, configurations, np.inf) / math.sqrt(2)
    return float(quantile * math.sqrt(configurations * (configurations + 1) / (6 * categories)))


def wilcoxon(first: Values, second: Values) -> float:
    """Return the two-sided p-value of the signed-rank test of two columns (n,); differences of zero are split evenly.

    Exact up to 50 differences of distinct sizes, else by the normal approximation. (Left alone, scipy would permute ties of
    up to 13, which takes over a second.)
    """
    from scipy import stats

    sizes = np.abs(first - second)
    if not sizes.any():
        return 1.0
    tied = not sizes.all() or np.unique(sizes).size < sizes.size
    return float(stats.wilcoxon(first, second, zero_method="zsplit", method="approx" if tied else "auto").pvalue)


def holm(p_values: NDArray[Any]) -> Values:
    """Return p-values (m,) corrected for m tests by Holm's step-down method (Scandinavian Journal of Statistics 6, 1979)."""
    order = np.argsort(p_values)
    steps = np.asarray(p_values)[order] * np.arange(len(order), 0, -1)
    corrected = np.empty(len(order))
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return corrected
