"""Successive halving: the rounds."""

import pytest

from adbench.selection.select import round_shares


@pytest.mark.parametrize(
    ("images", "candidates", "shares"),
    [(95, 40, [1]), (96, 5, [1]), (96, 6, [0.25, 1]), (400, 40, [1 / 16, 0.25, 1]), (400, 6, [0.25, 1])],
)
def test_early_rounds_are_held_only_where_they_save_time(images: int, candidates: int, shares: list[float]) -> None:
    assert round_shares(images, candidates) == shares
