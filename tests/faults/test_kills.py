"""Killed, stopped and doubled sweeps lose nothing, repeat nothing that is done, and give the same bytes."""

import os
import signal
from pathlib import Path

import pytest
from conftest import Run
from kill_bench import Bench, all_gone

pytestmark = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="processes are found by /proc")
JOBS = 4


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("kills"), image_sizes=[64])


@pytest.fixture
def expected(bench: Bench, run: Run) -> dict[str, str]:
    """Metrics of a sweep that nothing disturbed, in this process."""
    assert run(*bench.arguments("expected")).code == 0
    return bench.metrics("expected")


def finished(bench: Bench, run: Run, name: str) -> dict[str, str]:
    """The same command once more: everything has a result afterward."""
    done = run(*bench.arguments(name))
    assert (done.code, done.json["done"] + done.json["cached"]) == (0, JOBS), done.err
    return bench.metrics(name)


@pytest.mark.parametrize("whom", ["parent", "worker"])
def test_a_kill_loses_nothing_and_leaves_nobody(bench: Bench, run: Run, expected: dict[str, str], whom: str) -> None:
    process = bench.start(whom)
    assert process.stderr.readline().startswith("all jobs: ")
    assert "[1/4]" in process.stderr.readline()
    workers = [pid for pid in bench.processes() if pid != process.pid]
    os.kill(process.pid if whom == "parent" else workers[0], signal.SIGKILL)
    process.communicate(timeout=600)
    assert all_gone(bench)
    assert finished(bench, run, whom) == expected


def test_two_sweeps_at_once_share_the_work(bench: Bench, run: Run, expected: dict[str, str]) -> None:
    other = bench.start("shared")
    assert finished(bench, run, "shared") == expected
    _, err = other.communicate(timeout=600)
    assert other.returncode == 0, err
    assert bench.metrics("shared") == expected


@pytest.mark.parametrize(("sent", "code", "name"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")])
def test_a_stopped_sweep_says_how_to_go_on(
    bench: Bench, run: Run, expected: dict[str, str], sent: int, code: int, name: str
) -> None:
    process = bench.start(name)
    assert process.stderr.readline().startswith("all jobs: ")
    assert "[1/4]" in process.stderr.readline()
    process.send_signal(sent)
    out, err = process.communicate(timeout=600)
    assert (process.returncode, out, "Traceback" in err) == (code, "", False)
    assert err.splitlines()[-1] == (
        f"adbench: error: {name}; finished work is kept, resume with: adbench {' '.join(bench.arguments(name))} --jobs 2"
    )
    assert all_gone(bench)
    assert len(bench.metrics(name)) >= 1
    assert finished(bench, run, name) == expected
