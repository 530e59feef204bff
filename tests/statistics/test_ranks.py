"""Tests over categories: Demsar's worked example, and scipy's values."""

import numpy as np
import pytest
from published_ranks import PUBLISHED
from scipy import stats

from adbench.statistics.ranks import all_pairs, critical_difference, friedman, holm, least_categories, mean_ranks, wilcoxon


def test_mean_ranks_are_the_published_ones() -> None:
    np.testing.assert_allclose(mean_ranks(PUBLISHED), [3.143, 2.000, 2.893, 1.964], atol=5e-4)


def test_friedman_is_the_published_one_but_for_the_correction_for_ties() -> None:
    found = stats.friedmanchisquare(*PUBLISHED.T)
    ties = 1 - (6 + 6 + 60 + 6) / (14 * 4 * (4**2 - 1))  # iris, lung cancer, mushroom, primary tumor
    assert found.statistic * ties == pytest.approx(9.28, abs=0.005)
    statistic = 13 * found.statistic / (14 * 3 - found.statistic)
    assert friedman(PUBLISHED) == pytest.approx(stats.f.sf(statistic, 3, 39))
    assert pytest.approx(3.69, abs=0.005) == (14 - 1) * 9.28 / (14 * 3 - 9.28)  # the published F
    assert friedman(PUBLISHED[:7]) == stats.friedmanchisquare(*PUBLISHED[:7].T).pvalue
    assert friedman(np.arange(10)[:, None] + np.arange(3.0)) == 0 and friedman(np.ones((9, 3))) == 1


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


def test_the_best_is_compared_as_if_any_pair_had_been() -> None:
    pairs = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    corrected = holm(np.array([wilcoxon(PUBLISHED[:, i], PUBLISHED[:, j]) for i, j in pairs]))
    found = all_pairs(PUBLISHED, 3)
    np.testing.assert_allclose(found[:3], np.maximum(corrected[[2, 4, 5]], friedman(PUBLISHED)))
    assert found[3] == 1
    assert all_pairs(PUBLISHED[:, :2], 0)[1] == wilcoxon(PUBLISHED[:, 0], PUBLISHED[:, 1])


@pytest.mark.parametrize("comparisons", [1, 2, 5, 20])
def test_the_least_categories_can_be_significant_and_one_fewer_cannot(comparisons: int) -> None:
    least = least_categories(comparisons)
    found = [stats.wilcoxon(np.arange(1, n + 1)).pvalue for n in (least - 1, least)]
    assert found[1] <= 0.05 / comparisons < found[0]
