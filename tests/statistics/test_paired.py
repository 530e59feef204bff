"""Differences over the same test images: sign flips, corrected for all comparisons, with intervals that agree with the test."""

import itertools

import numpy as np
import pytest

from adbench.statistics.influence import Influence
from adbench.statistics.paired import FLIPS, Sample, compare_all, compare_with_best


def means(values: np.ndarray) -> tuple[np.ndarray, Influence]:
    """The means of k rows over n images, and the influence of the images."""
    n = values.shape[1]
    estimates = values.mean(axis=1)
    return estimates, Influence((values - estimates[:, None]) / np.sqrt(n * (n - 1)), np.zeros(n, dtype=np.int64))


def test_two_rows_are_tested_by_fishers_randomization() -> None:
    differences = np.array([0.31, 0.12, 0.44, -0.05, 0.27, 0.18, 0.09, -0.11])
    estimates, influence = means(np.stack([np.zeros(8), differences]))
    flips = np.array([*itertools.product([-1, 1], repeat=8)]) @ differences
    exact = (np.abs(flips) >= differences.sum() - 1e-12).mean()
    raw = Influence(influence.values * np.sqrt(7 / 8), influence.strata)  # the jackknife's n - 1 makes it conservative
    assert compare_with_best(1, estimates, raw).p == pytest.approx([exact, 1], abs=0.02)
    assert exact < compare_with_best(1, estimates, influence).p[0] < 2 * exact


def test_a_difference_in_every_image_is_significant_and_none_is_not() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(size=60)
    rows = np.stack([base, base - 0.5, base, base + rng.normal(size=60) * 0.1])
    found = compare_with_best(0, *means(rows))
    assert found.p[1] == 1 / (FLIPS + 1) and found.p[2] == 1 and found.p[3] > 0.05
    assert found.high[1] < 0 and found.low[3] < 0 < found.high[3]
    assert (found.low[0], found.high[0]) == (0, 0)


def test_one_image_alone_makes_no_difference_significant() -> None:
    rows = np.zeros((2, 40))
    rows[1, 7] = 30
    assert compare_with_best(1, *means(rows)).p[0] > 0.9


def test_of_equal_rows_the_best_is_rarely_significantly_better() -> None:
    """Eight equal rows of 15 images; a plain bootstrap would call a difference significant in one of six trials."""
    rng, wrong = np.random.default_rng(2), 0
    for _ in range(200):
        estimates, influence = means(rng.normal(size=15) + rng.normal(size=(8, 15)))
        wrong += compare_with_best(int(estimates.argmax()), estimates, influence).p.min() < 0.05
    assert wrong <= 200 * 0.08  # 0.05 and two standard errors


def test_intervals_exclude_zero_where_the_test_rejects() -> None:
    rng = np.random.default_rng(3)
    estimates, influence = means(0.1 * (rng.normal(size=30) + np.linspace(0, 1, 9)[:, None] + 0.5 * rng.normal(size=(9, 30))))
    found = compare_with_best(8, estimates, influence)
    others, differences = slice(0, 8), (estimates - estimates[8])[:8]
    assert ((found.low[others] <= differences) & (differences <= found.high[others])).all()
    clear = np.abs(found.p[others] - 0.05) > 0.01
    np.testing.assert_array_equal(((found.low > 0) | (found.high < 0))[others][clear], (found.p[others] < 0.05)[clear])


def test_jobs_on_different_images_are_corrected_together() -> None:
    rng = np.random.default_rng(4)
    samples = [Sample(*means(rng.normal(size=(20, 30)) + 0.35)) for _ in range(5)]
    together, alone = compare_all(samples), compare_all(samples[:1])
    assert together.p.shape == (100,) and (together.p[:20] >= alone.p).all() and (together.p[:20] > alone.p).any()


def test_replicates_of_earlier_versions_take_the_place_of_images() -> None:
    rng = np.random.default_rng(5)
    drawn = rng.normal(size=(3, 400)) * 0.01 + np.array([[0.9], [0.89], [0.7]])
    found = compare_with_best(0, np.array([0.9, 0.89, 0.7]), Influence.of_replicates(drawn))
    assert found.p[0] == 1 and found.p[1] > 0.3 and found.p[2] < 0.01


def test_what_is_not_defined_is_not_tested() -> None:
    estimates, influence = means(np.random.default_rng(0).normal(size=(3, 10)))
    influence.values[1] = np.nan
    found = compare_with_best(0, estimates, influence)
    assert np.isnan(found.p[1]) and not np.isnan(found.p[[0, 2]]).any()
