"""Cost beside quality: the table and the Pareto front."""

from dataclasses import replace

from adbench.reports.analyses import Question
from adbench.reports.analyses.cost import Point, pareto, section
from adbench.reports.formats import Section
from adbench.reports.keys import keyed_jobs
from adbench.reports.plotting import COLUMN, SCREEN, style
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


def test_a_row_has_one_number_in_all_panels() -> None:
    """layer3 is best by aupro alone, layer2 by image_auroc alone."""
    found = [
        result(layer, aupro, latency_ms=ms) for layer, aupro, ms in (("layer1", 0.5, 5), ("layer2", 0.4, 7), ("layer3", 0.9, 9))
    ]
    found = [replace(r, metrics={**r.metrics, "image_auroc": value}) for r, value in zip(found, (0.6, 0.9, 0.8), strict=True)]
    made = section(keyed_jobs([(r.job, r) for r in found]), Question(["layer"], ["aupro", "image_auroc"]))
    for width in (COLUMN, SCREEN):
        with style(width):
            drawing = made.figures[0].draw()
        assert [[text.get_text() for text in panel.texts] for panel in drawing.axes] == [["1", "3"], ["1", "2"]]
        assert [text.get_text() for text in drawing.legends[0].get_texts()] == ["1  layer1", "2  layer2", "3  layer3"]


def test_what_cannot_be_compared_is_told() -> None:
    other = replace(result("layer2", latency_ms=3), environment={"machine": "arm64"})
    notes = report(result(), other).notes
    assert notes[-2:] == [
        "1 of 2 results have no latency: no test images, or an earlier version's",
        "measured on 2 kinds of machine: their times and memory cannot be compared",
    ]
