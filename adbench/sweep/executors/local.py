"""Runs groups on this machine: one after the other in this process, or in worker processes."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from adbench.core.environment import check_device
from adbench.core.errors import UsageError
from adbench.sweep.executors import Executor, Resources, Site, register
from adbench.sweep.plan import Group
from adbench.sweep.results import ResultStore
from adbench.sweep.workers import Ending, follow, next_groups, task_message
from adbench.types import Result

_END_S = 2  # between the request to end and the kill


@register("local")
class Local(Executor):
    """This machine. If a worker dies, the job that it was running fails and the other workers go on."""

    takes = ("jobs", "gpus", "gpu_slots")

    @property
    def elsewhere(self) -> bool:
        """Whether there are several workers."""
        return len(devices(self.resources, "auto")) > 1

    def check(self) -> None:
        """Raise UsageError for more workers than slots, and for a GPU that this machine lacks."""
        for device in devices(self.resources, "auto"):
            check_device(device)

    def run(self, groups: tuple[Group, ...], site: Site) -> Iterator[Result]:
        """Run the groups, each worker on its own device slot."""
        slots = devices(self.resources, site.workspace.device)
        if not groups:
            return check_device(slots[0])
        if len(slots) > 1 and len(groups) > 1:
            yield from follow(_Workers(site, slots), groups, site)
            return
        from adbench.sweep.pipeline import run_group

        runtime, waiting = replace(site.workspace, device=slots[0]).runtime(), list(groups)
        while waiting:
            for group in next_groups(waiting, 1, site):
                yield from run_group(runtime, group, ResultStore(site.out))


def devices(resources: Resources, device: str) -> list[str]:
    """Return the device of each worker; raise UsageError if there are fewer slots than workers."""
    gpus, jobs = resources.gpus, resources.jobs
    if gpus is None and resources.gpu_slots is None:
        return [device] * (jobs or 1)
    if device not in ("auto", "cuda"):
        raise UsageError(f"--device {device} does not go with --gpus or --gpu-slots; leave one of them out")
    if gpus is None:
        import torch

        gpus = tuple(range(torch.cuda.device_count()))
    slots = [f"cuda:{gpu}" for _ in range(resources.gpu_slots or 1) for gpu in gpus]
    if not slots:
        raise UsageError("--gpu-slots: this machine has no GPU; use --jobs for workers on the CPU")
    if jobs and jobs > len(slots):
        raise UsageError(f"--jobs {jobs}: there are {len(slots)} slots on GPUs; more of them by --gpu-slots K per GPU")
    return slots[:jobs]


@dataclass
class _Worker:
    process: subprocess.Popen[bytes]
    device: str
    task: int = 0  # its last one


@dataclass
class _Workers:
    """A pool of worker processes, one per device slot. They read messages from stdin and end when it closes, never orphaned."""

    site: Site
    slots: list[str]
    pause: float = 0.05
    patience: float = 0
    workers: list[_Worker] = field(default_factory=list)
    idle: list[_Worker] = field(default_factory=list)
    count: int = 0  # tasks so far

    @property
    def size(self) -> int:
        return len(self.slots)

    def start(self, groups: Sequence[Group]) -> dict[int, tuple[Group, ...]]:
        tasks: dict[int, tuple[Group, ...]] = {}
        for group in groups:
            worker = self.idle.pop() if self.idle else self._start_worker()
            self.count += 1
            worker.task, tasks[self.count] = self.count, (group,)
            message = task_message(group, replace(self.site.workspace, device=worker.device), self.site.out)
            assert worker.process.stdin  # noqa: S101  a pipe was asked for
            with suppress(BrokenPipeError):  # it has died: `ended` will report it
                worker.process.stdin.write(json.dumps(message).encode() + b"\n")
                worker.process.stdin.flush()
        return tasks

    def _start_worker(self) -> _Worker:
        slots = list(self.slots)
        for worker in self.workers:
            slots.remove(worker.device)
        command = [sys.executable, "-m", "adbench.cli.worker"]
        if logging.getLogger("adbench").isEnabledFor(logging.DEBUG):
            command.append("--verbose")
        # in a new session, so that only the parent gets the terminal's Ctrl-C; it ends its workers
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True)  # noqa: S603
        self.workers.append(worker := _Worker(process, slots[0]))
        return worker

    def ended(self, tasks: Collection[int]) -> dict[int, Ending]:
        codes = {worker.task: worker.process.poll() for worker in self.workers}
        self.workers = [worker for worker in self.workers if codes[worker.task] is None]
        self.idle = [worker for worker in self.workers if worker.task not in tasks]
        return {task: Ending(_how(code)) for task, code in codes.items() if code is not None}

    def stop(self, tasks: Collection[int]) -> None:
        for worker in self.workers:
            worker.process.terminate()
        for worker in self.workers:
            try:
                worker.process.wait(_END_S)
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()


def _how(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
