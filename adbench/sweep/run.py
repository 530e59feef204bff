"""The command sweep without a terminal: plan, forecast, run, count. A sweep with nothing left to run loads no torch."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adbench.sweep.executors import Executor, Site, choose_executor
from adbench.sweep.plan import Plan, check_names, fill_memo, make_plan
from adbench.sweep.results import ResultStore
from adbench.sweep.spec import Spec
from adbench.sweep.workspace import Workspace
from adbench.types import Result

_LOG = logging.getLogger("adbench")


@dataclass(frozen=True)
class Sweep:
    """A planned sweep: all of its jobs, and those without a result."""

    workspace: Workspace
    plan: Plan
    todo: Plan
    results: ResultStore
    cached: int  # jobs that were finished when the sweep was planned
    command: str = ""  # that a user typed to start it

    def forecast(self, workers: int = 1, cache_limit: int | None = None) -> dict[str, Any]:
        """Return counts, seconds, memory and obstacles of what is left to do, after short trials on this machine."""
        from adbench.sweep.forecast import forecast

        jobs = self.plan.jobs
        left = forecast(self.todo, self.workspace.runtime(), self.workspace.memo, workers, cache_limit, jobs)
        counts = {"planned": len(jobs), "cached": self.cached, "skipped": len(self.plan.skipped)}
        return counts | {"jobs": self.todo.runnable} | left

    def run(self, executor: Executor | None = None) -> Iterator[Result]:
        """Write the plan, then write and yield each result. To resume a stopped sweep, plan and run it again.

        Without an executor the groups run in this process, one after the other.
        """
        self.results.write_plan(self.plan.name, self.plan.jobs, self.command)
        for result in self.plan.skipped:
            self.results.write(result)
            yield result
        chosen = executor or choose_executor("local")
        yield from chosen.run(self.todo.groups, Site(self.results.folder, self.workspace))

    def summary(self, new: Sequence[Result]) -> dict[str, Any]:
        """Return the counts of the sweep after a run with the results `new`."""
        counts = Counter(result.status for result in new)
        return {
            "planned": len(self.plan.jobs), "done": counts["done"], "cached": self.cached, "skipped": counts["skipped"],
            "failed": counts["failed"], "out": str(self.results.folder),
        }  # fmt: skip


def plan_sweep(
    workspace: Workspace, spec: Spec, out: Path, limit: int | None = None, keep_maps: int = 0, cache_limit: int | None = None,
    command: str = "", in_subprocess: bool = False,
) -> Sweep:  # fmt: skip
    """Return the sweep of a specification. Unknown names and damaged data raise an error here, before any work.

    in_subprocess: look at networks and detectors in a subprocess, so that this process does not load torch.
    """
    results = ResultStore(out)
    if in_subprocess:
        fill_memo(spec, workspace.memo, workspace.on_step)
    else:
        check_names(spec, workspace.memo)
    inputs = workspace.inputs(spec.all_views)
    if bare := [item.category.name for item in inputs if not item.category.test]:
        _LOG.warning(
            "no labeled test images in %s: nothing is measured there; 'adbench select' ranks on good images", ", ".join(bare)
        )
    plan = make_plan(spec, inputs, workspace.memo, workspace.offline, workspace.on_step)
    pending = plan.pending(results)
    todo = pending if limit is None else pending.first(limit)
    return Sweep(workspace, plan, todo.keeping(keep_maps, cache_limit), results, plan.runnable - pending.runnable, command)
