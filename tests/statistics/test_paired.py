"""Differences over common bootstrap replicates: intervals, and p-values corrected for all comparisons."""

import numpy as np
import pytest

from adbench.statistics.paired import interval, p_values, p_values_against_best


def test_a_difference_in_every_replicate_is_significant_and_none_is_not() -> None:
    noise = np.random.default_rng(0).normal(size=(3, 999)) * 0.01
    noise[2] = 0
    found = p_values(np.array([0.1, 0.001, 0.0]), noise + np.array([[0.1], [0.001], [0.0]]))
    assert found[0] == 0.001 and found[1] > 0.9 and found[2] == 1
    assert p_values(np.array([0.2]), np.full((1, 999), 0.2)).tolist() == [0.001]


def test_p_values_are_corrected_for_all_comparisons() -> None:
    rng = np.random.default_rng(1)
    estimates = rng.normal(size=(300, 8))  # no true difference, standard error 1
    draws = rng.normal(size=(300, 8, 400)) + estimates[..., None]
    smallest = np.array([p_values(e, d).min() for e, d in zip(estimates, draws, strict=True)])
    assert 0.02 < (smallest < 0.05).mean() < 0.09


def test_p_values_against_the_best_count_that_it_was_picked() -> None:
    """Of eight equal ones the best is rarely "significantly" better than any other, as it would often be without correction."""
    rng = np.random.default_rng(2)
    smallest, uncorrected = [], []
    for _ in range(300):
        estimates = rng.normal(size=8)
        draws = rng.normal(size=(8, 400)) + estimates[:, None]
        best = int(estimates.argmax())
        smallest.append(p_values_against_best(best, estimates, draws).min())
        uncorrected.append(min(p_values(estimates[[best]] - estimates[[j]], draws[[best]] - draws[[j]])[0] for j in range(8)))
    assert 0.02 < np.mean(np.array(smallest) < 0.05) < 0.09
    assert np.mean(np.array(uncorrected) < 0.05) > 0.3


def test_p_values_against_the_best_are_those_of_all_pairs_together() -> None:
    rng = np.random.default_rng(3)
    estimates = rng.normal(size=5)
    draws = rng.normal(size=(5, 99)) + estimates[:, None]
    pairs = [(i, j) for i in range(5) for j in range(i + 1, 5)]
    every = p_values(np.array([estimates[i] - estimates[j] for i, j in pairs]), np.array([draws[i] - draws[j] for i, j in pairs]))
    found = p_values_against_best(2, estimates, draws)
    assert found[2] == 1
    assert [found[i + j - 2] for i, j in pairs if 2 in (i, j)] == [p for p, pair in zip(every, pairs, strict=True) if 2 in pair]


def test_the_interval_leaves_out_what_is_not_defined() -> None:
    assert interval(np.array([np.nan, *np.linspace(0, 1, 1001)])) == pytest.approx((0.025, 0.975))
