"""The cache of compiled code never stops the work."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
from {module} import double
assert double(21) == 42
print(sum(double._cache_hits.values()))
"""
MODULE = """
from adbench.core.compiled import compiled

@compiled
def double(number):
    return 2 * number
"""


def hits(folder: Path) -> int:
    """Call the loop in a process of its own; return how often its machine code came from the cache."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), *sys.path])}
    code = CODE.format(module="loops_of_test")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    return int(done.stdout)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a compiled loop, whose machine code is cached."""
    (tmp_path / "loops_of_test.py").write_text(MODULE)
    assert hits(tmp_path) == 0
    assert hits(tmp_path) == 1
    return tmp_path


def test_a_cut_file_is_compiled_anew_and_mended(folder: Path) -> None:
    for suffix, size in ((".nbi", 0), (".nbc", 60), (".nbi", 60), (".nbc", 500)):
        (path,) = folder.rglob(f"*{suffix}")
        path.write_bytes(path.read_bytes()[:size])
        assert hits(folder) == 0, (suffix, size)
        assert hits(folder) == 1, (suffix, size)


def test_a_cache_that_cannot_be_written_stops_nothing(folder: Path) -> None:
    (cache,) = folder.rglob("__pycache__")
    for path in cache.glob("*.nb?"):
        path.unlink()
        path.mkdir()  # where the file is to be written
    assert hits(folder) == 0
