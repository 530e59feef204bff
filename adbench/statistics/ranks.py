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
_F_FROM = 8  # categories


def least_categories(comparisons: int, alpha: float = ALPHA) -> int:
    """Return the fewest categories over which Wilcoxon's test can be significant in the first of Holm's steps.

    Its smallest two-sided p-value over n categories, all differences with one sign, is 2 / 2^n; Holm asks for alpha / m.
    """
    return 1 + math.ceil(math.log2(comparisons / alpha))


def mean_ranks(values: Values) -> Values:
    """Return the mean rank (k,) of each configuration, 1 = best."""
    return np.asarray(np.mean([_ranks(row, np.sort(row)) for row in -values], axis=0))


def _ranks(row: Values, ordered: Values) -> Values:
    """Return the rank of each value, 1 = lowest; equal ones have their mean. Importing `scipy.stats.rankdata` takes a second."""
    found: Values = (np.searchsorted(ordered, row, "left") + np.searchsorted(ordered, row, "right") + 1) / 2
    return found


def friedman(values: Values) -> float:
    """Return the p-value of Friedman's test (corrected for ties) that k >= 3 configurations do not differ.

    From 8 categories on in the form of Iman and Davenport (Communications in Statistics A9, 1980), by an F distribution, since
    chi-squared is conservative; over fewer, F itself is liberal.
    """
    from scipy.stats import f, friedmanchisquare

    if (values == values[:, :1]).all():
        return 1.0
    found, (n, k) = friedmanchisquare(*values.T), values.shape
    if n < _F_FROM:
        return float(found.pvalue)
    rest = n * (k - 1) - found.statistic
    statistic = (n - 1) * found.statistic / rest if rest > 0 else math.inf  # infinite where all categories agree
    return float(f.sf(statistic, k - 1, (k - 1) * (n - 1)))


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
    return float(_signed_rank((first - second)[:, None])[0])


def _signed_rank(differences: Values) -> Values:
    """Return the p-value (m,) of each column of differences (n, m)."""
    from scipy import stats

    sizes, found = np.sort(np.abs(differences), axis=0), np.ones(differences.shape[1])
    tied = (sizes[0] == 0) | (np.diff(sizes, axis=0) == 0).any(axis=0)
    for columns, method in ((tied & (sizes[-1] > 0), "approx"), (~tied, "auto")):
        if columns.any():
            found[columns] = stats.wilcoxon(differences[:, columns], zero_method="zsplit", method=method, axis=0).pvalue
    return found


def all_pairs(values: Values, best: int) -> Values:
    """Return p-values (k,) of the differences between one of k configurations and each other; its own is 1.

    Wilcoxon's, corrected by Holm's method for all pairs, since the best was picked, and not below Friedman's (Demsar 2006).
    """
    first, second = np.triu_indices(values.shape[1], 1)
    corrected = holm(_signed_rank(values[:, first] - values[:, second]))
    if values.shape[1] > 2:
        corrected = np.maximum(corrected, friedman(values))
    own, found = (first == best) | (second == best), np.ones(values.shape[1])
    found[np.where(first == best, second, first)[own]] = corrected[own]
    return found


def holm(p_values: NDArray[Any]) -> Values:
    """Return p-values (m,) corrected for m tests by Holm's step-down method (Scandinavian Journal of Statistics 6, 1979)."""
    order = np.argsort(p_values)
    steps = np.asarray(p_values)[order] * np.arange(len(order), 0, -1)
    corrected = np.empty(len(order))
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return corrected
