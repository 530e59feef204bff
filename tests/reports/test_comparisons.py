"""Every comparison is over the same cells on both sides: removing results never changes one of the cells that remain."""

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from random import Random
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_examples import JOB

from adbench.reports import best_row
from adbench.reports.analyses import Question, cost
from adbench.reports.comparison import ENTRY_KEYS, Comparison
from adbench.reports.configurations import configurations
from adbench.reports.formats import Table
from adbench.reports.keys import KeyedJob, choose_rows, grouped, keyed_jobs
from adbench.reports.studies import image_size, layers, seeds
from adbench.reports.tables import main_table, table_of_means
from adbench.types import Result

LAYERS, SIZES, CATEGORIES, SEEDS = ("l1", "l2", "l3"), (128, 256), ("axle", "bolt", "nut"), (0, 1)
MEASURES = ("image_auroc", "aupro")


def made(layer: str, size: int, category: str, seed: int) -> Result:
    random = Random(f"{layer} {size} {category} {seed}")
    job = replace(JOB, layers=(layer,), image_size=size, category=category, fingerprint=category, seed=seed)
    metrics = {name: random.randint(500, 999) / 1000 for name in MEASURES}
    return Result(job, "done", metrics=metrics, cost={"latency_ms": random.randint(1, 99)}, details={"resamples": category})


GRID = {(cell[0:2], cell[2:4]): made(*cell) for cell in product(LAYERS, SIZES, CATEGORIES, SEEDS)}  # by (row, cell)
KEPT = st.sets(st.sampled_from(sorted(GRID)), min_size=1)
FEW_GONE = st.sets(st.sampled_from(sorted(GRID)), min_size=1, max_size=4).map(lambda gone: GRID.keys() - gone)
SOME = KEPT | FEW_GONE


def replicates(result: Result) -> np.ndarray:
    rng = np.random.default_rng(int(result.job.key, 16))
    return (fmean(result.metrics.values()) + rng.normal(0, 0.05, (7, 50))).astype(np.float32)


def jobs_of(kept: Sequence[tuple]) -> list[KeyedJob]:
    return keyed_jobs([(GRID[place].job, GRID[place]) for place in sorted(kept)])


def whole(kept: set) -> list[KeyedJob]:
    """All rows that are left, each with all cells that are left in any row."""
    rows, cells = {row for row, _ in kept}, {cell for _, cell in kept}
    return jobs_of([place for place in GRID if place[0] in rows and place[1] in cells])


def numbers(table: Table) -> dict[tuple[tuple[str, ...], str], str]:
    """The text of each value by the labels of its row and its header."""
    found = {}
    for row in table.rows:
        labels = tuple(cell.text for cell in row[: table.num_labels])
        for header, cell in list(zip(table.headers, row, strict=True))[table.num_labels :]:
            found[labels, header] = cell.text
    return found


def best(table: Table, header: str) -> set[tuple[str, ...]]:
    column = list(table.headers).index(header)
    return {tuple(cell.text for cell in row[: table.num_labels]) for row in table.rows if row[column].best}


def assert_agrees(table: Table, reference: Table, ranked: Sequence[str]) -> None:
    """What is not marked as partial is what it would be with all results, and the best is the best of these."""
    found, expected = ({place: text for place, text in numbers(of).items() if place[1] in ranked} for of in (table, reference))
    full = {place: text for place, text in found.items() if "(" not in text and text != "-" and place in expected}
    assert {place: expected[place] for place in full} == full
    for header in ranked:
        values = {labels: float(text) for (labels, name), text in full.items() if name == header}
        highest = max(values.values(), default=0)
        assert best(table, header) == {row for row, value in values.items() if value == highest and len(values) > 1}


@given(SOME)
@settings(max_examples=40, deadline=None)
def test_the_main_table_compares_only_rows_with_the_same_cells(kept: set) -> None:
    found, reference = jobs_of(sorted(kept)), whole(kept)
    for rows, column in ((["layer", "image_size"], None), (["layer"], "image_size")):
        table, _, _ = table_of_means(found, rows, column, MEASURES)
        other, _, _ = table_of_means(reference, rows, column, MEASURES)
        assert_agrees(table, other, MEASURES if column is None else [header for header in table.headers if header.isdigit()])


@given(SOME)
@settings(max_examples=25, deadline=None)
def test_rows_that_run_over_sizes_too_are_complete_only_with_the_same_sizes_of_the_same_cells(kept: set) -> None:
    table, _, _ = table_of_means(jobs_of(sorted(kept)), ["layer"], None, ["aupro"])
    own = {layer: {(size, cell) for (name, size), cell in kept if name == layer} for layer in LAYERS}
    complete = {layer for layer, cells in own.items() if cells == set.union(*own.values())}
    assert {labels[0] for (labels, header), text in numbers(table).items() if header == "aupro" and "(" not in text} == complete


@given(SOME)
@settings(max_examples=25, deadline=None)
def test_a_column_of_a_category_compares_only_rows_with_the_same_seeds(kept: set) -> None:
    table, _, _ = table_of_means(jobs_of(sorted(kept)), ["layer", "image_size"], "category", ["aupro"])
    for category in {cell[0] for _, cell in kept}:
        seeds_left = {seed for _, (name, seed) in kept if name == category}
        for (labels, header), text in numbers(table).items():
            row = labels[0], int(labels[1]) if len(labels) > 1 else None
            if header == category and "(" not in text and text != "-" and row[1]:
                assert text == f"{fmean(GRID[row, (category, seed)].metrics['aupro'] for seed in seeds_left):.3f}"


@given(SOME)
@settings(max_examples=25, deadline=None)
def test_tables_and_words_of_studies_agree_with_all_results(kept: set) -> None:
    found, reference = jobs_of(sorted(kept)), whole(kept)
    sizes = {table.caption: table for table in image_size.section(found).tables}
    for table in image_size.section(reference).tables:
        if table.caption in sizes and "categories" in sizes[table.caption].headers:
            assert_agrees(sizes[table.caption], table, [h for h in table.headers if h.isdigit()])
    for table in (table for caption, table in sizes.items() if "that all have" in caption):
        measure = table.caption.partition(" ")[0]
        assert_shared(table, kept, measure)
    told, known = (words(image_size.section(jobs).figures[0].description) for jobs in (found, reference))
    assert told <= known


def words(description: str) -> set[tuple[str, str]]:
    """Each number of a description that is not marked as partial, with its layer."""
    parts = re.findall(r"(l\d): image AUROC ([^;]*)", description)
    return {(layer, number) for layer, text in parts for number in re.findall(r"\d\.\d{3} at \d+", text)}


def assert_shared(table: Table, kept: set, measure: str) -> None:
    """All values of a table are means over the cells that every row and size has."""
    rows = {row for row, _ in kept}
    common = set.intersection(*({cell for other, cell in kept if other == row} for row in rows))
    assert common
    for (labels, header), text in numbers(table).items():
        if header.isdigit() and text != "-":
            row = labels[0], int(header)
            by_category: dict[str, list[float]] = {}
            for category, seed in common:
                by_category.setdefault(category, []).append(GRID[row, (category, seed)].metrics[measure])
            assert text == f"{fmean(map(fmean, by_category.values())):.3f}"


@given(SOME)
@settings(max_examples=25, deadline=None)
def test_a_layer_wins_a_category_only_against_layers_with_the_same_seeds(kept: set) -> None:
    for size in SIZES:
        own = {(row, cell) for row, cell in kept if row[1] == size}
        if not own:
            continue
        won = layers.winners(jobs_of(sorted(own)), "aupro", len(CATEGORIES)).best
        names = {row for row, _ in own}
        for category, winners in won.items():
            left = [{seed for row, (name, seed) in own if row == one and name == category} for one in names]
            assert all(one == left[0] for one in left)
            means = {row[0]: round(fmean(GRID[row, (category, s)].metrics["aupro"] for s in left[0]), 3) for row in names}
            assert {round(means[name], 3) for name in winners} <= {max(means.values())}


@given(SOME)
@settings(max_examples=25, deadline=None)
def test_seeds_scatter_over_the_same_categories(kept: set) -> None:
    every = {cell[0] for _, cell in kept}
    comparison = Comparison(jobs_of(sorted(kept)), ENTRY_KEYS)
    for (layer, size), members in grouped(jobs_of(sorted(kept)), ["layer", "image_size"]).items():
        scatter = seeds.data.seed_scatter(comparison, members, "aupro")
        full = [s for s in SEEDS if all(((layer, size), (name, s)) in kept for name in every)]
        expected = [fmean(GRID[(layer, size), (name, s)].metrics["aupro"] for name in every) for s in full]
        assert sorted(scatter.values) == pytest.approx(sorted(expected))


@given(SOME)
@settings(max_examples=25, deadline=None)
def test_the_front_has_only_rows_with_the_same_cells(kept: set) -> None:
    found, cells = jobs_of(sorted(kept)), {cell for _, cell in kept}
    names = {f"{row[0]}, {row[1]} px": row for row, _ in kept}
    question = Question(["layer", "image_size"], ["aupro"])
    fronts, _ = cost._fronts(found, question, Comparison(found, question.rows))
    points = fronts.get("aupro", [])
    complete = {name for name, row in names.items() if {cell for other, cell in kept if other == row} == cells}
    assert {point.name for point in points} == complete
    reference, _ = cost._fronts(whole(kept), question, Comparison(whole(kept), question.rows))
    expected = cost.pareto([replace(point, front=False) for point in reference["aupro"] if point.name in complete])
    assert {(p.name, p.quality, p.latency, p.front) for p in points} == {
        (p.name, p.quality, p.latency, p.front) for p in expected
    }


@given(SOME)
@settings(max_examples=25, deadline=None)
def test_tests_of_significance_and_the_best_row_are_over_the_same_cells(kept: set) -> None:
    found = jobs_of(sorted(kept))
    question = Question(choose_rows(found, ["layer", "image_size"]), ["aupro"], replicates)
    for compared in configurations(found, question):
        sets = [[{result.job.seed for result in seeds_of} for seeds_of in row] for row in compared.cells]
        assert all(row == sets[0] for row in sets)
        assert len(sets) > 1
    for section in best_row.section(found, question, ["aupro"], [], lambda name: {}):
        complete = {row for row, _ in kept if {cell for other, cell in kept if other == row} == {cell for _, cell in kept}}
        named = re.match(r"(l\d), (\d+) px: AU-PRO (\d\.\d{3}) over (.*?)(?:,|$)", section.notes[0])
        assert named
        rows = {row for row, _ in kept}
        cells = (
            {cell for _, cell in kept} if len(complete) > 1
            else set.intersection(*({cell for other, cell in kept if other == row} for row in rows))
        )  # fmt: skip
        means = {row: mean_over(row, cells) for row in (complete if len(complete) > 1 else rows)}
        assert f"{max(means.values()):.3f}" == named[3]


def mean_over(row: tuple, cells: set) -> float:
    by_category: dict[str, list[float]] = {}
    for category, seed in cells:
        by_category.setdefault(category, []).append(GRID[row, (category, seed)].metrics["aupro"])
    return fmean(map(fmean, by_category.values()))


def test_a_folder_of_two_sweeps_compares_what_both_have() -> None:
    """Four categories at 256 px, one of them at 128 px too: the sizes are compared on this one."""
    places = [((layer, 256), cell) for layer in LAYERS for cell in product(CATEGORIES, (0,))]
    places += [((layer, 128), ("nut", 0)) for layer in LAYERS]
    found = jobs_of(sorted(places))
    report = main_table([job.done for job in found if job.done])[0]
    small = [row for row in report.table.rows if row[1].text == "128"]
    assert {row[2].text for row in small} == {"1/3"} and all("(1/3)" in row[3].text and not row[3].best for row in small)
    auroc, shared, *_ = image_size.section(found).tables
    assert shared.caption == "image_auroc by image_size over the 1 of 3 categories that all have: nut"
    assert numbers(shared)[("l1",), "256"] == f"{GRID[('l1', 256), ('nut', 0)].metrics['image_auroc']:.3f}"
    assert all("(1/3)" in text for (_, header), text in numbers(auroc).items() if header == "128")
    panel = image_size.section(found).figures[0].draw().axes[0]
    hollow = [line for line in panel.get_lines() if line.get_markerfacecolor() == "white"]
    assert [np.isfinite(line.get_ydata()).sum() for line in hollow] == [3, 0]
