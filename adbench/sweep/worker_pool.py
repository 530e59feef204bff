"""Follow groups that other processes run, on this machine or another one. What is done is read from the result files."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

from adbench.sweep.executors import Site
from adbench.sweep.heartbeat import busy_groups, group_name, interrupted_jobs
from adbench.sweep.plan import Group
from adbench.sweep.results import ResultStore
from adbench.types import Job, Result

Handle = Any  # the pool's own name for a task; hashable


class Ending(NamedTuple):
    """How a task ended, and whether its unfinished jobs may be started again."""

    how: str
    again: bool = True


class WorkerPool(Protocol):
    """Starts tasks in worker processes and tells which of them have ended.

    size: number of tasks at a time. pause: seconds between two polls. patience: seconds that the result files of an ended task
    may take to appear.
    """

    pause: float
    patience: float

    @property
    def size(self) -> int: ...

    def start(self, groups: Sequence[Group]) -> dict[Handle, tuple[Group, ...]]:
        """Start tasks; return the groups of each, which it runs in order."""
        ...

    def ended(self, tasks: Collection[Handle]) -> dict[Handle, Ending]:
        """Return those of the unfinished tasks that neither run nor wait any more, each with how it ended."""
        ...

    def stop(self, tasks: Collection[Handle]) -> None:
        """End tasks whose results nobody waits for."""
        ...


@dataclass
class _Task:
    groups: tuple[Group, ...]
    left: list[Job] = field(init=False)  # jobs without a result, in the order in which they run
    ended_at: float | None = None

    def __post_init__(self) -> None:
        self.left = [job for group in self.groups for job in group.jobs]

    def is_over(self, ended: bool, patience: float) -> bool:
        """Return whether all results of the task are here, or it ended so long ago that no more will appear."""
        now = time.monotonic()
        self.ended_at = (self.ended_at or now) if ended else None
        return not self.left or (self.ended_at is not None and now - self.ended_at >= patience)

    def rest(self, without: Collection[str]) -> Iterator[Group]:
        """Yield the groups to start again, without the jobs with these keys."""
        left = {job.key for job in self.left}.difference(without)
        for group in self.groups:
            jobs = tuple(job for job in group.jobs if job.key in left)
            if jobs:
                yield replace(group, jobs=jobs)


def follow(
    pool: WorkerPool, groups: Sequence[Group], site: Site, running: dict[Handle, tuple[Group, ...]] | None = None
) -> Iterator[Result]:
    """Run the groups in a pool and yield each result as it appears; `running`: the tasks that the pool already has.

    If a worker dies, the job that it was running is recorded as failed, and its other jobs are started again.
    """
    results, waiting = ResultStore(site.out), list(groups)
    results.forget_failures({job.key for group in groups for job in group.jobs})
    tasks = {handle: _Task(own) for handle, own in (running or {}).items()}
    try:
        while waiting or tasks:
            ended = pool.ended(tasks)
            started = pool.start(next_groups(waiting, pool.size - len(tasks), site))
            tasks |= {handle: _Task(own) for handle, own in started.items()}
            for handle, task in list(tasks.items()):
                yield from _appeared(task, results)
                if task.is_over(handle in ended, pool.patience):
                    del tasks[handle]
                    if task.left:
                        failed, rest = _lost(task, ended[handle], results)
                        waiting += rest
                        yield from failed
            if tasks:
                time.sleep(pool.pause)
    finally:
        pool.stop(tasks)


def next_groups(waiting: list[Group], count: int, site: Site) -> list[Group]:
    """Remove up to `count` groups from `waiting` and return them; those that another sweep is running come last."""
    taken: list[Group] = []
    if waiting and count > 0:
        busy = busy_groups(site.out)
        waiting.sort(key=lambda group: group_name(group.jobs[0]) in busy)
        taken = waiting[:count]
        del waiting[:count]
    return taken


def _appeared(task: _Task, results: ResultStore) -> Iterator[Result]:
    while task.left and (result := results.outcome(task.left[0].key)):
        task.left.pop(0)
        yield result


def _lost(task: _Task, ending: Ending, results: ResultStore) -> tuple[list[Result], list[Group]]:
    """Return failures of the jobs that were running when the task ended, and the groups to start again.

    If none was running, all of its jobs fail: what stopped it before its first job would stop it again.
    """
    names = {group_name(job) for job in task.left}
    interrupted = {key for name in names for key in interrupted_jobs(results.folder, name)}
    culprits = [job for job in task.left if job.key in interrupted and ending.again]
    text = f"the worker died at this job ({ending.how})" if culprits else f"not run, its worker ended ({ending.how})"
    failures = [Result(job, "failed", f"{text}; run the sweep again") for job in culprits or task.left]
    for result in failures:
        results.write(result)
    return failures, list(task.rest({result.job.key for result in failures}))
