"""The cache of compiled code never stops the work."""

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

CODE = """
from loops_of_test import double
assert double(21) == 42
print(sum(double._cache_hits.values()))
"""
MODULE = """
from adbench.core.compiled import compiled

@compiled
def double(number):
    return 2 * number
"""
NAME = "loops_of_test"


def hits_elsewhere(folder: Path) -> int:
    """Call the loop in a process of its own; return how often its machine code came from the cache."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), *sys.path])}
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    return int(done.stdout)


def hits() -> int:
    """Import the module anew and call its loop; return how often its machine code came from the cache, as in a new process."""
    sys.modules.pop(NAME, None)
    module = import_module(NAME)
    assert module.double(21) == 42
    return sum(module.double._cache_hits.values())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a compiled loop, whose machine code is cached."""
    (tmp_path / f"{NAME}.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    assert hits() == 0
    assert hits() == 1
    yield tmp_path
    del sys.modules[NAME]


def test_a_later_process_finds_the_machine_code(folder: Path) -> None:
    assert hits_elsewhere(folder) == 1


def test_a_cut_file_is_compiled_anew_and_mended(folder: Path) -> None:
    for suffix, size in ((".nbi", 0), (".nbc", 60), (".nbi", 60), (".nbc", 500)):
        (path,) = folder.rglob(f"*{suffix}")
        path.write_bytes(path.read_bytes()[:size])
        assert hits() == 0, (suffix, size)
        assert hits() == 1, (suffix, size)


def test_a_cache_that_cannot_be_written_stops_nothing(folder: Path) -> None:
    (cache,) = folder.rglob("__pycache__")
    for path in cache.glob("*.nb?"):
        path.unlink()
        path.mkdir()  # where the file is to be written
    assert hits() == 0
