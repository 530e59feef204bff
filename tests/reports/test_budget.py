"""Rows left out of a report for their latency or memory."""

from dataclasses import replace
from pathlib import Path

import pytest
from conftest import Run

from adbench.cli.options import megabytes
from adbench.core.errors import DataError
from adbench.reports.report import Budget, within
from adbench.sweep.results import ResultStore
from adbench.types import Job, Result

JOB = Job("parts", "f", "bolt", "resnet18", "random", "ab", ("layer1",), 256, 256, "knn", {}, 1, 0)


def result(layer: str = "layer1", category: str = "bolt", **cost: float | None) -> Result:
    return Result(replace(JOB, layers=(layer,), category=category), "done", metrics={"aupro": 0.5}, cost=cost)


FOUND = [
    result("layer1", latency_ms=10, peak_memory_mb=100.0),
    result("layer1", category="axle", latency_ms=30, peak_memory_mb=300.0),
    result("layer2", latency_ms=50, peak_memory_mb=50.0, accelerator_memory_mb=400.0),
    result("layer3"),
]


@pytest.mark.parametrize(
    ("budget", "layers", "note"),
    [
        (Budget(latency_ms=20), ["layer1"] * 2, "2 of 3 rows left out: 1 of unknown latency, 1 slower than 20 ms per image"),
        (Budget(memory_mb=300), ["layer1"] * 2, "2 of 3 rows left out: 1 above 300 MB at the peak, 1 of unknown memory"),
        (Budget(60, 400), ["layer1", "layer1", "layer2"], "1 of 3 rows left out: 1 of unknown latency"),
    ],
)
def test_rows_over_the_budget_are_left_out_whole_and_counted(budget: Budget, layers: list[str], note: str) -> None:
    planned = [r.job for r in FOUND]
    kept, jobs, notes = within(budget, FOUND, planned)
    assert [r.job.layer for r in kept] == layers == [job.layer for job in jobs] and notes == [note]


def test_a_planned_row_that_has_not_run_is_of_unknown_cost() -> None:
    waiting = replace(JOB, layers=("layer9",))
    assert within(Budget(99), FOUND[:2], [waiting])[1:] == ([], ["1 of 2 rows left out: 1 of unknown latency"])


def test_a_budget_that_leaves_nothing() -> None:
    with pytest.raises(DataError) as caught:
        within(Budget(latency_ms=1), FOUND[:3], [])
    assert str(caught.value) == "no row is left: 2 slower than 1 ms per image; raise --max-latency or --max-memory"


def test_the_command_leaves_rows_out_of_every_format(run: Run, tmp_path: Path) -> None:
    for found in FOUND:
        ResultStore(tmp_path / "out").write(found)
    arguments = ("report", "out", "--max-latency", 40, "--max-memory", "1GB")
    assert {record["layer"] for record in run(*arguments, "--json").json} == {"layer1"}
    assert "2 of 3 rows left out: 1 of unknown latency, 1 slower than 40 ms per image" in run(*arguments).out


@pytest.mark.parametrize(("text", "expected"), [("500", 500), ("1.5", 1.5), ("2GB", 2000), ("100 kB", 0.1)])
def test_megabytes(text: str, expected: float) -> None:
    assert megabytes("--max-memory", text) == expected


def test_a_size_that_is_none(run: Run) -> None:
    answer = run("report", "out", "--max-memory", "much")
    expected = "adbench: error: --max-memory 'much': write megabytes, e.g. 500, or a size, e.g. 2GB\n"
    assert (answer.code, answer.err) == (2, expected)
