"""The command sweep as plain values: planned, forecast, run, counted. A sweep that has nothing left to run loads no torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from adbench.sweep.executors import Executor, Site, choose_executor
from adbench.sweep.plan import Plan, learn_apart, make_plan
from adbench.sweep.results import ResultStore
from adbench.sweep.spec import Spec
from adbench.sweep.workspace import Workspace
from adbench.types import Result


def by_status(results: Sequence[Result]) -> dict[str, int]:
    """Return how many results are done, skipped and failed."""
    counts = {status: len(list(group)) for status, group in groupby(sorted(r.status for r in results))}
    return {status: counts.get(status, 0) for status in ("done", "skipped", "failed")}


@dataclass(frozen=True)
class Sweep:
    """A planned sweep: what is to be done, and what has a result already."""

    workspace: Workspace
    plan: Plan
    todo: Plan
    results: ResultStore
    cached: int  # jobs that had a result when the sweep was planned
    command: str = ""  # what a user typed to start it

    def forecast(self) -> dict[str, Any]:
        """Return what is left to do: jobs, groups, forward passes, bytes of cache."""
        from adbench.sweep.forecast import counted

        left = counted(self.todo, self.workspace.runtime(), self.workspace.memo)
        counts = {"planned": len(self.plan.jobs), "cached": self.cached, "skipped": len(self.plan.skipped)}
        return counts | {"jobs": self.todo.runnable} | left

    def tried_out(self, workers: int = 1, cache_limit: int | None = None) -> dict[str, Any]:
        """Return the forecast with seconds and memory, group by group, after short trials on this machine, and obstacles."""
        from adbench.sweep.forecast import forecast

        return self.forecast() | forecast(self.todo, self.workspace.runtime(), self.workspace.memo, workers, cache_limit)

    def run(self, executor: Executor | None = None) -> Iterator[Result]:
        """Write the plan, then each result as it comes; yield it. Run it again to go on where it stopped.

        Without an executor the groups run here, one after the other.
        """
        self.results.write_plan(self.plan.name, self.plan.jobs, self.command)
        for result in self.plan.skipped:
            self.results.write(result)
            yield result
        chosen = executor or choose_executor("local")
        yield from chosen.run(self.todo.groups, Site(self.results.folder, self.workspace))

    def summary(self, new: Sequence[Result]) -> dict[str, Any]:
        """Return the counts of a run that gave the results `new`."""
        counts = by_status(new)
        return {"planned": len(self.plan.jobs), "done": counts["done"], "cached": self.cached} | {
            "skipped": counts["skipped"], "failed": counts["failed"], "out": str(self.results.folder)}  # fmt: skip


def plan_sweep(
    workspace: Workspace,
    spec: Spec,
    out: Path,
    limit: int | None = None,
    keep_maps: int = 0,
    cache_limit: int | None = None,
    command: str = "",
    apart: bool = False,
) -> Sweep:
    """Return the sweep of a specification; unknown names and damaged data stop here, before any work.

    `apart`: what only torch can tell of networks and detectors is asked in another process, so that this one stays small.
    """
    results = ResultStore(out)
    if apart:
        learn_apart(spec, workspace.memo, workspace.on_step)
    plan = make_plan(spec, workspace.inputs(spec.image_sizes), workspace.memo, workspace.offline, workspace.on_step)
    pending = plan.pending(results)
    todo = pending if limit is None else pending.first(limit)
    return Sweep(workspace, plan, todo.keeping(keep_maps, cache_limit), results, plan.runnable - pending.runnable, command)
