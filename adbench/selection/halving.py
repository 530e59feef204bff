"""Successive halving: candidates are tried on growing shares of the training images, and the worse half is dropped each time.

After Jamieson and Talwalkar, "Non-stochastic Best Arm Identification", AISTATS 2016. Each round has four times the images
of the one before. The validation images are the same in all rounds, so their features are computed once. A round costs its
share of the fits: one early round saves a quarter of the time, two save more. With few candidates or few images an early
round would save nothing, and there is only the last.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from adbench.features.runtime import Runtime
from adbench.pictures.kept_maps import read_kept
from adbench.selection.candidates import Candidate
from adbench.selection.ranking import Excluded, Limits, Ranked, rank, split_excluded
from adbench.selection.validation import Validation
from adbench.sweep.pipeline import assess, fit, measure, run_group
from adbench.sweep.plan import Group, Plan, make_plan
from adbench.sweep.results import ResultStore
from adbench.sweep.spec import Spec
from adbench.sweep.workspace import Workspace
from adbench.types import Job, Result

GROWTH = 4  # of the training images from round to round
LEAST_IMAGES = 24  # fewer training images tell candidates apart too poorly
LEAST_KEPT = 3  # fewer candidates are not worth a last round
OnResult = Callable[[Result, int, int], None]  # a new result, its number, how many the round has


@dataclass(frozen=True)
class SuccessiveHalving:
    """Candidates on validation data, within limits; without `halving` there is only the last round."""

    workspace: Workspace
    spec: Spec
    validation: Validation
    store: ResultStore
    limits: Limits
    halving: bool
    on_result: OnResult

    def run(self) -> tuple[list[Ranked], list[Excluded]]:
        """Return the ranking of the last round, and the excluded candidates with their reasons.

        Candidates with a result in the store are not run again. Raise UsageError for unknown names.
        """
        plan = self._plan(1)
        self.store.write_plan(plan.name, plan.jobs)
        excluded = split_excluded(plan.skipped, self.limits)[1]
        left = {Candidate.of(job) for group in plan.groups for job in group.jobs}
        for share in round_shares(len(self.validation.inputs.category.train), len(left)) if self.halving else [1.0]:
            results, out = split_excluded(self._results(self._plan(share), left), self.limits)
            ranked = rank(results, self.store)
            excluded += out
            if share < 1:
                kept = math.ceil(len(ranked) / 2)
                on = f"of {len(ranked)} on 1/{round(1 / share)} of the training images"
                excluded += [Excluded(one.job, "dropped", f"ranked {k} {on}") for k, one in enumerate(ranked, 1) if k > kept]
                left = {one.candidate for one in ranked[:kept]}
        return ranked, excluded

    def keep_pictures(self, job: Job, count: int) -> None:
        """Keep `count` pictures of each role of a job of the last round beside its result, unless some are there."""
        folder = self.store.maps(job.key)
        for group in self._plan(1).only(lambda other: other == job).keeping(count).groups:
            if not read_kept(folder):
                measure(self.workspace.runtime(), group, job, folder)

    def _plan(self, share: float) -> Plan:
        inputs = self.validation.subset(share).inputs
        return make_plan(self.spec, [inputs], self.workspace.memo, self.workspace.offline, self.workspace.on_step)

    def _results(self, plan: Plan, wanted: set[Candidate]) -> list[Result]:
        """Return the results of the wanted candidates in the plan's order; those without one are run."""
        plan = plan.only(lambda job: Candidate.of(job) in wanted)
        todo, runtime = plan.pending(self.store), self.workspace.runtime()
        new: dict[str, Result] = {}
        for group in todo.groups:
            for result in run_group(runtime, group, self.store, try_candidate):
                new[result.job.key] = result
                self.on_result(result, len(new), todo.runnable)
        jobs = [job for group in plan.groups for job in group.jobs]
        found = [new.get(job.key) or self.store.read(job.key) for job in jobs]
        return [result for result in found if result]


def round_shares(images: int, candidates: int) -> list[float]:
    """Return the share of the training images that each round uses; the last is 1."""
    rounds = min(_divisions(images / LEAST_IMAGES, GROWTH), _divisions(candidates / LEAST_KEPT, 2))
    return [float(GROWTH) ** -k for k in range(rounds, -1, -1)]


def _divisions(ratio: float, factor: int) -> int:
    """Return how often `ratio` can be divided by `factor` and stay at least 1."""
    return max(0, math.floor(math.log(max(ratio, 1), factor) + 1e-9))


def try_candidate(runtime: Runtime, group: Group, job: Job, maps: Path) -> Result:
    """Return the Result of a job on validation data, its cost with memory_mb added (10^6 bytes).

    That is the memory of the network's weights up to the deepest layer and of the detector's state. No picture is kept in
    `maps`; the winner's are drawn at the end.
    """
    detector, cost = fit(runtime, group.network, group.inputs, job)
    result, _ = assess(runtime, group.network, group.inputs, job, detector, cost, group.field(job))
    memory = _megabytes(group.network.cut(job.layers)) + (cost["state_mb"] or 0)
    return replace(result, cost=result.cost | {"memory_mb": memory})


def _megabytes(module: nn.Module) -> float:
    return sum(t.numel() * t.element_size() for t in [*module.parameters(), *module.buffers()]) / 1e6
