"""`adbench sweep --status`: from the folder alone."""

from pathlib import Path
from typing import Any

import pytest
from conftest import Run

from adbench.sweep.heartbeat import group_name, heartbeat
from adbench.sweep.results import ResultStore
from adbench.types import Job, Result


def job(category: str, seed: int) -> Job:
    return Job("parts", "f", category, "resnet18", "random", "random-0", ("layer1",), 64, 64, "patchcore", {}, 1, seed)


@pytest.fixture
def results(tmp_path: Path) -> ResultStore:
    """Two groups of three jobs: one done, one failed, one skipped."""
    store, jobs = (ResultStore(tmp_path / "out"), [job(category, seed) for category in ("bolt", "nut") for seed in range(3)])
    store.write_plan("plan", jobs)
    store.write(Result(jobs[0], "done"))
    store.write(Result(jobs[1], "failed", "broke"))
    store.write(Result(jobs[3], "skipped", "does not fit"))
    return store


def state(run: Run, *arguments: Any) -> dict[str, Any]:
    answer = run("sweep", "--status", "--out", "out", *arguments, "--json")
    assert answer.code == 0
    return answer.json


def test_jobs_are_counted_in_all_and_by_group(run: Run, results: ResultStore) -> None:
    found = state(run)
    counts = {"planned": 6, "done": 1, "running": 0, "waiting": 3, "skipped": 1, "failed": 1, "out": "out"}
    assert {key: found[key] for key in counts} == counts
    assert [(g["category"], g["done"], g["waiting"], g["skipped"], g["failed"]) for g in found["groups"]] == [
        ("bolt", 1, 1, 0, 1), ("nut", 0, 2, 1, 0),
    ]  # fmt: skip
    assert found["workers"] == []


def test_a_worker_and_its_job_are_shown(run: Run, results: ResultStore) -> None:
    with heartbeat(results.folder, group_name(job("nut", 0))) as at:
        assert state(run)["workers"][0]["layer"] is None
        assert "extracting features" in run("sweep", "--status", "--out", "out").out
        at(job("nut", 2).key)
        found = state(run)
        assert (found["running"], found["waiting"]) == (1, 2)
        assert (found["workers"][0]["category"], found["workers"][0]["seed"]) == ("nut", 2)


def test_people_get_a_table(run: Run, results: ResultStore) -> None:
    lines = run("sweep", "--status", "--out", "out").out.splitlines()
    assert lines[0] == "planned 6, done 1, running 0, waiting 3, skipped 1, failed 1"
    assert lines[2].split() == ["category", "backbone", "weights", "px", "done", "running", "waiting", "skipped", "failed"]
    assert lines[4].split() == ["bolt", "resnet18", "random", "64", "1", "0", "1", "0", "1"]


def test_a_study_narrows_it_down(run: Run, results: ResultStore, parts: Path) -> None:
    Path("s.yaml").write_text("layers: [blocks.1.1.add]\ncategories: [alpha]\n")
    assert state(run, "--spec", "s.yaml", "--data", parts)["planned"] == 1


def test_a_folder_without_a_sweep(run: Run) -> None:
    answer = run("sweep", "--status", "--out", "nothing")
    assert (answer.code, answer.err) == (
        3, "adbench: error: no sweep in nothing: it holds no plan; give --out the folder of the sweep\n",
    )  # fmt: skip
