"""Runs groups as tasks of a running Ray cluster, each with a share of a GPU. What is done is read from the result files.

If a worker or a node is lost, Ray starts its task again; finished jobs are not repeated.
"""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from adbench.core import plugins
from adbench.core.errors import ClusterError, UsageError
from adbench.core.subprocess import default_threads
from adbench.sweep.executors import Executor, Site, register
from adbench.sweep.plan import Group
from adbench.sweep.workers import Ending, follow, run_task, task_message, worker_environment
from adbench.types import Result

_ANSWER_S = 10  # timeout of a connection
_RETRIES = 3  # of a task whose worker or node is lost


@register("ray")
class Ray(Executor):
    """A Ray cluster whose nodes share data, cache and results."""

    takes = ("gpus_per_task", "max_parallel", "ray_address")

    def check(self) -> None:
        if find_spec("ray") is None:
            raise ClusterError("--executor ray needs Ray; install it: pip install 'adbench-vision[ray]'")
        gpus = self.resources.gpus_per_task
        if gpus and gpus > 1 and gpus != int(gpus):
            raise UsageError(f"--gpus-per-task {gpus}: write a part of one GPU, such as 0.5, or a whole number")

    def run(self, groups: tuple[Group, ...], site: Site) -> Iterator[Result]:
        """Run the groups on the cluster, as many at a time as fit. Meanwhile stdout is redirected to stderr."""
        with redirect_stdout(sys.stderr):  # Ray reports lost workers on stdout, which is for the answer
            import ray

            _connect(self.resources.ray_address)
            try:
                threads = default_threads(site.workspace.memo)
                largest = max(node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"])
                task = ray.remote(_run).options(
                    num_cpus=min(threads, largest), num_gpus=self.resources.gpus_per_task or 0, max_retries=_RETRIES,
                    runtime_env={"env_vars": environment_of_tasks(threads)},
                )  # fmt: skip
                yield from follow(_Tasks(site, task, self.resources.max_parallel or 1 << 30), groups, site)
            finally:
                ray.shutdown()


def environment_of_tasks(threads: int) -> dict[str, str]:
    """Return the variables of a task, which inherits none from this process, with the absolute paths of plug-ins."""
    files = os.environ.get(plugins.VARIABLE)  # made absolute when the plug-ins were loaded
    return worker_environment(threads) | ({plugins.VARIABLE: files} if files else {})


def _connect(address: str | None) -> None:
    import ray

    handler = signal.getsignal(signal.SIGTERM)
    try:
        found = re.fullmatch(r"(?:ray://)?([^/]+):(\d+)", address or os.environ.get("RAY_ADDRESS", ""))
        if found:  # if nothing listens there, fail at once; Ray itself would retry for many minutes
            socket.create_connection((found[1], int(found[2])), timeout=_ANSWER_S).close()
        ray.init(address or "auto", log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ClusterError(
            f"no Ray cluster at {address or 'auto'} ({reason}); start one with 'ray start --head', or give --ray-address"
        ) from error
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)  # Ray has replaced it


def _run(message: str) -> None:
    for _ in run_task(json.loads(message)):
        pass


@dataclass
class _Tasks:
    """A pool of Ray tasks, named by their references."""

    site: Site
    task: Any
    size: int
    pause: float = 0.5
    patience: float = 10.0

    def start(self, groups: Sequence[Group]) -> dict[Any, tuple[Group, ...]]:
        messages = (json.dumps(task_message(group, self.site.workspace, self.site.out)) for group in groups)
        return {self.task.remote(message): (group,) for message, group in zip(messages, groups, strict=True)}

    def ended(self, tasks: Collection[Any]) -> dict[Any, Ending]:
        import ray

        ready, _ = ray.wait(list(tasks), num_returns=len(tasks), timeout=0) if tasks else ([], [])
        return {reference: Ending(_how(reference)) for reference in ready}

    def stop(self, tasks: Collection[Any]) -> None:
        import ray

        for reference in tasks:
            ray.cancel(reference, force=True)


def _how(reference: Any) -> str:
    import ray

    try:
        ray.get(reference)
    except ray.exceptions.RayError as error:
        return f"Ray: {type(error).__name__}"
    return "Ray: finished"
