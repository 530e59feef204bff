"""Cost beside quality: the table, the Pareto front, and rows left out for what they take."""

from dataclasses import replace
from pathlib import Path

import pytest
from conftest import Run

from adbench.cli.options import megabytes
from adbench.core.errors import DataError
from adbench.reports.analyses import Question
from adbench.reports.analyses.cost import Point, pareto, section
from adbench.reports.budget import Budget, within
from adbench.reports.formats import Section
from adbench.reports.keys import keyed_jobs
from adbench.sweep.results import ResultStore
from adbench.types import Job, Result

JOB = Job("parts", "f", "bolt", "resnet18", "random", "ab", ("layer1",), 256, 256, "knn", {}, 1, 0)


def result(layer: str = "layer1", aupro: float = 0.5, category: str = "bolt", **cost: float | None) -> Result:
    job = replace(JOB, layers=(layer,), category=category)
    return Result(job, "done", metrics={"aupro": aupro}, cost=cost, environment={"machine": "x86_64"})


def report(*found: Result) -> Section:
    return section(keyed_jobs([(r.job, r) for r in found]), Question(["layer"], ["aupro"]))


def test_costs_are_means_over_jobs_and_only_known_ones_are_shown() -> None:
    made = report(result(latency_ms=10, fit_s=1), result(category="axle", latency_ms=30, fit_s=2, state_mb=None))
    (table,) = made.tables
    assert table.headers == ["layer", "aupro", "ms p50", "images/s alone", "fit s"]
    assert [cell.text for cell in table.rows[0]] == ["layer1", "0.500", "20.0", "66.7", "1.5"]


def test_the_front_holds_what_no_other_beats_in_both() -> None:
    points = [Point("slow", 9, 0.9), Point("beaten", 5, 0.6), Point("fast", 1, 0.7), Point("twin", 1, 0.7), Point("late", 9, 0.8)]
    marked = {point.name: point.front for point in pareto(points)}
    assert marked == {"fast": True, "twin": True, "beaten": False, "slow": True, "late": False}


def test_the_front_is_told_and_drawn() -> None:
    found = [result("layer1", 0.5, latency_ms=5), result("layer2", 0.9, latency_ms=80), result("layer3", 0.4, latency_ms=70)]
    made = report(*found)
    told = "aupro: no row beats these in both quality and latency: layer1 (5.0 ms, 0.500); layer2 (80.0 ms, 0.900)"
    assert made.notes[0] == told and made.figures[0].description == f"{told}."
    panel = made.figures[0].draw().axes[0]
    assert [text.get_text() for text in panel.texts] == ["1", "2"] and panel.get_xscale() == "log"


def test_what_cannot_be_compared_is_told() -> None:
    other = replace(result("layer2", latency_ms=3), environment={"machine": "arm64"})
    notes = report(result(), other).notes
    assert notes[-2:] == [
        "1 of 2 results have no latency: no test images, or an earlier version's",
        "measured on 2 kinds of machine: their times and memory cannot be compared",
    ]


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
