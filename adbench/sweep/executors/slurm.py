"""Runs groups as tasks of Slurm job arrays, submitted by submitit. What is done is read from the result files.

A task that is preempted, runs out of time or loses its node is queued again; finished jobs are not repeated. RESULTS/orders has
the messages of the tasks and the tasks' names, so that the same command, run again, follows the tasks in the queue.
Other settings of Slurm are made by its own environment variables (SBATCH_ACCOUNT, SBATCH_QOS ...).
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
from dataclasses import dataclass, field
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any
from uuid import uuid4

from adbench.core.errors import ClusterError, UsageError
from adbench.core.files import write_text
from adbench.core.subprocess import default_threads
from adbench.sweep.executors import Executor, Resources, Site, register
from adbench.sweep.plan import Group, keys_of, with_keys
from adbench.sweep.results import ResultStore
from adbench.sweep.workers import Ending, follow, jobs_of, run_task, task_message, worker_environment
from adbench.types import Result

log = logging.getLogger("adbench")
_TIME_MIN = 240  # default time limit of a task
_TIMEOUTS = 10  # number of times that a task may reach it and go on
_ASK_S = 5.0  # between two queries of the queue
_ENDED = {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "TIMEOUT"}


@register("slurm")
class Slurm(Executor):
    """A Slurm cluster; this machine has its commands and shares data, cache and results with its nodes."""

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
        """Submit the groups that are not in the queue from an earlier call, and follow all unless `no_wait`."""
        tasks = SlurmTasks(site, self.resources)
        running = tasks.adopt(groups)
        new = with_keys(groups, keys_of(groups) - {key for own in running.values() for key in keys_of(own)})
        if self.resources.no_wait:
            ResultStore(site.out).forget_failures(keys_of(new))
            tasks.start(new)
            return
        yield from follow(tasks, new, site, running)
        tasks.live()  # deletes the files of ended tasks


class RunMessages:
    """Runs the messages in a file. submitit pickles its name and the file's path."""

    def __call__(self, path: str) -> None:
        for message in json.loads(Path(path).read_text(encoding="utf-8")):
            for _ in run_task(message):
                pass

    def checkpoint(self, path: str) -> Any:
        """Return the submission after a preemption: the same, as finished jobs are not repeated."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, path)


@dataclass
class SlurmTasks:
    """A pool of Slurm tasks, named like 17_3 or 17. `stop` cancels only those that this call has submitted."""

    site: Site
    resources: Resources
    size: int = 1 << 30  # Slurm itself applies --max-parallel
    pause: float = 1.0
    patience: float = 10.0
    own: set[str] = field(default_factory=set)
    asked: float = float("-inf")
    endings: dict[str, Ending] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        return self.site.out / "orders"

    def start(self, groups: Sequence[Group]) -> dict[str, tuple[Group, ...]]:
        if not groups:
            return {}
        share = -(-len(groups) // _largest_array())
        parts = [tuple(groups[i : i + share]) for i in range(0, len(groups), share)]
        files = [(self.folder / f"{uuid4().hex}.json").absolute() for _ in parts]
        for file, part in zip(files, parts, strict=True):
            write_text(file, json.dumps([task_message(group, self.site.workspace, self.site.out) for group in part]))
        names = submit(self.site.out / "slurm", files, self.resources, default_threads(self.site.workspace.memo))
        record = {name: file.name for name, file in zip(names, files, strict=True)}
        write_text(self.folder / f"tasks-{names[0].split('_')[0]}.json", json.dumps(record))
        self.own.update(names)
        return dict(zip(names, parts, strict=True))

    def live(self) -> dict[str, str]:
        """Return the tasks that wait or run, each with the name of its file; delete the files of ended ones."""
        found: dict[str, str] = {}
        for record in sorted(self.folder.glob("tasks-*.json")):
            files = json.loads(record.read_text(encoding="utf-8"))
            ended = self._query(files)
            found |= {name: file for name, file in files.items() if name not in ended}
            if len(ended) == len(files):
                for path in (*map(self.folder.joinpath, files.values()), record):
                    path.unlink(missing_ok=True)
        return found

    def adopt(self, groups: Sequence[Group]) -> dict[str, tuple[Group, ...]]:
        """Return the tasks of earlier calls that wait or run, each with its part of `groups`."""
        found = {}
        for name, file in self.live().items():
            messages = json.loads((self.folder / file).read_text(encoding="utf-8"))
            found[name] = with_keys(groups, {job.key for message in messages for job in jobs_of(message)})
        return found

    def ended(self, tasks: Collection[str]) -> dict[str, Ending]:
        if tasks and time.monotonic() - self.asked >= _ASK_S:
            self.endings, self.asked = self._query(tasks), time.monotonic()
        return self.endings

    def _query(self, tasks: Collection[str]) -> dict[str, Ending]:
        states = _states({name.split("_")[0] for name in tasks})
        if states is None:
            return {}
        found = {}
        for name in tasks:
            state = states.get(name, "gone from the queue")
            if name not in states or state in _ENDED:
                text = f"task {name} of Slurm: {state}, see {self.site.out / 'slurm' / f'{name}_0_log.err'}"
                found[name] = Ending(text, again=state not in ("CANCELLED", "DEADLINE"))
        return found

    def stop(self, tasks: Collection[str]) -> None:
        unwanted = sorted(self.own.intersection(tasks))
        if unwanted:
            subprocess.run(["scancel", *unwanted], check=False, capture_output=True)  # noqa: S603, S607


def submit(folder: Path, files: Sequence[Path], resources: Resources, threads: int) -> list[str]:
    """Submit one array with a task per file; return the names of the tasks."""
    import submitit

    # since Slurm 22.05 srun ignores --cpus-per-task of sbatch
    variables = worker_environment(threads) | {"SRUN_CPUS_PER_TASK": str(threads)}
    options = {"partition": resources.partition, "gpus_per_task": resources.gpus_per_task and int(resources.gpus_per_task)}
    try:
        slurm = submitit.SlurmExecutor(folder, max_num_timeout=_TIMEOUTS)
        slurm.update_parameters(
            job_name="adbench", time=resources.time or _TIME_MIN, cpus_per_task=threads,
            array_parallelism=resources.max_parallel or len(files), wckey=None,
            setup=[f"export {name}={value}" for name, value in variables.items()],
            **{name: value for name, value in options.items() if value is not None},
        )  # fmt: skip
        with redirect_stderr(StringIO()):  # the error has the messages of sbatch
            return [str(job.job_id) for job in slurm.map_array(RunMessages(), [str(file) for file in files])]
    except (submitit.core.utils.FailedJobError, submitit.core.utils.FailedSubmissionError, OSError) as error:
        reason = " ".join(str(error).split())
        raise ClusterError(f"Slurm refuses the tasks: {reason}; see --partition, --time and --gpus-per-task") from error


def _states(arrays: Collection[str]) -> dict[str, str] | None:
    """Return the state of each task of these arrays that is in the queue, or None if the queue does not answer."""
    command = ["squeue", "--noheader", "--array", "--states=all", "--format=%i %T", f"--jobs={','.join(sorted(arrays))}"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603
    if done.returncode and "Invalid job id" not in done.stderr:
        log.warning("Slurm's queue does not answer (%s); trying again", " ".join(done.stderr.split()))
        return None
    return dict(line.split() for line in done.stdout.splitlines() if len(line.split()) == 2)


def _largest_array() -> int:
    done = subprocess.run(["scontrol", "show", "config"], check=False, capture_output=True, text=True)  # noqa: S607
    found = re.search(r"MaxArraySize\s*=\s*(\d+)", done.stdout)
    return int(found[1]) - 1 if found else 1000
