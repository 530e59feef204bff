"""Heartbeats of workers: there while they run, recognized as dead, and never in the way."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from adbench.core.errors import DataError
from adbench.sweep.heartbeat import busy_groups, heartbeat, heartbeats, interrupted_jobs


def leave(out: Path, host: str | None = None, age: float = 0, job: str | None = "job") -> Path:
    """A heartbeat whose process has ended."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    path = out / "running" / f"group.{ended.pid}.json"
    path.parent.mkdir(exist_ok=True)
    content = {"group": "group", "host": host or socket.gethostname(), "pid": ended.pid, "started": 0.0, "job": job}
    path.write_text(json.dumps(content))
    os.utime(path, (path.stat().st_mtime - age,) * 2)
    return path


def test_a_heartbeat_names_the_worker_and_its_job(tmp_path: Path) -> None:
    with heartbeat(tmp_path, "group") as at:
        assert busy_groups(tmp_path) == {"group"}
        at("key")
        [(_, found, lives)] = heartbeats(tmp_path)
        assert (found.group, found.host, found.pid, found.job) == ("group", socket.gethostname(), os.getpid(), "key")
        assert lives
    assert list(heartbeats(tmp_path)) == []


@pytest.mark.parametrize(("host", "age", "lives"), [(None, 0, False), ("other", 0, True), ("other", 61, False)])
def test_a_killed_worker_is_known_at_once_here_and_after_a_minute_elsewhere(
    tmp_path: Path, host: str | None, age: float, lives: bool
) -> None:
    leave(tmp_path, host, age)
    assert busy_groups(tmp_path) == ({"group"} if lives else set())


def test_the_job_that_a_dead_worker_ran_is_returned_once(tmp_path: Path) -> None:
    leave(tmp_path)
    leave(tmp_path, host="other", job="another")
    leave(tmp_path, job=None)
    assert interrupted_jobs(tmp_path, "elsewhere") == set()
    assert interrupted_jobs(tmp_path, "group") == {"job", "another"}
    assert interrupted_jobs(tmp_path, "group") == set()


def test_a_living_worker_is_not_interrupted(tmp_path: Path) -> None:
    with heartbeat(tmp_path, "group") as at:
        at("key")
        assert interrupted_jobs(tmp_path, "group") == set()
        assert busy_groups(tmp_path) == {"group"}


def test_old_heartbeats_are_removed_and_damaged_ones_skipped(tmp_path: Path) -> None:
    old, young = leave(tmp_path, age=4000), leave(tmp_path)
    (tmp_path / "running" / "damaged.json").write_text('{"group')
    assert busy_groups(tmp_path) == set()
    assert (old.exists(), young.exists()) == (False, True)


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "running").write_text("")
    with (
        pytest.raises(DataError, match=r"cannot write .*/running/group\..*: .* is a file; name a folder"),
        heartbeat(tmp_path, "group"),
    ):
        pass
