"""Where the groups of a sweep run; one file each. The same jobs give the same bytes of metrics under every executor."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from adbench.pipeline import Workplace
from adbench.registry import Registry
from adbench.sweep import Group
from adbench.types import Result


@dataclass(frozen=True)
class Site:
    """What every executor needs: where results go, this process's workplace, how many workers at most."""

    out: Path
    place: Workplace
    workers: int = 1


class Executor(Protocol):
    """The contract: run every group, write each result into `site.out`, yield it; never raise for a failed job."""

    def __call__(self, groups: tuple[Group, ...], site: Site) -> Iterator[Result]: ...


EXECUTORS: Registry[Executor] = Registry("executor", __name__)
register = EXECUTORS.register
