"""Configurations side by side: lists of names, and the bars of the critical difference diagram."""

import numpy as np
import pytest

from adbench.reports.analyses.significance import joined, listed


def test_bars_join_what_is_not_significantly_different() -> None:
    assert joined(np.array([1.0, 3.0, 1.5, 2.4]), 1.0) == [(1.0, 1.5), (1.5, 2.4), (2.4, 3.0)]
    assert joined(np.array([1.0, 2.5, 4.0]), 1.0) == []


@pytest.mark.parametrize(
    ("count", "text"), [(0, ""), (1, "a"), (2, "a and b"), (5, "a, b, c, d and e"), (6, "a, b, c, d and 2 more")]
)
def test_a_sentence_names_the_first_few(count: int, text: str) -> None:
    assert listed(list("abcdef")[:count]) == text
