"""Heartbeats of workers: RESULTS/running has one small file per running worker, which the worker keeps touching.

A heartbeat is not a lock, so one that a killed worker leaves behind blocks nothing. Heartbeats show `--status` what is running,
let a second sweep begin with other groups, and tell which job was running when a worker died.
"""

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from adbench.core.files import unwritable
from adbench.types import Job, digest

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
    beat = threading.Thread(target=_beat, args=(path, stop), daemon=True)
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
            yield path, found, _lives(path, found)


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
    ended = [
        (path, found.job)
        for path, found, lives in heartbeats(out)
        if found.group == group and not (lives and found.host == socket.gethostname())
    ]
    for path, _ in ended:
        path.unlink(missing_ok=True)
    return {job for _, job in ended if job}


def _lives(path: Path, found: Heartbeat) -> bool:
    fresh = time.time() - path.stat().st_mtime < _STALE_S
    return fresh and (found.host != socket.gethostname() or _exists(found.pid))


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _write(path: Path, content: Heartbeat) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(content)), encoding="utf-8")
    except OSError as error:
        raise unwritable(path, error) from error


def _beat(path: Path, stop: threading.Event) -> None:
    while not stop.wait(_BEAT_S):
        with suppress(OSError):
            path.touch()
