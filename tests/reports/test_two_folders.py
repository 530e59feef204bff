"""Two results folders job by job: which jobs belong together, what differs, and whether it is chance."""

import csv
import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import Run

from adbench.core.errors import DataError
from adbench.reports.formats import Report
from adbench.reports.keys import keyed_jobs
from adbench.reports.report import render
from adbench.reports.two_folders import Match, Readers, compare, differences
from adbench.statistics.ranks import wilcoxon
from adbench.sweep.results import ResultStore
from adbench.types import Job, Result

JOB = Job("parts", "f", "bolt", "resnet18", "random", "ab", ("layer1",), 256, 256, "knn", {"k": 5}, 1, 0)
CATEGORIES = [f"c{i}" for i in range(8)]


def result(value: float | None, resamples: str | None = "r", **changes: object) -> Result:
    """A result with replicates that scatter by 0.03, alike for all of a category."""
    job = replace(JOB, **changes)  # type: ignore[arg-type]
    scatter = np.random.default_rng(len(job.category)).normal(size=(7, 400)) * 0.03
    own = np.random.default_rng(job.revision).normal(size=(7, 400)) * 0.003
    drawn = None if value is None else (value + scatter + own).astype(np.float32)
    details = {"resamples": f"{resamples} {job.category}"} if resamples else {}
    return Result(job, "done", metrics={"aupro": value}, details=details, replicates=drawn)


def write(folder: Path, *results: Result) -> Path:
    for item in results:
        ResultStore(folder).write(item)
    return folder


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    yield tmp_path / "one", tmp_path / "two"


def texts(made: Report) -> list[list[str]]:
    return [[cell.text for cell in row] for row in made.table.rows]


def notes(made: Report) -> list[str]:
    return list(made.sections[0].notes)


def test_jobs_are_matched_by_what_a_user_chose(folders: tuple[Path, Path]) -> None:
    first = write(folders[0], result(0.5), result(0.6, seed=1), result(0.7, detector="other"))
    second = write(folders[1], result(0.52, fingerprint="g", weights_sha256="cd", revision=2), result(0.7, seed=1))
    made = compare(first, second)
    assert made.table.headers == ["seed", "A", "B", "B - A", "95 % interval", "p"]
    assert [row[:4] for row in texts(made)] == [["0", "0.500", "0.520", "+0.020"], ["1", "0.600", "0.700", "+0.100"]]
    assert notes(made)[-4:] == [
        "done in A only: 1 job",
        "in 1 of 2 jobs the data differ between A and B",
        "in 1 of 2 jobs the weights' bytes differ between A and B",
        "in 1 of 2 jobs the method's revision differs between A and B",
    ]


def test_a_parameter_that_only_a_newer_version_has_is_not_compared(folders: tuple[Path, Path]) -> None:
    first = write(folders[0], result(0.5), result(0.6, params={"k": 9}))
    second = write(folders[1], result(0.5, params={"k": 9, "new": 1}), result(0.9, params={"k": 5, "new": 1}))
    made = compare(first, second)
    assert [row[:3] for row in texts(made)] == [["k=5", "0.500", "0.900"], ["k=9", "0.600", "0.500"]]
    assert notes(made)[-1] == "parameters that only one folder has are not compared: new of knn"


def test_of_several_states_the_same_one_is_compared(folders: tuple[Path, Path]) -> None:
    first = write(folders[0], result(0.5), result(0.6, fingerprint="g"))
    second = write(folders[1], result(0.8, fingerprint="g"))
    assert texts(compare(first, second))[0][1:4] == ["0.600", "0.800", "+0.200"]


def test_a_paired_difference_is_significant_where_the_intervals_overlap(folders: tuple[Path, Path]) -> None:
    first = write(folders[0], result(0.5), result(0.5, category="axle"))
    second = write(folders[1], result(0.52, revision=2), result(0.5002, revision=2, category="axle"))
    by_category = {row[0]: row for row in texts(compare(first, second))}
    assert float(by_category["bolt"][5]) < 0.05 < float(by_category["axle"][5])
    assert "aupro: 1 of 2 jobs on the same test images differ significantly over their test images" in notes(
        compare(first, second)
    )


@pytest.mark.parametrize("flaw", ["other images", "no file", "earlier version"])
def test_without_common_replicates_there_is_no_p_value(flaw: str, folders: tuple[Path, Path]) -> None:
    other = result(0.6, {"other images": "s", "earlier version": None}.get(flaw, "r"))
    first = write(folders[0], result(0.5))
    second = write(folders[1], replace(other, replicates=None) if flaw == "no file" else other)
    assert texts(compare(first, second)) == [["bolt", "0.500", "0.600", "+0.100", "-", "-"]]
    assert notes(compare(first, second))[-1] == "1 of 1 jobs have no influence values of the same test images: no interval, no p"


def test_a_folder_does_not_differ_from_itself(folders: tuple[Path, Path]) -> None:
    folder = write(folders[0], result(0.5), result(0.6, category="axle"))
    made = compare(folder, folder)
    assert notes(made)[0] == "aupro: A and B do not differ: equal in 2 jobs"
    assert [row[3:] for row in texts(made)] == [["0.000", "0.000 to 0.000", "1"]] * 2


def test_rounding_makes_no_difference(folders: tuple[Path, Path]) -> None:
    first = write(folders[0], result(0.5), result(0.6, seed=1))
    second = write(folders[1], result(0.5 + 1e-8), result(0.7, seed=1))
    assert notes(compare(first, second))[0].startswith("aupro: B is higher in 1, lower in 0, equal in 1 of 2 jobs; ")


def test_all_jobs_together_are_tested_over_categories(folders: tuple[Path, Path]) -> None:
    rng = np.random.default_rng(0)
    gains = rng.normal(0.01, 0.01, (8, 2))
    jobs = [(c, layer, gains[i, j]) for i, c in enumerate(CATEGORIES) for j, layer in enumerate(("layer1", "layer2"))]
    first = write(folders[0], *(result(0.5, category=c, layers=(layer,)) for c, layer, _ in jobs))
    second = write(folders[1], *(result(0.5 + gain, category=c, layers=(layer,)) for c, layer, gain in jobs))
    told = notes(compare(first, second))
    p_value = wilcoxon(gains.ravel(), np.zeros(16))
    assert told[0] == (
        f"aupro: B is higher in {(gains > 0).sum()}, lower in {(gains < 0).sum()}, equal in 0 of 16 jobs; mean difference "
        f"{gains.mean():+.3f}; Wilcoxon's test over 16 jobs: p = {p_value:.2g}; jobs of one category share their test images, "
        "which makes that p too small"
    )
    over = wilcoxon(gains.mean(axis=1), np.zeros(8))
    assert told[1] == f"aupro: means of each category: Wilcoxon's test over 8 categories: p = {over:.2g}"


def test_few_jobs_are_not_tested(folders: tuple[Path, Path]) -> None:
    made = compare(write(folders[0], result(0.5)), write(folders[1], result(0.6)))
    assert notes(made)[0] == (
        "aupro: B is higher in 1, lower in 0, equal in 0 of 1 job; mean difference +0.100; "
        "too few jobs for a test, 6 are the least"
    )


def test_folders_of_two_versions_are_named(folders: tuple[Path, Path]) -> None:
    first = write(folders[0], replace(result(0.5), environment={"torch": "2.9.1"}))
    second = write(folders[1], replace(result(0.5), environment={"torch": "2.14.1"}))
    assert compare(first, second).notes == ["the results mix torch 2.9.1 and 2.14.1: last digits and times may differ"]


def test_a_metric_of_a_plug_in_is_compared(folders: tuple[Path, Path]) -> None:
    rows = [replace(r, metrics=r.metrics | {"blur": r.metrics["aupro"]}) for r in (result(0.5), result(0.6))]
    more = [replace(r, replicates=np.concatenate([r.replicates, r.replicates[-1:]])) for r in rows]
    made = compare(write(folders[0], rows[0]), write(folders[1], rows[1]), "blur")
    assert texts(made) == [["bolt", "0.500", "0.600", "+0.100", "-", "-"]]  # no replicates of it
    found = differences(
        [Match(keyed_jobs([(more[0].job, None)])[0], *more)],
        "blur",
        (Readers(lambda r: r.replicates, lambda r: r.influence),) * 2,
    )
    p, *ends = found.tests[0]
    assert ends == pytest.approx([0.1, 0.1], abs=0.03) and p < 0.05


@pytest.mark.parametrize("name", ["table", "markdown", "latex", "html"])
def test_formats_for_people_hold_the_difference(name: str, folders: tuple[Path, Path]) -> None:
    text = render(compare(write(folders[0], result(0.5)), write(folders[1], result(0.6125))), name)
    assert "+0.112" in text and "too few jobs for a test" in text


def test_formats_for_programs_hold_all_digits(folders: tuple[Path, Path]) -> None:
    made = compare(write(folders[0], result(0.1)), write(folders[1], result(0.30000000000000004)))
    (record,) = made.records
    assert (record["a"], record["b"]) == ({"aupro": 0.1}, {"aupro": 0.30000000000000004})
    row = next(csv.DictReader(io.StringIO(render(made, "csv"))))
    assert float(row["difference.aupro"]) == record["difference"]["aupro"] == 0.30000000000000004 - 0.1
    assert row["category"] == record["category"] == "bolt" and record["p"]["aupro"] < 0.05


def test_the_figure_shows_every_job(folders: tuple[Path, Path]) -> None:
    made = compare(write(folders[0], result(0.5)), write(folders[1], result(0.6)))
    _, dots, filled = made.sections[0].figures[0].draw().axes[0].lines
    assert (dots.get_xydata().tolist(), len(filled.get_xydata())) == ([[0.5, 0.6]], 1)


def test_folders_without_a_common_job(folders: tuple[Path, Path]) -> None:
    first, second = write(folders[0], result(0.5)), write(folders[1], result(0.5, category="axle"))
    with pytest.raises(DataError) as caught:
        compare(first, second)
    assert str(caught.value) == (
        f"'{first}' and '{second}' have no job in common: none agrees in data set, category, backbone, weights, layer, "
        "sizes, detector, parameters and seed"
    )


def test_common_jobs_without_a_value(folders: tuple[Path, Path]) -> None:
    first, second = write(folders[0], result(None)), write(folders[1], result(0.5))
    with pytest.raises(DataError) as caught:
        compare(first, second)
    expected = f"no job that '{first}' and '{second}' have in common has a value of aupro in both"
    assert str(caught.value) == expected


MISTAKES = {
    ("one", "two"): (2, "report takes one results folder, not 2; --compare shows how two differ"),
    ("one", "--compare"): (2, "--compare takes two results folders, not 1: adbench report A B --compare"),
    ("one", "two", "one", "--compare"): (2, "--compare takes two results folders, not 3: adbench report A B --compare"),
    ("one", "two", "--compare", "--columns", "category", "--show", "cost"): (
        2,
        "--compare shows every job of both folders; leave out --columns, --show",
    ),
    ("one", "two", "--compare", "--metric", "aupor"): (2, "unknown metric 'aupor'; did you mean 'aupro'?"),
    ("one", "gone", "--compare"): (3, "no results in 'gone': run 'adbench sweep' first, or name the folder that it wrote to"),
}


@pytest.mark.parametrize("arguments", MISTAKES)
def test_mistakes(arguments: tuple[str, ...], run: Run) -> None:
    write(Path("one"), result(0.5))
    write(Path("two"), result(0.6))
    answer = run("report", *arguments)
    code, message = MISTAKES[arguments]
    assert (answer.code, answer.err, answer.out) == (code, f"adbench: error: {message}\n", "")


def test_the_command_compares(run: Run) -> None:
    write(Path("one"), result(0.5))
    write(Path("two"), result(0.6))
    assert run("report", "one", "two", "--compare", "--json").json[0]["difference"] == {"aupro": 0.09999999999999998}
    assert run("report", "one", "two", "--compare").out.startswith("aupro job by job: A = one, B = two\n")
