"""Thresholds: the order statistic, the law of its false-positive rate, and what is said when images are too few."""

import math

import numpy as np
import pytest

from adbench.core.errors import UsageError
from adbench.models.thresholds import Threshold, set_threshold


def of(count: int, fpr: float) -> Threshold:
    """The threshold from the scores 1 .. count, shuffled; the maps' maxima are ten times as high."""
    scores = np.random.default_rng(count).permutation(count) + 1.0
    return set_threshold(scores.tolist(), (10 * scores).tolist(), 0.5, fpr)


@pytest.mark.parametrize(
    ("count", "fpr", "above", "score"),
    [(9, 0.1, 1, 9), (19, 0.1, 2, 18), (18, 0.1, 1, 18), (99, 0.29, 29, 71), (99, 0.01, 1, 99), (1, 0.999, 1, 1)],
)
def test_the_order_statistic_by_hand(count: int, fpr: float, above: int, score: float) -> None:
    found = of(count, fpr)
    assert (found.above, found.image, found.pixel) == (above, score, 10 * score)
    assert found.expected == above / (count + 1)
    assert (found.shortfall is None) == (found.expected <= fpr)


def test_the_interval_by_hand() -> None:
    """Beta(1, n) has the distribution function 1 - (1 - x)^n."""
    low, high = of(9, 0.1).interval
    assert 1 - (1 - low) ** 9 == pytest.approx(0.025)
    assert 1 - (1 - high) ** 9 == pytest.approx(0.975)


def test_too_few_images_are_said_with_what_they_attain() -> None:
    assert of(8, 0.01).shortfall == (
        "a false-positive rate of 0.01 needs 99 or more held-out good images, not 8; "
        "the highest of their scores becomes the threshold, with an expected rate of 0.111"
    )


@pytest.mark.parametrize(("count", "fpr"), [(99, 0.01), (60, 0.05), (7, 0.01)])
def test_the_rate_on_new_images_follows_the_law(count: int, fpr: float) -> None:
    draws = np.random.default_rng(3).standard_exponential((4000, count))
    found = [set_threshold(scores, scores, 0.0, fpr) for scores in draws]
    rates = np.exp([-threshold.image for threshold in found])  # of exponential scores above it, exactly
    low, high = found[0].interval
    assert np.mean(rates) == pytest.approx(found[0].expected, rel=0.06)
    assert np.mean((rates >= low) & (rates <= high)) == pytest.approx(0.95, abs=0.012)


def test_ties_lie_on_the_good_side() -> None:
    found = set_threshold([1.0] * 30, [1.0] * 30, 0.0, 0.5)
    assert not any(score > found.image for score in [1.0] * 30)


@pytest.mark.parametrize("fpr", [0.0, 1.0, -0.1, math.nan])
def test_rates_that_are_none(fpr: float) -> None:
    with pytest.raises(UsageError) as caught:
        set_threshold([1.0], [1.0], 0.0, fpr)
    assert str(caught.value) == f"--fpr {fpr:g}: the false-positive rate must be above 0 and below 1, e.g. 0.01"


def test_a_damaged_record_is_no_threshold() -> None:
    with pytest.raises(ValueError, match=r"^not a valid threshold: "):
        Threshold(math.nan, 1.0, 0.0, 0.1, 9, 1)
    with pytest.raises(ValueError, match=r"^not a valid threshold: "):
        Threshold(1.0, 1.0, 0.0, 0.1, 9, 10)
