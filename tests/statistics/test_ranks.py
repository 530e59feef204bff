"""Tests over categories: Demsar's worked example, and scipy's values."""

import numpy as np
import pytest
from scipy import stats

from adbench.statistics.ranks import critical_difference, friedman, holm, least_categories, mean_ranks, wilcoxon

# Demsar (JMLR 7, 2006), table 6: AUC of C4.5, C4.5+m, C4.5+cf and C4.5+m+cf on 14 data sets. In the thirteenth the last two
# are printed as equal, but ranked 2 and 3.
PUBLISHED = np.array([
    [0.763, 0.768, 0.771, 0.798], [0.599, 0.591, 0.590, 0.569], [0.954, 0.971, 0.968, 0.967], [0.628, 0.661, 0.654, 0.657],
    [0.882, 0.888, 0.886, 0.898], [0.936, 0.931, 0.916, 0.931], [0.661, 0.668, 0.609, 0.685], [0.583, 0.583, 0.563, 0.625],
    [0.775, 0.838, 0.866, 0.875], [1.000, 1.000, 1.000, 1.000], [0.940, 0.962, 0.965, 0.962], [0.619, 0.666, 0.614, 0.669],
    [0.972, 0.981, 0.9751, 0.975], [0.957, 0.978, 0.946, 0.970],
])  # fmt: skip


def test_mean_ranks_are_the_published_ones() -> None:
    np.testing.assert_allclose(mean_ranks(PUBLISHED), [3.143, 2.000, 2.893, 1.964], atol=5e-4)


def test_friedman_is_the_published_one_but_for_the_correction_for_ties() -> None:
    p_value = friedman(PUBLISHED)
    assert p_value == stats.friedmanchisquare(*PUBLISHED.T).pvalue
    ties = 1 - (6 + 6 + 60 + 6) / (14 * 4 * (4**2 - 1))  # iris, lung cancer, mushroom, primary tumor
    assert stats.chi2.isf(p_value, 3) * ties == pytest.approx(9.28, abs=0.005)


def test_critical_differences_are_the_published_ones() -> None:
    assert critical_difference(14, 4) == pytest.approx(1.25, abs=0.005)
    assert critical_difference(14, 4, alpha=0.1) == pytest.approx(1.12, abs=0.005)


def test_mean_ranks_a_critical_difference_apart_have_nemenyis_p_value() -> None:
    quantile = critical_difference(15, 6) / np.sqrt(6 * 7 / (6 * 15)) * np.sqrt(2)
    assert stats.studentized_range.sf(quantile, 6, np.inf) == pytest.approx(0.05)


def test_wilcoxon_is_the_published_one() -> None:
    first, second = PUBLISHED[:, 0], PUBLISHED[:, 1]
    assert stats.wilcoxon(first, second, zero_method="zsplit").statistic == 12  # table 2
    assert wilcoxon(first, second) == stats.wilcoxon(first, second, zero_method="zsplit").pvalue < 0.05
    assert wilcoxon(first, first) == 1


def test_wilcoxon_is_exact_without_ties() -> None:
    first = np.random.default_rng(0).normal(size=9)
    assert wilcoxon(first, np.zeros(9)) == stats.wilcoxon(first, method="exact").pvalue


def test_holm_by_hand() -> None:
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03, 0.005])), [0.03, 0.06, 0.06, 0.02])
    assert holm(np.array([0.7, 0.6])).tolist() == [1, 1]


@pytest.mark.parametrize("comparisons", [1, 2, 5, 20])
def test_the_least_categories_can_be_significant_and_one_fewer_cannot(comparisons: int) -> None:
    least = least_categories(comparisons)
    found = [stats.wilcoxon(np.arange(1, n + 1)).pvalue for n in (least - 1, least)]
    assert found[1] <= 0.05 / comparisons < found[0]
