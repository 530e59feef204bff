"""Influence values: DeLong's variance, the drop of an image; intervals that never have width zero and cover near 1."""

import numpy as np
import pytest
from scipy.stats import norm

from adbench.metrics import components, evaluate
from adbench.statistics.bootstrap import draw_replicates, resample, stored_influence
from adbench.statistics.influence import MOST_UNITS, Influence, influence_values, make_units
from adbench.types import Scores, Truth


def auroc_influence(good: np.ndarray, bad: np.ndarray) -> tuple[float, Influence]:
    """AUROC and its influence values by the placements of each image (DeLong)."""
    order = (bad[:, None] > good) + (bad[:, None] == good) / 2
    value = order.mean()
    parts = [(order.mean(axis) - value) / np.sqrt(n * (n - 1)) for axis, n in ((0, good.size), (1, bad.size))]
    return value, Influence(np.concatenate(parts)[None], np.repeat([0, 1], [good.size, bad.size]))


def test_the_jackknife_of_auroc_is_delongs_and_follows_the_metrics_without_an_image() -> None:
    rng = np.random.default_rng(0)
    maps = rng.gamma(2, size=(20, 24, 24)).astype(np.float32)
    masks = np.zeros(maps.shape, bool)
    masks[12:, 3:9, 4:8] = True
    scores, truth = Scores(maps.max((1, 2)).round(1), maps * (1 + masks)), Truth(np.arange(20) >= 12, masks)
    metrics, draws = evaluate(scores, truth), draw_replicates("parts", np.arange(20) >= 12, 10)
    _, found = resample(scores, truth, components(masks), 0.3, draws, metrics)
    _, expected = auroc_influence(scores.image[:12], scores.image[12:])
    influence = stored_influence(found[:1], found[-1])
    np.testing.assert_allclose(influence.variances, expected.variances, rtol=1e-6)
    kept = np.delete(np.arange(20), np.flatnonzero(draws.units.kept[3] == 0))
    less = evaluate(Scores(scores.image[kept], scores.maps[kept]), Truth(truth.anomalous[kept], masks[kept]))
    own = found[6, draws.units.strata == draws.units.strata[3]]
    without = metrics["aupro"] - np.sqrt(12 / 11) * own[3]  # the mean of the others is near the whole
    assert without == pytest.approx(less["aupro"], abs=2e-3)


def test_many_images_are_left_out_in_groups_and_copies_together() -> None:
    rng = np.random.default_rng(0)
    units = make_units(np.arange(1000) >= 300, None, rng)
    assert units.kept.shape == (MOST_UNITS, 1000) and (units.kept == 0).sum(axis=0).tolist() == [1] * 1000
    copies = make_units(np.array([False, False, True, True]), (0, 1, 1, 0), rng)
    assert copies.kept.tolist() == [[0, 1, 1, 0], [1, 0, 0, 1]] and copies.strata.tolist() == [0, 0]
    assert np.isnan(influence_values(np.ones((1, 3)), np.array([0, 0, 1]))).tolist() == [[False, False, True]]


@pytest.mark.parametrize("auroc", [0.95, 0.99])
def test_intervals_near_one_cover(auroc: float) -> None:
    rng, covered, trials = np.random.default_rng(1), 0, 400
    for _ in range(trials):
        value, influence = auroc_influence(rng.normal(size=20), rng.normal(np.sqrt(2) * norm.ppf(auroc), size=60))
        ((low, high),) = influence.intervals(np.array([value]))  # type: ignore[misc]
        covered += low <= auroc <= high
    assert covered / trials >= 0.93


def test_at_the_boundary_the_interval_is_one_sided_and_never_of_width_zero() -> None:
    value, influence = auroc_influence(np.zeros(20), np.ones(60))
    assert value == 1 and influence.intervals(np.array([1.0, 0.0][:1]))[0] == pytest.approx((0.05 ** (1 / 20), 1))
    assert influence.intervals(np.array([0.0]))[0] == pytest.approx((0, 1 - 0.05 ** (1 / 20)))
    assert Influence.of_replicates(np.ones((1, 50))).intervals(np.array([1.0])) == [None]


def test_means_over_categories_have_the_mean_influence() -> None:
    rng = np.random.default_rng(0)
    parts = [auroc_influence(rng.normal(size=n), rng.normal(1, size=2 * n))[1] for n in (9, 14)]
    mean = Influence.mean(parts)
    assert mean.variances == pytest.approx((parts[0].variances + parts[1].variances) / 4)
    assert np.bincount(mean.strata).tolist() == [9, 18, 14, 28]
