"""Heartbeats of workers, and the state of sweeps, which is read from their results folder alone, from any machine.

RESULTS/running has one small file per running worker, which the worker keeps touching. This heartbeat is not a lock, so one that
a killed worker leaves behind blocks nothing. Heartbeats show `--status` what is running, let a second sweep begin with other
groups, and tell which job was running when a worker died.
"""

import json
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from adbench.core.errors import DataError
from adbench.core.files import unwritable
from adbench.sweep.results import ResultStore
from adbench.types import Job, digest

STATES = ("done", "running", "waiting", "skipped", "failed")
_BEAT_S, _STALE_S = 10, 60  # the clocks of machines that share a folder may differ by 50 s
_OLD_S = 3600  # after which the heartbeat of a dead worker is removed


@dataclass(frozen=True)
class Heartbeat:
    """A running worker; job: the key of the job that it is running, None while it extracts features."""

    group: str
    host: str
    pid: int
    started: float  # seconds since 1970
    job: str | None = None


def group_name(job: Job) -> str:
    """Return the name of a job's group in file names."""
    return digest(job.group)


@contextmanager
def heartbeat(out: Path, group: str) -> Iterator[Callable[[str], None]]:
    """Write a heartbeat of this process for a group; yield the function that sets the key of the running job."""
    own = Heartbeat(group, socket.gethostname(), os.getpid(), time.time())
    path = out / "running" / f"{group}.{own.host}.{own.pid}.json"
    _write(path, own)
    stop = threading.Event()

    def keep_touching() -> None:
        while not stop.wait(_BEAT_S):
            with suppress(OSError):
                path.touch()

    beat = threading.Thread(target=keep_touching, daemon=True)
    beat.start()
    try:
        yield lambda job: _write(path, replace(own, job=job))
    finally:
        stop.set()
        beat.join()
        path.unlink(missing_ok=True)


def heartbeats(out: Path) -> Iterator[tuple[Path, Heartbeat, bool]]:
    """Yield each heartbeat in the results folder `out`: its file, its content, and whether its worker lives."""
    for path in sorted((out / "running").glob("*.json")):
        with suppress(OSError, ValueError, TypeError):  # being written or removed: its worker has just started or ended
            found = Heartbeat(**json.loads(path.read_text(encoding="utf-8")))
            fresh = time.time() - path.stat().st_mtime < _STALE_S
            yield path, found, fresh and (found.host != socket.gethostname() or _exists(found.pid))


def busy_groups(out: Path) -> set[str]:
    """Return the names of the groups that living workers are running; remove old heartbeats of dead workers."""
    groups = set()
    for path, found, lives in heartbeats(out):
        if lives:
            groups.add(found.group)
        elif time.time() - path.stat().st_mtime > _OLD_S:
            path.unlink(missing_ok=True)
    return groups


def interrupted_jobs(out: Path, group: str) -> set[str]:
    """Return the keys of the jobs that were running when workers of a group ended; remove the heartbeats of these workers.

    All workers of a group on other machines count as ended, as this machine cannot check.
    """
    jobs = set()
    for path, found, lives in heartbeats(out):
        if found.group == group and not (lives and found.host == socket.gethostname()):
            jobs.add(found.job)
            path.unlink(missing_ok=True)
    return {job for job in jobs if job}


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError as error:
        return isinstance(error, PermissionError)
    return True


def _write(path: Path, content: Heartbeat) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(content)), encoding="utf-8")
    except OSError as error:
        raise unwritable(path, error) from error


def status(results: ResultStore, jobs: Sequence[Job]) -> dict[str, Any]:
    """Return the number of jobs in each state, in all and by group, and the running workers.

    Raises DataError if there are no jobs.
    """
    if not jobs:
        raise DataError(f"no sweep in {results.folder}: it holds no plan; give --out the folder of the sweep")
    living = [found for _, found, lives in heartbeats(results.folder) if lives]
    states = {result.job.key: str(result.status) for result in results.failures()}
    states |= {found.job: "running" for found in living if found.job} | dict.fromkeys(results.done(), "done")
    groups: dict[str, list[Job]] = {}
    for job in sorted(jobs, key=_group_order):
        groups.setdefault(group_name(job), []).append(job)
    counts = {name: Counter(states.get(job.key, "waiting") for job in own) for name, own in groups.items()}
    return {
        "planned": len(jobs),
        **{state: sum(count[state] for count in counts.values()) for state in STATES},
        "out": str(results.folder),
        "workers": [_worker(found, groups[found.group]) for found in living if found.group in groups],
        "groups": [_facts(own[0]) | {state: counts[name][state] for state in STATES} for name, own in groups.items()],
    }


def _group_order(job: Job) -> list[tuple[bool, Any]]:
    """Return the sort key of a job's group: sizes are numbers or texts."""
    return [(isinstance(value, str), value) for value in job.group]


def _facts(job: Job) -> dict[str, Any]:
    later = {name: value for name, value in job.record().items() if name in ("tile", "overlap", "rotations")}
    return {name: getattr(job, name) for name in ("category", "backbone", "weights", "image_size")} | later


def _worker(found: Heartbeat, jobs: list[Job]) -> dict[str, Any]:
    running = next((job for job in jobs if job.key == found.job), None)
    now = {name: getattr(running, name, None) for name in ("layer", "detector", "seed")}
    return {"host": found.host, "pid": found.pid, "seconds": time.time() - found.started} | _facts(jobs[0]) | now
