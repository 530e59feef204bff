"""What version 0.1.0 wrote is still read: nobody repeats a finished sweep, or extracts features again, after an update.

tests/golden/legacy is such a folder; its README says how it was made. It is never written anew.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import Run

from adbench.sweep.results import ResultStore

LEGACY = Path(__file__).with_name("legacy")
DONE, FAILED = (
    [json.loads(path.read_text()) for path in (LEGACY / "results").glob(names)] for names in ("*.json", "failed/*.json")
)
CELL = ("dataset", "category", "backbone", "weights", "layer", "image_size", "eval_size", "detector", "seed")
PLACE = ("--cache", "cache", "--device", "cpu")
DATA = ("--data", "data", *PLACE)
# defaults of 0.1.0: PatchCore's image score, and a Gaussian of 4 px of a 256 grid, which is 1 input pixel at 64 px
AS_BEFORE = (
    "--set", "smoothing=1", "--set",
    "detectors=[{name: patchcore, params: {coreset_fraction: 0.05, image_score: smoothed}}, mahalanobis, "
    "{name: fastflow, params: {epochs: 1, learning_rate: 1.0e+30}}]",
)  # fmt: skip


@pytest.fixture(autouse=True)
def legacy(run: Run, tmp_path: Path) -> None:
    """Copy the old files into the working folder."""
    shutil.copytree(LEGACY, tmp_path, dirs_exist_ok=True)


def cells(records: list[dict[str, Any]]) -> list[str]:
    """Return what tells records apart and what they hold, in a fixed order."""
    names = (*CELL, "status", "reason", "metrics", "cost", "environment")
    return sorted(json.dumps({name: record[name] for name in names}, sort_keys=True) for record in records)


def test_a_sweep_runs_only_the_failed_jobs_again(run: Run) -> None:
    arrays = set(Path("cache").rglob("*.npy"))
    again = run("sweep", "--spec", "spec.yaml", *AS_BEFORE, *DATA, "--out", "results", "--json")
    assert again.json == {"planned": 6, "done": 0, "cached": 4, "skipped": 0, "failed": 2, "out": "results"}
    assert set(Path("cache").rglob("*.npy")) == arrays
    assert cells([r for r in run("report", "results", "--json").json if r["status"] == "done"]) == cells(DONE)


def test_features_are_found_in_the_cache(run: Run) -> None:
    layers = ("blocks.1.1.add", "blocks.2.1.add")
    entries = run("extract", "efficientnet_lite0", *layers, *DATA, "--image-size", 64, "--json").json["entries"]
    assert [entry["cached"] for entry in entries] == [True] * 4


def test_a_report_lists_the_old_records(run: Run) -> None:
    assert (len(DONE), len(FAILED)) == (4, 2)
    assert cells(run("report", "results", "--format", "json").json) == cells(DONE + FAILED)


def test_an_old_plan_of_the_same_jobs_stays(run: Run) -> None:
    (plan,) = Path("results/plans").iterdir()
    before, planned = plan.read_bytes(), ResultStore(Path("results")).planned()
    run("sweep", "--spec", "spec.yaml", *AS_BEFORE, *DATA, "--out", "results")
    assert plan.read_bytes() == before
    assert {job.key for job in ResultStore(Path("results")).planned()} == {job.key for job in planned}


def test_an_old_plan_of_other_jobs_is_replaced(run: Run) -> None:
    (plan,) = Path("results/plans").iterdir()
    store = ResultStore(Path("results"))
    jobs = store.planned()[1:]
    store.write_plan(plan.stem, jobs)
    assert (list(Path("results/plans").iterdir()), store.planned()) == ([plan.with_suffix(".jsonl")], jobs)


def test_the_plan_is_known(run: Run) -> None:
    shutil.rmtree("results/failed")
    status = run("sweep", "--status", "--out", "results", "--json").json
    assert (status["planned"], status["done"]) == (6, 4)


def test_differences_are_tested_with_the_old_replicates(run: Run) -> None:
    shutil.copytree("results", "copy")
    pairs = run("report", "results", "copy", "--compare", "--json").json
    assert [pair["p"]["aupro"] for pair in pairs] == [1.0] * 4  # None without replicates


def test_an_old_model_gives_its_metrics_and_keeps_its_threshold(run: Run) -> None:
    result = run("eval", "model.safetensors", *DATA, "--json").json
    same = next(record for record in DONE if all(record[name] == result[name] for name in CELL))
    known = {name: result["metrics"][name] for name in same["metrics"]}
    assert known == pytest.approx(same["metrics"], rel=1e-4, abs=1e-4)
    images = ("data/tile/test/good", "data/tile/test/spot")
    found = run("predict", "model.safetensors", *images, "--out", "found", *PLACE, "--json").json
    assert found["threshold"]["image"] == pytest.approx(9.63695, rel=1e-4)
    assert (found["good"], found["anomalous"]) == (2, 2)
