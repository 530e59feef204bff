"""Some of the bad inputs of the bench, which knows over four hundred: run it whole with python tests/faults/bench.py."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from bench import all_cases
from cases import Case, cut, flip, nothing

EVERY = 86


@pytest.mark.skipif(not hasattr(os, "fork"), reason="each case is a forked process, which this system lacks")
def test_bad_inputs_end_as_they_should() -> None:
    bench = Path(__file__).with_name("bench.py")
    done = subprocess.run([sys.executable, bench, "--every", str(EVERY)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_there_are_four_hundred() -> None:
    assert len(all_cases()) >= 400


@pytest.mark.parametrize(
    ("code", "err", "problem"),
    [
        (3, "adbench: error: a.png\n", None),
        (1, "Traceback (most recent call last)\nValueError: a.png\n", "a traceback: ValueError: a.png"),
        (1, "adbench: error: a.png\n", "exit code 1, not 3: adbench: error: a.png"),
        (3, "adbench: error: a.png\nadbench: error: b\n", "2 lines of error: adbench: error: a.png\nadbench: error: b"),
        (3, "adbench: error: b.png\n", "no 'a.png' in: adbench: error: b.png"),
    ],
)
def test_the_bench_sees_what_is_wrong(code: int, err: str, problem: str | None) -> None:
    assert Case("", nothing, (), 3, "a.png").problem(code, "", err) == problem


def test_damage_changes_files(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"0123456789")
    flip("*.bin", 0.5)(tmp_path)
    assert (tmp_path / "a.bin").read_bytes() == b"0123446789"
    cut("*.bin", 0.5)(tmp_path)
    assert (tmp_path / "a.bin").read_bytes() == b"01234"
    with pytest.raises(FileNotFoundError, match="finds no"):
        cut("*.txt", 0.5)(tmp_path)
