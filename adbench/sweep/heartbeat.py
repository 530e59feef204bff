"""Who is at work right now: RESULTS/running has one small file per worker, touched while the worker lives.

A sign is no lock. Nobody waits for one, so that one left behind by a killed worker blocks nothing: it tells `--status`
what runs, makes a second sweep begin with other groups, and tells at which job a worker died.
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

_BEAT_S, _STALE_S = 10, 60  # the clocks of machines that share a folder may differ by the difference
_OLD_S = 3600


@dataclass(frozen=True)
class Heartbeat:
    """What a worker says of itself; `job` is the key of the job that it is at, None while it extracts features."""

    group: str
    host: str
    pid: int
    started: float  # seconds since 1970
    job: str | None = None


def group_name(job: Job) -> str:
    """Return the short name of the group that a job belongs to."""
    return digest(job.group)


@contextmanager
def heartbeat(out: Path, group: str) -> Iterator[Callable[[str], None]]:
    """Show that this process is at work on a group; yields the function that names the job it is at."""
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
    """Yield each sign in the results folder `out` with its file, and whether its worker lives."""
    for path in sorted((out / "running").glob("*.json")):
        with suppress(OSError, ValueError, TypeError):  # gone, or being written: its worker has just begun or ended
            found = Heartbeat(**json.loads(path.read_text(encoding="utf-8")))
            yield path, found, _lives(path, found)


def busy(out: Path) -> set[str]:
    """Return the groups that a living worker is at; old signs of dead ones are removed."""
    groups = set()
    for path, found, lives in heartbeats(out):
        if lives:
            groups.add(found.group)
        elif time.time() - path.stat().st_mtime > _OLD_S:
            path.unlink(missing_ok=True)
    return groups


def died_at(out: Path, group: str) -> set[str]:
    """Return the keys of the jobs at which the ended workers of a group were; their signs are removed.

    A sign of another machine counts as an ended worker's however fresh it is: this machine cannot look.
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
