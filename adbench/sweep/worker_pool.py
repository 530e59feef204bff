"""Watch over groups that other processes run, wherever they are: the truth is the result files. This is no executor."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

from adbench.sweep.executors import Site
from adbench.sweep.heartbeat import busy, died_at, group_name
from adbench.sweep.plan import Group
from adbench.sweep.results import ResultStore
from adbench.types import Job, Result

Handle = Any  # of a task, as its crew calls it; hashable


class Ending(NamedTuple):
    """How a task ended, and whether what it has not done may start anew."""

    how: str
    again: bool = True


class WorkerPool(Protocol):
    """What an executor must give: a way to start tasks, and the word on which of them have ended.

    `size`: tasks that it takes at a time. `pause`: seconds between two looks. `patience`: seconds that the files of an
    ended task may take to appear.
    """

    pause: float
    patience: float

    @property
    def size(self) -> int: ...

    def start(self, groups: Sequence[Group]) -> dict[Handle, tuple[Group, ...]]:
        """Start tasks; return the groups that each has, which it runs in order."""
        ...

    def ended(self, tasks: Collection[Handle]) -> dict[Handle, Ending]:
        """Return which of the tasks, all that are not done, neither work nor wait any more, each with how it ended."""
        ...

    def stop(self, tasks: Collection[Handle]) -> None:
        """End tasks that are no longer wanted."""
        ...


@dataclass
class _Task:
    groups: tuple[Group, ...]
    left: list[Job] = field(init=False)  # jobs without an outcome, in the order in which they are run
    ended_at: float | None = None

    def __post_init__(self) -> None:
        self.left = [job for group in self.groups for job in group.jobs]

    def is_over(self, ended: bool, patience: float) -> bool:
        """Return whether the task has ended and all of its outcomes are here, or will not come any more."""
        now = time.monotonic()
        self.ended_at = (self.ended_at or now) if ended else None
        return not self.left or (self.ended_at is not None and now - self.ended_at >= patience)

    def rest(self, without: Collection[str]) -> Iterator[Group]:
        """Yield the groups that must be started anew, without the jobs of these keys."""
        left = {job.key for job in self.left}.difference(without)
        for group in self.groups:
            jobs = tuple(job for job in group.jobs if job.key in left)
            if jobs:
                yield replace(group, jobs=jobs)


def follow(
    crew: WorkerPool, groups: Sequence[Group], site: Site, running: dict[Handle, tuple[Group, ...]] | None = None
) -> Iterator[Result]:
    """Run the groups by a crew and yield each result as it appears; `running` are tasks that it has already.

    Where a worker dies, the job at which it died is recorded as failed, and the rest of its groups start anew.
    """
    results, waiting = ResultStore(site.out), list(groups)
    results.forget_failures({job.key for group in groups for job in group.jobs})
    tasks = {handle: _Task(own) for handle, own in (running or {}).items()}
    try:
        while waiting or tasks:
            ended = crew.ended(tasks)
            started = crew.start(next_groups(waiting, crew.size - len(tasks), site))
            tasks |= {handle: _Task(own) for handle, own in started.items()}
            for handle, task in list(tasks.items()):
                yield from _appeared(task, results)
                if task.is_over(handle in ended, crew.patience):
                    del tasks[handle]
                    if task.left:
                        failed, rest = _lost(task, ended[handle], results)
                        waiting += rest
                        yield from failed
            if tasks:
                time.sleep(crew.pause)
    finally:
        crew.stop(tasks)


def next_groups(waiting: list[Group], count: int, site: Site) -> list[Group]:
    """Take up to `count` groups from those that wait; those that another sweep is at come last, as they may be done by then."""
    taken: list[Group] = []
    if waiting and count > 0:
        elsewhere = busy(site.out)
        waiting.sort(key=lambda group: group_name(group.jobs[0]) in elsewhere)
        taken = waiting[:count]
        del waiting[:count]
    return taken


def _appeared(task: _Task, results: ResultStore) -> Iterator[Result]:
    while task.left and (result := results.outcome(task.left[0].key)):
        task.left.pop(0)
        yield result


def _lost(task: _Task, ending: Ending, results: ResultStore) -> tuple[list[Result], list[Group]]:
    """Return failures of the jobs at which the task died, and the groups to start anew.

    If it died at none, before its first job, all are failures: what stopped it would stop it again.
    """
    at = {key for name in {group_name(job) for job in task.left} for key in died_at(results.folder, name)}
    culprits = [job for job in task.left if job.key in at and ending.again]
    text = f"the worker died at this job ({ending.how})" if culprits else f"not run, its worker ended ({ending.how})"
    failures = [Result(job, "failed", f"{text}; run the sweep again") for job in culprits or task.left]
    for result in failures:
        results.write(result)
    return failures, list(task.rest({result.job.key for result in failures}))
