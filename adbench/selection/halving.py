"""Candidates on growing shares of the training images: after each round the worse half is not fitted again.

Successive halving (Jamieson and Talwalkar, "Non-stochastic Best Arm Identification", AISTATS 2016) with four times the
images from round to round. The validation images are the same in every round, so that their features are computed once.
A round costs its share of the fits, so that one round of a quarter saves a quarter of the time, two save more; and
nothing where there are few candidates or few images, for then there is no round but the last.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from torch import nn

from adbench.features.runtime import Runtime
from adbench.pictures.kept_maps import read_kept
from adbench.selection.candidates import Candidate
from adbench.selection.ranking import Excluded, Limits, Ranked, rank, sift
from adbench.selection.validation import Validation
from adbench.sweep.pipeline import assess, fit, measure, run_group
from adbench.sweep.plan import Group, Plan, make_plan
from adbench.sweep.results import ResultStore
from adbench.sweep.spec import Spec
from adbench.sweep.workspace import Workspace
from adbench.types import Job, Result


def try_candidate(runtime: Runtime, group: Group, job: Job, maps: Path) -> Result:
    """Return the Result of a job on validation data, with its memory in use.

    That is memory_mb (10^6 bytes) of the network's weights up to the deepest layer and of what the detector keeps. `maps` is
    not used: pictures are made of the winner alone.
    """
    detector, cost = fit(runtime, group.network, group.inputs, job)
    result, _ = assess(runtime, group.network, group.inputs, job, detector, cost, group.field(job))
    in_use = _megabytes(group.network.cut(job.layers)) + (cost["state_mb"] or 0)
    return replace(result, cost=result.cost | {"memory_mb": in_use})


def _megabytes(module: nn.Module) -> float:
    return sum(t.numel() * t.element_size() for t in [*module.parameters(), *module.buffers()]) / 1e6


GROWTH = 4
_LEAST_IMAGES, _LEAST_KEPT = 24, 3  # fewer training images tell too little, so few candidates are worth a last round
OnResult = Callable[[Result, int, int], None]  # a new result, its number, how many the round has


def ignore_result(result: Result, number: int, total: int) -> None:
    """Take a result and do nothing with it."""


@dataclass(frozen=True)
class SuccessiveHalving:
    """What is run: candidates on validation data, within limits; `halving` drops the worse half early."""

    workspace: Workspace
    spec: Spec
    validation: Validation
    results: ResultStore
    limits: Limits
    halving: bool = True
    on_result: OnResult = ignore_result

    def run(self) -> tuple[list[Ranked], list[Excluded]]:
        """Return the ranking of those that came to the last round, and all others with their reasons.

        A result that is there already is not computed again. Raises UsageError for unknown names.
        """
        whole = self._plan(1)
        self.results.write_plan(whole.name, whole.jobs)
        out = sift(whole.skipped, self.limits)[1]
        wanted = {Candidate.of(job) for group in whole.groups for job in group.jobs}
        for share in self.shares(len(self.validation.inputs.category.train), len(wanted)):
            scored, excluded = sift(self._results(self._plan(share).only(partial(_in, wanted))), self.limits)
            ranked = rank(scored, self.results)
            out += excluded
            if share < 1:
                kept = math.ceil(len(ranked) / 2)
                out += [_dropped(one, number, len(ranked), share) for number, one in enumerate(ranked, 1)][kept:]
                wanted = {Candidate.of(one.job) for one in ranked[:kept]}
        return ranked, out

    def picture(self, job: Job, count: int) -> None:
        """Keep `count` pictures of each role of a job of the last round in its results, unless there are some."""
        folder = self.results.maps(job.key)
        for group in self._plan(1).only(lambda other: other == job).keeping(count).groups:
            if not read_kept(folder):
                measure(self.workspace.runtime(), group, job, folder)

    def shares(self, images: int, candidates: int) -> list[float]:
        """Return the share of the training images of each round, the last 1."""
        rounds = min(_times(GROWTH, images / _LEAST_IMAGES), _times(2, candidates / _LEAST_KEPT))
        return [float(GROWTH) ** -k for k in range(rounds, 0, -1)] * self.halving + [1.0]

    def _plan(self, share: float) -> Plan:
        part = self.validation.part(share)
        return make_plan(self.spec, [part.inputs], self.workspace.memo, self.workspace.offline, self.workspace.on_step)

    def _results(self, plan: Plan) -> list[Result]:
        """Return the results of the plan's jobs in its order; what has none is run."""
        todo, runtime = plan.pending(self.results), self.workspace.runtime()
        new: dict[str, Result] = {}
        for group in todo.groups:
            for result in run_group(runtime, group, self.results, try_candidate):
                new[result.job.key] = result
                self.on_result(result, len(new), todo.runnable)
        jobs = [job for group in plan.groups for job in group.jobs]
        found = [new.get(job.key) or self.results.read(job.key) for job in jobs]
        return [result for result in found if result]


def _in(wanted: set[Candidate], job: Job) -> bool:
    return Candidate.of(job) in wanted


def _times(factor: int, ratio: float) -> int:
    """Return how often `ratio` can be divided by `factor` and stay at least 1."""
    return max(0, math.floor(math.log(max(ratio, 1), factor) + 1e-9))


def _dropped(one: Ranked, number: int, count: int, share: float) -> Excluded:
    return Excluded(one.job, "dropped", f"number {number} of {count} on 1/{round(1 / share)} of the training images")
