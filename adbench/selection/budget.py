"""The time that a selection will take, from short trials, and what to leave out so that it fits into a budget."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from adbench.selection.ranking import Candidate
from adbench.sweep.forecast import Forecaster
from adbench.sweep.plan import Plan

LEAST_DEFECTS = 30  # fewer synthetic defects tell candidates apart too poorly
LEAST_LEFT = 2  # candidates that a budget leaves
_PRIOR_S = 20.0  # seconds for which the forecast is trusted more than the run so far
Shares = Callable[[int], Sequence[float]]  # of the training images in each round, for so many candidates


@dataclass(frozen=True)
class Estimate:
    """Seconds of a candidate without a result: its fit to all training images, and its scores and metrics on the test images."""

    fit_s: float = 0.0
    test_s: float = 0.0

    def seconds(self, share: float = 1.0) -> float:
        """Return the seconds of a round with a share of the training images."""
        return share * self.fit_s + self.test_s


Estimates = Mapping[Candidate, Estimate]


def estimate(plan: Plan, forecaster: Forecaster) -> dict[Candidate, Estimate]:
    """Return the estimate of each candidate of a plan; the forward passes of a group are shared by its candidates."""
    found: dict[Candidate, Estimate] = {}
    step = forecaster.runtime.on_step
    for group in plan.groups:
        passes = forecaster.pass_seconds(group) / len(group.jobs)
        for job in group.jobs:
            step(len(found), plan.runnable, f"forecast: {job.layer} at {job.view}")
            fit_s, test_s = forecaster.job_seconds(group, job)
            found[Candidate.of(job)] = Estimate(fit_s, passes + test_s)
    return found


def total_seconds(estimates: Iterable[Estimate], shares: Shares) -> float:
    """Return the seconds of all rounds: each but the first has half of the candidates, whichever they are."""
    left = list(estimates)
    return sum(one.seconds(share) * 0.5**number for number, share in enumerate(shares(len(left))) for one in left)


@dataclass(frozen=True)
class Cut:
    """What fits into a budget: the share of the defects, the candidates left, and the others with their seconds."""

    defects: int
    left: Estimates
    dropped: Mapping[Candidate, float] = field(default_factory=dict)


def cut_to(budget_s: float, estimates: Estimates, defects: int, fewest: int, shares: Shares) -> Cut:
    """Return what fits into the budget: with the fewest defects if need be, and then without the slowest candidates.

    Two candidates are always left. The number of defects has two values only, so that the same command after an interruption
    finds its results.
    """
    if total_seconds(estimates.values(), shares) <= budget_s:
        return Cut(defects, estimates)
    left = {one: replace(cost, test_s=cost.test_s * fewest / defects) for one, cost in estimates.items()}
    dropped = {}
    for one in sorted(left, key=lambda one: -left[one].seconds()):
        if len(left) <= LEAST_LEFT or total_seconds(left.values(), shares) <= budget_s:
            break
        dropped[one] = left.pop(one).seconds()
    return Cut(fewest, left, dropped)


def fewest_defects(defects: int) -> int:
    """Return how many of the defects a budget leaves: half, but not below `LEAST_DEFECTS`."""
    return max(min(LEAST_DEFECTS, defects), defects // 2)


@dataclass
class Countdown:
    """The time left of a run, from the forecast of what is left and the pace so far."""

    total_s: float
    done_s: float = 0.0
    started: float = field(default_factory=time.monotonic)

    def left(self, done_s: float) -> float:
        """Take the forecast of a piece of work that is done, and return the seconds left."""
        self.done_s += done_s
        pace = (time.monotonic() - self.started + _PRIOR_S) / (self.done_s + _PRIOR_S)
        return max(0.0, self.total_s - self.done_s) * pace
