"""The executor slurm on a real Slurm of one node that is started for these tests. `make test-cluster` runs them."""

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster_study import Sweeps, kill, summary, until
from scratch_slurm import missing, scratch_slurm

pytest.importorskip("submitit", reason="submitit is not installed")
pytestmark = [pytest.mark.cluster, pytest.mark.skipif(missing() is not None, reason=str(missing()))]


@pytest.fixture(scope="module")
def sweeps(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sweeps]:
    folder = tmp_path_factory.mktemp("slurm")
    with scratch_slurm(folder / "daemons") as environment:
        yield Sweeps(folder, environment)


@pytest.fixture(scope="module")
def reference(sweeps: Sweeps) -> dict[str, str]:
    assert sweeps.run("reference")["done"] == 6
    return sweeps.metrics("reference")


def queue(sweeps: Sweeps, what: str = "%i %T") -> list[str]:
    command = ["squeue", "--noheader", "--array", f"--format={what}"]
    return subprocess.run(command, env=sweeps.environment, check=True, capture_output=True, text=True).stdout.splitlines()


def test_the_quickstart_has_the_bytes_of_a_local_sweep(sweeps: Sweeps) -> None:
    quickstart = ["--preset", "quickstart"]
    for name, options in (
        ("one", ["--jobs", 1]),
        ("two", ["--jobs", 2]),
        ("slurm", ["--executor", "slurm", "--time", "1:00:00"]),
    ):
        assert sweeps.run(name, *options, study=quickstart)["done"] == 20
    assert sweeps.metrics("slurm") == sweeps.metrics("two") == sweeps.metrics("one")
    assert len(sweeps.metrics("one")) == 20


def test_a_killed_worker_costs_its_job_and_the_rest_go_on(sweeps: Sweeps, reference: dict[str, str]) -> None:
    sweep = sweeps.start("killed", "--executor", "slurm")
    kill(sweeps.worker_at("killed", "fastflow"))
    first = summary(sweep, code=1)
    assert (first["done"], first["failed"]) == (5, 1)
    assert sweeps.run("killed", "--executor", "slurm")["cached"] == 5
    assert sweeps.metrics("killed") == reference


def test_a_preempted_task_is_queued_again_and_goes_on(sweeps: Sweeps, reference: dict[str, str]) -> None:
    sweeps.run("preempted", "--executor", "slurm", "--partition", "low", "--no-wait")
    first = sweeps.worker_at("preempted", "fastflow")
    urgent = ["sbatch", "--partition=high", "--exclusive", "--output=/dev/null", "--wrap=sleep 3"]
    subprocess.run(urgent, env=sweeps.environment, check=True, capture_output=True)
    sweeps.worker_at("preempted", "fastflow", other_than=first)
    assert sweeps.run("preempted", "--executor", "slurm")["failed"] == 0
    assert sweeps.metrics("preempted") == reference
    assert len(list((sweeps.folder / "preempted" / "slurm").glob("*_submission.sh"))) == 1


def test_a_task_that_is_told_that_its_time_is_over_goes_on(sweeps: Sweeps, reference: dict[str, str]) -> None:
    sweep = sweeps.start("late", "--executor", "slurm", "--max-parallel", 1)
    sweeps.worker_at("late", "fastflow")
    tasks = [line.split()[0] for line in queue(sweeps) if line.endswith("RUNNING")]
    subprocess.run(["scancel", "--signal=USR2", *tasks], env=sweeps.environment, check=True)
    assert summary(sweep)["done"] == 6
    assert sweeps.metrics("late") == reference


def test_an_interrupt_takes_the_tasks_out_of_the_queue(sweeps: Sweeps, reference: dict[str, str]) -> None:
    sweep = sweeps.start("stopped", "--executor", "slurm")
    sweeps.worker_at("stopped", "patchcore")
    sweep.send_signal(signal.SIGINT)
    assert "interrupted; finished work is kept, resume with: adbench sweep --spec" in summary(sweep, code=130)["err"]
    until(lambda: not queue(sweeps))
    assert sweeps.run("stopped", "--executor", "slurm")["failed"] == 0
    assert sweeps.metrics("stopped") == reference


def test_a_killed_parent_is_followed_by_the_same_command(sweeps: Sweeps, reference: dict[str, str]) -> None:
    sweep = sweeps.start("orphaned", "--executor", "slurm")
    sweeps.worker_at("orphaned", "patchcore")
    kill(sweep.pid)
    sweep.communicate()
    again = sweeps.run("orphaned", "--executor", "slurm")
    assert again["done"] + again["cached"] == 6
    assert sweeps.metrics("orphaned") == reference
    assert len(list((sweeps.folder / "orphaned" / "slurm").glob("*_submission.sh"))) == 1


def test_a_refusal_is_one_line(sweeps: Sweeps) -> None:
    refused = sweeps.run("refused", "--executor", "slurm", "--partition", "none", code=3)["err"]
    assert refused.startswith("adbench: error: Slurm refuses the tasks: ")
    assert refused.endswith("; see --partition, --time and --gpus-per-task\n")
    assert "invalid partition" in refused.lower()
    assert refused.count("\n") == 1


def test_logs_lie_beside_the_results(sweeps: Sweeps, reference: dict[str, str]) -> None:
    logs = list(Path(sweeps.folder / "killed" / "slurm").glob("*_log.out"))
    assert any("Job completed successfully" in log.read_text() for log in logs)
