"""Groups in other processes, on this machine or another one: the messages that start them, and how they are followed.

A message is a group as JSON; nothing is pickled. All of its paths are absolute and must exist on every host. The images and
weights are checked again, as they may have changed since the plan. What is done is read from the result files.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from adbench.backbones.network import Network
from adbench.backbones.weights import Weights
from adbench.core.errors import DataError, WeightsError
from adbench.core.files import sha256
from adbench.core.subprocess import default_threads
from adbench.data.layouts import DATASETS
from adbench.features.cache import EXTRACTION_REVISION
from adbench.sweep.executors import Site
from adbench.sweep.heartbeat import busy_groups, group_name, interrupted_jobs
from adbench.sweep.plan import Group, keys_of, with_keys
from adbench.sweep.results import ResultStore
from adbench.sweep.workspace import Workspace
from adbench.types import Job, Result

SCHEMA = 1
_ONE_VERSION = "install the same version of adbench on all hosts"


def task_message(group: Group, workspace: Workspace, out: Path) -> dict[str, Any]:
    """Return the message to run a group, with as many threads as here: a convolution's last bits depend on their number."""
    absolute, layout = os.path.abspath, DATASETS.items().get(workspace.data)  # `resolve` would follow links
    return {
        "schema": SCHEMA, "out": absolute(out), "cache": absolute(workspace.cache),
        "data": workspace.data if layout and layout.generated else absolute(Path(workspace.data).expanduser()),
        "device": workspace.device, "threads": default_threads(workspace.memo), "weights": group.network.weights.record(),
        "fields": group.fields, "jobs": [job.record() for job in group.jobs], "keep_maps": group.keep_maps,
        "cache_limit": group.cache_limit,
    }  # fmt: skip


def jobs_of(message: dict[str, Any]) -> tuple[Job, ...]:
    """Return the jobs in a message."""
    return tuple(Job.from_record(record) for record in message["jobs"])


def worker_environment(threads: int) -> dict[str, str]:
    """Return the variables that a worker needs before it loads torch or numpy."""
    known = {name: os.environ[name] for name in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GLIBC_TUNABLES") if name in os.environ}
    return {"OMP_NUM_THREADS": str(threads)} | known


def run_task(message: dict[str, Any]) -> Iterator[Result]:
    """Run the group in a message; write and yield each result. If the group cannot run here, each of its jobs fails."""
    import torch

    from adbench.sweep.pipeline import fail, run_group

    if message["schema"] != SCHEMA:
        raise DataError(f"task message of schema {message['schema']}, not {SCHEMA}: {_ONE_VERSION}")
    torch.set_num_threads(message["threads"])
    results, jobs = ResultStore(Path(message["out"])), jobs_of(message)
    try:
        workspace = Workspace(message["data"], Path(message["cache"]), (jobs[0].category,), message["device"])
        runtime, group = workspace.runtime(), _group(message, jobs, workspace)
    except Exception as error:  # this machine lacks something: other groups still run
        yield from fail(jobs, error, results)
        return
    yield from run_group(runtime, group, results)


def _group(message: dict[str, Any], jobs: tuple[Job, ...], workspace: Workspace) -> Group:
    if jobs[0].extraction != EXTRACTION_REVISION:
        raise DataError(f"extraction of revision {jobs[0].extraction}, not {EXTRACTION_REVISION}: {_ONE_VERSION}")
    inputs, weights = workspace.inputs(warn=False)[0], Weights.from_record(message["weights"])
    if inputs.fingerprint != jobs[0].fingerprint:
        raise DataError(f"images of {jobs[0].category} in {workspace.data} changed after the plan; run the sweep again")
    if weights.path and sha256(weights.path) != weights.sha256:
        raise WeightsError(f"weights {weights.path} differ here, or changed after the plan; run the sweep again")
    network = Network(jobs[0].backbone, weights)
    return Group(inputs, network, jobs, message["fields"], message["keep_maps"], message["cache_limit"])


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


class _Task:
    """A task that was started; left: its jobs without a result, in the order in which they run."""

    def __init__(self, groups: tuple[Group, ...]) -> None:
        self.groups, self.left = groups, [job for group in groups for job in group.jobs]
        self.ended_at: float | None = None

    def is_over(self, ended: bool, patience: float) -> bool:
        """Return whether all results of the task are here, or it ended so long ago that no more will appear."""
        now = time.monotonic()
        self.ended_at = (self.ended_at or now) if ended else None
        return not self.left or (self.ended_at is not None and now - self.ended_at >= patience)


def follow(
    pool: WorkerPool, groups: Sequence[Group], site: Site, running: dict[Handle, tuple[Group, ...]] | None = None
) -> Iterator[Result]:
    """Run the groups in a pool and yield each result as it appears; `running`: the tasks that the pool already has.

    If a worker dies, the job that it was running is recorded as failed, and its other jobs are started again.
    """
    results, waiting = ResultStore(site.out), list(groups)
    results.forget_failures(keys_of(groups))
    tasks = {handle: _Task(own) for handle, own in (running or {}).items()}
    try:
        while waiting or tasks:
            ended = pool.ended(tasks)
            started = pool.start(next_groups(waiting, pool.size - len(tasks), site))
            tasks |= {handle: _Task(own) for handle, own in started.items()}
            for handle, task in list(tasks.items()):
                while task.left and (result := results.outcome(task.left[0].key)):
                    task.left.pop(0)
                    yield result
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


def _lost(task: _Task, ending: Ending, results: ResultStore) -> tuple[list[Result], tuple[Group, ...]]:
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
    again = {job.key for job in task.left} - {result.job.key for result in failures}
    return failures, with_keys(task.groups, again)
