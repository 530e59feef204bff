"""Executors: where the groups of a sweep run; one file each. The same jobs give the same metrics, bit by bit, under each."""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import ClassVar

from adbench.core.errors import UsageError
from adbench.core.registry import Registry
from adbench.sweep.plan import Group
from adbench.sweep.workspace import Workspace
from adbench.types import Result


@dataclass(frozen=True)
class Resources:
    """The resources that a user grants; None = option not given. Each field is an option of `adbench sweep`."""

    jobs: int | None = None  # worker processes
    gpus: tuple[int, ...] | None = None  # numbers of this machine's GPUs
    gpu_slots: int | None = None  # workers per GPU
    partition: str | None = None
    time: int | None = None  # minutes per task
    gpus_per_task: float | None = None
    max_parallel: int | None = None  # tasks at a time
    ray_address: str | None = None
    no_wait: bool | None = None


@dataclass(frozen=True)
class Site:
    """Where a sweep writes its results, and its workspace."""

    out: Path
    workspace: Workspace


@dataclass(frozen=True)
class Executor:
    """The contract of an executor. takes: names of the resources that it uses."""

    takes: ClassVar[tuple[str, ...]] = ()
    resources: Resources

    @property
    def elsewhere(self) -> bool:
        """Whether other processes compute, so that this one need not load torch."""
        return True

    def check(self) -> None:
        """Raise UsageError for impossible resources, ClusterError if a package or a command is missing."""

    def run(self, groups: tuple[Group, ...], site: Site) -> Iterator[Result]:
        """Run every group; write each result into `site.out` and yield it. A failed job is a result, not an error."""
        raise NotImplementedError


EXECUTORS: Registry[type[Executor]] = Registry("executor", __name__)
register = EXECUTORS.register


def choose_executor(name: str, resources: Resources = Resources()) -> Executor:
    """Return the executor called `name` after its checks; raise UsageError for a resource that it does not take."""
    kind = EXECUTORS.get(name)
    for field in fields(resources):
        if getattr(resources, field.name) is not None and field.name not in kind.takes:
            takers = [other for other, item in sorted(EXECUTORS.items().items()) if field.name in item.takes]
            option = f"--{field.name.replace('_', '-')}"
            raise UsageError(f"{option} is not for --executor {EXECUTORS.canonical(name)}; use {' or '.join(takers)}")
    chosen = kind(resources)
    chosen.check()
    return chosen
