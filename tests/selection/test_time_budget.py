"""A budget: the forecast of all rounds, and what is cut to fit."""

import pytest

from adbench.selection import budget
from adbench.selection.budget import Countdown, Estimate, cut_to, fewest_defects, total_seconds
from adbench.selection.ranking import Candidate

COSTS = {Candidate("b", "w", name, 256, "d", "{}"): Estimate(seconds, 10.0) for name, seconds in
         {"a": 100.0, "b": 50.0, "c": 20.0, "d": 10.0}.items()}  # fmt: skip


def once(candidates: int) -> list[float]:
    return [1.0]


def layers_of(costs: object) -> str:
    return "".join(one.layer for one in costs)  # type: ignore[attr-defined]


def test_the_rounds_by_hand() -> None:
    assert total_seconds(COSTS.values(), once) == 220
    assert total_seconds(COSTS.values(), lambda _: [0.25, 1.0]) == 180 / 4 + 40 + 220 / 2


@pytest.mark.parametrize(
    ("seconds", "defects", "left", "dropped"),
    [(220, 60, "abcd", ""), (219, 30, "abcd", ""), (200, 30, "abcd", ""), (199, 30, "bcd", "a"), (50, 30, "cd", "ab"),
     (0, 30, "cd", "ab")],
)  # fmt: skip
def test_defects_are_cut_before_the_slowest_candidates(seconds: float, defects: int, left: str, dropped: str) -> None:
    cut = cut_to(seconds, COSTS, 60, 30, once)
    assert (cut.defects, layers_of(cut.left), layers_of(cut.dropped)) == (defects, left, dropped)


@pytest.mark.parametrize(("defects", "fewest"), [(60, 30), (100, 50), (40, 30), (20, 20)])
def test_half_of_the_defects_are_left_but_not_too_few(defects: int, fewest: int) -> None:
    assert fewest_defects(defects) == fewest


def test_the_time_left_follows_the_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(budget.time, "monotonic", lambda: now[0])
    countdown = Countdown(1000.0, started=0.0)
    now[0] = 220.0  # twice as long as forecast
    assert countdown.left(100.0) == pytest.approx(900 * 2)
    now[0] = 1e6
    assert countdown.left(2000.0) == 0
