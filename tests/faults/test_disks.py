"""A disk that is full or cannot be written: one line says so, nothing is half written, room brings the same bytes."""

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]


class Disk:
    """A small file system of its own at `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def mount(self, options: str) -> bool:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.path)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    made = Disk(tmp_path / "disk")
    made.path.mkdir()
    try:
        possible = made.mount("size=1m")
    except FileNotFoundError:
        possible = False
    if not possible:
        pytest.skip("this user may not mount a small file system")
    yield made
    subprocess.run(["umount", str(made.path)], check=True)


@pytest.fixture
def sweep(parts: Path, tmp_path: Path) -> tuple[Any, ...]:
    spec = tmp_path / "spec.yaml"
    spec.write_text(
        "backbones: [resnet18]\nweights: [random]\nlayers: [layer2, layer3]\nimage_sizes: [64]\neval_size: 64\n"
        "detectors: [patchcore, mahalanobis]\nseeds: [0]\n"
    )
    return ("sweep", "--spec", spec, "--data", parts, "--category", "alpha")


def metrics(folder: Path) -> dict[str, str]:
    """Return the bytes of the metrics of each finished job."""
    records = [json.loads(path.read_text()) for path in folder.glob("*.json")]
    return {record["key"]: json.dumps(record["metrics"]) for record in records}


def fill(folder: Path, left: int) -> Path:
    """Write a file that leaves so many bytes free."""
    import shutil

    ballast = folder / "ballast"
    ballast.write_bytes(bytes(max(0, shutil.disk_usage(folder).free - left)))
    return ballast


@pytest.mark.parametrize("left", [0, 40_000, 80_000])
def test_results_that_find_no_room_come_later(run: Run, sweep: tuple[Any, ...], disk: Disk, left: int) -> None:
    run(*sweep, "--out", "expected")
    ballast = fill(disk.path, left)
    out = disk.path / "out"
    stopped = run(*sweep, "--out", out)
    assert stopped.code == 3
    errors = [line for line in stopped.err.splitlines() if line.startswith("adbench: error")]
    assert len(errors) == 1
    assert "No space left on device; choose another folder or free it" in errors[0]
    before = metrics(out)
    assert before.items() <= metrics(Path("expected")).items()
    ballast.unlink()
    assert run(*sweep, "--out", out, "--json").json["cached"] == len(before)
    assert metrics(out) == metrics(Path("expected"))
    assert not [path for path in out.rglob("*") if path.name.startswith(".")]  # nothing half written is left


def test_features_that_find_no_room_are_failed_jobs(run: Run, sweep: tuple[Any, ...], disk: Disk, cache: Path) -> None:
    run(*sweep, "--out", "expected")
    ballast = fill(disk.path, 20_000)
    stopped = run(*sweep, "--cache", disk.path, "--out", "out", "--json")
    assert stopped.code == 1
    assert stopped.json["failed"] == 4
    assert "No space left on device; choose another folder or free it" in stopped.err
    assert not list(disk.path.rglob("*.npy"))
    ballast.unlink()
    assert run(*sweep, "--cache", disk.path, "--out", "out", "--json").json["done"] == 4
    assert metrics(Path("out")) == metrics(Path("expected"))


def test_a_folder_that_is_read_only(run: Run, sweep: tuple[Any, ...], disk: Disk) -> None:
    out = disk.path / "out"
    run(*sweep, "--out", out, "--json")
    before = metrics(out)
    assert disk.mount("remount,ro")
    assert run(*sweep, "--out", out, "--json").json["cached"] == 4  # nothing is to be written
    refused = run(*sweep, "--out", out, "--set", "seeds=1")
    assert refused.code == 3
    assert "Read-only file system; choose another folder or free it" in refused.err
    assert run("report", out, "--format", "csv").code == 0
    assert metrics(out) == before
