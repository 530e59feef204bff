"""Groups as tasks of Slurm job arrays, submitted by submitit; the result files tell what is done, never the accounting.

A task that is preempted, out of time or has lost its node is queued again and goes on where it was. RESULTS/orders holds
what the tasks shall do and which tasks those are: the same command, run again, follows those that are in the queue.
Whatever has no option here is set by Slurm's own environment variables (SBATCH_ACCOUNT, SBATCH_QOS ...).
"""

from __future__ import annotations

import json
import logging
import re
import shutil
import subprocess
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any
from uuid import uuid4

from adbench.core.errors import ClusterError, UsageError
from adbench.core.files import write_text
from adbench.core.subprocess import default_threads
from adbench.sweep.executors import Executor, Resources, Site, register
from adbench.sweep.plan import Group
from adbench.sweep.results import ResultStore
from adbench.sweep.task_messages import jobs_of, run_task, task_message, worker_environment
from adbench.sweep.worker_pool import Ending, follow
from adbench.types import Result

log = logging.getLogger("adbench")
_TIME_MIN = 240  # of a task, where nothing is said
_TIMEOUTS = 10  # times that a task may run out of it and go on
_ASK_S = 5.0  # between two questions to the controller
_ENDED = {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "TIMEOUT"}


@register("slurm")
class Slurm(Executor):
    """A Slurm cluster, from a machine that has its commands and shares data, cache and results with its nodes."""

    takes = ("partition", "time", "gpus_per_task", "max_parallel", "no_wait")

    def check(self) -> None:
        if find_spec("submitit") is None:
            raise ClusterError("--executor slurm needs submitit; install it: pip install 'adbench-vision[slurm]'")
        if shutil.which("sbatch") is None:
            raise ClusterError("--executor slurm: no command sbatch here; run it on a machine that submits to Slurm")
        gpus = self.resources.gpus_per_task
        if gpus and gpus != int(gpus):
            raise UsageError(f"--gpus-per-task {gpus}: Slurm gives whole GPUs; write a whole number")

    def run(self, groups: tuple[Group, ...], site: Site) -> Iterator[Result]:
        """Submit the groups that are not in the queue from an earlier call; follow all, unless nobody waits."""
        crew = _Crew(site, self.resources)
        running = crew.adopt(groups)
        queued = {job.key for own in running.values() for group in own for job in group.jobs}
        left = [replace(g, jobs=tuple(job for job in g.jobs if job.key not in queued)) for g in groups]
        new = [group for group in left if group.jobs]
        if self.resources.no_wait:
            ResultStore(site.out).forget_failures({job.key for group in new for job in group.jobs})
            crew.start(new)
            return
        yield from follow(crew, new, site, running)
        crew.live()  # forgets what has ended


class _Task:
    """What a node runs: the orders in a file. submitit pickles this by its name, with the file's path."""

    def __call__(self, path: str) -> None:
        for order in json.loads(Path(path).read_text(encoding="utf-8")):
            for _ in run_task(order):
                pass

    def checkpoint(self, path: str) -> Any:
        """Return what goes on after a preemption: the same, as what is done has a result."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, path)


@dataclass
class _Crew:
    """Tasks by Slurm's name, such as 17_3 or 17. Those submitted here are cancelled when they are not wanted any more."""

    site: Site
    resources: Resources
    size: int = 1 << 30  # Slurm itself lets --max-parallel at a time
    pause: float = 1.0
    patience: float = 10.0
    own: set[str] = field(default_factory=set)
    asked: float = float("-inf")
    endings: dict[str, Ending] = field(default_factory=dict)

    @property
    def orders(self) -> Path:
        return self.site.out / "orders"

    def start(self, groups: Sequence[Group]) -> dict[str, tuple[Group, ...]]:
        if not groups:
            return {}
        share = -(-len(groups) // _largest_array())
        parts = [tuple(groups[i : i + share]) for i in range(0, len(groups), share)]
        files = [self._write(part) for part in parts]
        threads = default_threads(self.site.workspace.memo)
        names = _submit(self.site.out / "slurm", files, self.resources, threads)
        record = {name: file.name for name, file in zip(names, files, strict=True)}
        write_text(self.orders / f"tasks-{names[0].split('_')[0]}.json", json.dumps(record))
        self.own.update(names)
        return dict(zip(names, parts, strict=True))

    def _write(self, groups: Sequence[Group]) -> Path:
        path = self.orders / f"{uuid4().hex}.json"
        orders = [task_message(group, self.site.workspace, self.site.out) for group in groups]
        write_text(path, json.dumps(orders))
        return path.absolute()

    def live(self) -> dict[str, str]:
        """Return the tasks that wait or run, each with the file of its orders; delete what belongs to ended ones."""
        found: dict[str, str] = {}
        for record in sorted(self.orders.glob("tasks-*.json")):
            files = json.loads(record.read_text(encoding="utf-8"))
            over = self._look(files)
            found |= {name: file for name, file in files.items() if name not in over}
            if len(over) == len(files):
                for path in (*map(self.orders.joinpath, files.values()), record):
                    path.unlink(missing_ok=True)
        return found

    def adopt(self, groups: Sequence[Group]) -> dict[str, tuple[Group, ...]]:
        """Return the tasks of earlier calls that wait or run, with what of `groups` they have."""
        found = {}
        for name, file in self.live().items():
            orders = json.loads((self.orders / file).read_text(encoding="utf-8"))
            keys = {job.key for order in orders for job in jobs_of(order)}
            parts = (replace(group, jobs=tuple(job for job in group.jobs if job.key in keys)) for group in groups)
            found[name] = tuple(part for part in parts if part.jobs)
        return found

    def ended(self, tasks: Collection[str]) -> dict[str, Ending]:
        if tasks and time.monotonic() - self.asked >= _ASK_S:
            self.endings, self.asked = self._look(tasks), time.monotonic()
        return self.endings

    def _look(self, tasks: Collection[str]) -> dict[str, Ending]:
        states = _states({name.split("_")[0] for name in tasks})
        if states is None:
            return {}
        found = {name: states.get(name, "gone from the queue") for name in tasks}
        return {name: self._ending(name, state) for name, state in found.items() if state in _ENDED or name not in states}

    def _ending(self, name: str, state: str) -> Ending:
        text = f"task {name} of Slurm: {state}, see {self.site.out / 'slurm' / f'{name}_0_log.err'}"
        return Ending(text, again=state not in ("CANCELLED", "DEADLINE"))

    def stop(self, tasks: Collection[str]) -> None:
        unwanted = sorted(self.own.intersection(tasks))
        if unwanted:
            subprocess.run(["scancel", *unwanted], check=False, capture_output=True)  # noqa: S603, S607


def _submit(folder: Path, files: Sequence[Path], resources: Resources, threads: int) -> list[str]:
    """Return the names of the tasks that Slurm took, one per file, as one array."""
    import submitit

    variables = worker_environment(threads) | {"SRUN_CPUS_PER_TASK": str(threads)}  # srun has not heard of it since Slurm 22.05
    wishes = {"partition": resources.partition, "gpus_per_task": resources.gpus_per_task and int(resources.gpus_per_task)}
    try:
        slurm = submitit.SlurmExecutor(folder, max_num_timeout=_TIMEOUTS)
        slurm.update_parameters(
            job_name="adbench", time=resources.time or _TIME_MIN, cpus_per_task=threads,
            array_parallelism=resources.max_parallel or len(files), wckey=None,
            setup=[f"export {name}={value}" for name, value in variables.items()],
            **{name: value for name, value in wishes.items() if value is not None},
        )  # fmt: skip
        with redirect_stderr(StringIO()):  # what sbatch says is in the error, too
            return [str(job.job_id) for job in slurm.map_array(_Task(), [str(file) for file in files])]
    except (submitit.core.utils.FailedJobError, submitit.core.utils.FailedSubmissionError, OSError) as error:
        reason = " ".join(str(error).split())
        raise ClusterError(f"Slurm refuses the tasks: {reason}; see --partition, --time and --gpus-per-task") from error


def _states(arrays: Collection[str]) -> dict[str, str] | None:
    """Return the state of each task of these arrays that the queue still knows, or None if nobody answers."""
    command = ["squeue", "--noheader", "--array", "--states=all", "--format=%i %T", f"--jobs={','.join(sorted(arrays))}"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603
    if done.returncode and "Invalid job id" not in done.stderr:
        log.warning("Slurm's queue does not answer (%s); asked again", " ".join(done.stderr.split()))
        return None
    return dict(line.split() for line in done.stdout.splitlines() if len(line.split()) == 2)


def _largest_array() -> int:
    done = subprocess.run(["scontrol", "show", "config"], check=False, capture_output=True, text=True)  # noqa: S607
    found = re.search(r"MaxArraySize\s*=\s*(\d+)", done.stdout)
    return int(found[1]) - 1 if found else 1000
