"""Reports: what a cell may say, what the rows are, and that every format prints the same digits."""

import csv
import io
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import adbench.reports.formats
from adbench.core.errors import DataError, UsageError
from adbench.reports.formats import FORMATS, Cell, Figure, Report, Section, Table
from adbench.reports.formats.latex import latex
from adbench.reports.formats.markdown import markdown
from adbench.reports.formats.table import table
from adbench.reports.report import View, draw_figures, make_report, render
from adbench.reports.tables import main_table
from adbench.sweep.results import ResultStore
from adbench.types import Job, Result

JOB = Job("demo", "f", "bolt", "resnet18", "random", "ab", ("layer2",), 256, 256, "knn", {"k": 5, "p": 0.1}, 1, 0)
OTHER = replace(JOB, layers=("layer10",))
CATEGORIES = ("axle", "bolt", "cable")
FOR_PEOPLE = ("latex", "markdown", "table")


def build(results: Sequence[Result], planned: Sequence[Job] = (), **view: Any) -> Report:
    return main_table(results, planned, **view)[0]


def done(job: Job, auroc: float | None = 0.5, reason: str | None = None, **cost: float) -> Result:
    return Result(job, "done", reason, {"image_auroc": auroc, "aupro": 0.25}, cost)


def over_categories(job: Job, *values: float) -> list[Result]:
    return [done(replace(job, category=c), v) for c, v in zip(CATEGORIES, values, strict=False)]


def jobs(*job: Job) -> list[Job]:
    return [replace(j, category=c) for j in job for c in CATEGORIES]


def texts(report: Report) -> list[list[str]]:
    return [[f"{cell.text}!" if cell.best else cell.text for cell in row] for row in report.table.rows]


def auroc(report: Report) -> list[str]:
    return [row[list(report.table.headers).index("image_auroc")] for row in texts(report)]


def example() -> Report:
    results = [*over_categories(JOB, 0.9, 0.8, 0.71234), *over_categories(OTHER, 0.95, 0.96)]
    failed = Result(replace(OTHER, category="cable"), "failed", "50% of {x}_y | [z]\nlost")
    return build([*results, failed], jobs(JOB, OTHER))


def test_the_mean_is_over_categories_and_the_best_complete_one_is_marked() -> None:
    report = build([*over_categories(JOB, 0.9, 0.8, 0.7), *over_categories(OTHER, 0.6, 0.6, 0.6)])
    assert report.table.headers == ["layer", "categories", "image_auroc", "aupro"]
    assert texts(report) == [["layer2", "3/3", "0.800!", "0.250!"], ["layer10", "3/3", "0.600", "0.250!"]]
    assert report.notes == []
    shared = "dataset demo, backbone resnet18, weights random, image_size 256, eval_size 256, detector knn"
    assert report.table.caption == f"Mean over categories; all rows: {shared}"


def test_a_partial_mean_is_never_bare_nor_best() -> None:
    report = build([*over_categories(JOB, 0.9, 0.8), *over_categories(OTHER, 0.1, 0.1, 0.1)], jobs(JOB, OTHER))
    assert texts(report)[0] == ["layer2", "2/3", "0.850 (2/3)", "0.250 (2/3)"]
    assert auroc(report)[1] == "0.100!"
    assert report.notes == [
        "a number with (n/N) is over n of N planned categories (or jobs) and is not ranked",
        "1 of 6 planned jobs not run yet",
    ]


def test_seeds_are_averaged_within_a_category_first() -> None:
    seeds = [done(replace(JOB, seed=s), v) for s, v in enumerate((0.2, 0.4, 0.6))]
    assert auroc(build([*seeds, done(replace(JOB, category="axle"), 0.8)])) == ["0.600!"]


def test_a_missing_seed_is_told_in_jobs() -> None:
    planned = [replace(JOB, seed=seed) for seed in range(3)]
    report = build([done(planned[0], 0.2), done(planned[2], 0.4)], planned)
    assert texts(report) == [["layer2", "1/1 (2/3 jobs)", "0.300 (2/3 jobs)", "0.250 (2/3 jobs)"]]


def test_an_undefined_metric_is_a_dash_and_does_not_count() -> None:
    why = "no anomalous test image"
    both = build([done(JOB, None, why), done(replace(JOB, category="axle"), 0.75)])
    assert auroc(both) == ["0.750 (1/2)"]
    alone = build([done(JOB, None, why)])
    assert auroc(alone) == ["-"]
    assert alone.notes == [f"image_auroc undefined in 1 job: {why} (demo bolt resnet18 random layer2 256 knn, seed 0)"]


def test_ties_as_printed_are_all_best() -> None:
    report = build([*over_categories(JOB, 0.9001), *over_categories(OTHER, 0.9003)])
    assert auroc(report) == ["0.900!", "0.900!"]


def test_rows_of_different_categories_are_not_ranked_against_each_other() -> None:
    report = build([*over_categories(JOB, 0.9, 0.9), *over_categories(OTHER, 0.99)])
    assert auroc(report) == ["0.900!", "0.990!"]


def test_failures_are_grouped_by_reason() -> None:
    failed = [Result(replace(JOB, category=c), "failed", "out of\nmemory") for c in CATEGORIES]
    skipped = Result(OTHER, "skipped", "no weights")
    assert build([*failed, skipped]).notes == [
        "3 jobs failed: out of memory (e.g. demo axle resnet18 random layer2 256 knn, seed 0)",
        "1 job skipped: no weights (demo bolt resnet18 random layer10 256 knn, seed 0)",
    ]


def test_rows_are_sorted_as_people_count() -> None:
    grid = [replace(JOB, backbone=b, layers=(y,), image_size=s)
            for b in ("vgg", "resnet") for y in ("layer10", "layer2") for s in (1024, 256)]  # fmt: skip
    report = build([done(job) for job in grid])
    assert report.table.headers[:3] == ["backbone", "layer", "image_size"]
    labels = [tuple(cell.text for cell in row[:3]) for row in report.table.rows]
    assert labels[:4] == [("resnet", y, s) for y in ("layer2", "layer10") for s in ("256", "1024")]
    assert labels[4:] == [("vgg", y, s) for y in ("layer2", "layer10") for s in ("256", "1024")]


def test_parameters_name_a_row_by_what_differs() -> None:
    variants = [replace(JOB, params={"k": 5, "p": p}) for p in (0.25, 0.05)]
    report = build([done(job) for job in [*variants, replace(JOB, detector="other", params={"q": 1})]])
    assert report.table.headers[:2] == ["detector", "params"]
    assert [row[:2] for row in texts(report)] == [["knn", "p=0.05"], ["knn", "p=0.25"], ["other", ""]]


@pytest.mark.parametrize("change", [{"eval_size": "native"}, {"pro_limit": 0.05}, {"dataset": "visa"}, {"dtype": "float32"},
                                    {"revision": 2}, {"weights_sha256": "cd"}, {"fingerprint": "g"}])  # fmt: skip
def test_what_cannot_be_compared_never_shares_a_cell(change: dict) -> None:
    report = build([done(JOB, 0.2), done(replace(JOB, **change), 0.4)], rows=["layer"])
    assert sorted(cell.rstrip("!") for cell in auroc(report)) == ["0.200", "0.400"]
    assert next(iter(change)) in report.table.headers


def test_a_result_that_the_plan_repeats_on_newer_data_is_left_out() -> None:
    newer = replace(JOB, fingerprint="new")
    report = build([done(JOB, 0.2), done(newer, 0.4)], [newer])
    assert auroc(report) == ["0.400!"]
    assert report.notes == ["1 result of older data, weights or methods left out: the plan has newer jobs"]


def test_rows_can_be_named_and_a_wider_mean_is_said() -> None:
    report = build([done(JOB, 0.2), done(replace(OTHER, image_size=512), 0.4)], rows=["detector, Image-Size"])
    assert report.table.headers[:2] == ["detector", "image_size"]
    wider = build([done(JOB, 0.2), done(OTHER, 0.4)], rows=["detector"])
    assert auroc(wider) == ["0.300!"]
    assert wider.notes == ["each mean also runs over layer; add to --rows to see them apart"]


def test_a_pivot_on_categories_adds_the_mean() -> None:
    report = build(over_categories(JOB, 0.9, 0.8, 0.7), jobs(JOB), columns="category")
    assert report.table.headers == ["layer", "categories", "axle", "bolt", "cable", "mean"]
    assert texts(report) == [["layer2", "3/3", "0.900!", "0.800!", "0.700!", "0.800!"]]
    assert report.table.caption.startswith("image_auroc by category; all rows: dataset demo")


def test_a_pivot_on_sizes_of_another_metric() -> None:
    report = build([done(replace(JOB, image_size=s)) for s in (1024, 256)], columns="image_size", metric="AUPRO")
    assert report.table.headers == ["layer", "categories", "256", "1024"]
    assert texts(report) == [["layer2", "1/1", "0.250!", "0.250!"]]


def test_one_metric_alone() -> None:
    assert build([done(JOB)], metric="aupro").table.headers == ["layer", "categories", "aupro"]


def test_known_costs_are_shown_without_rank() -> None:
    report = build([done(JOB, images_per_second=12.34, state_mb=2.0, fit_s=1.0)])
    assert report.table.headers[-2:] == ["images/s", "state MB"]
    assert texts(report)[0][-2:] == ["12.3", "2.0"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metric": "aupor"}, "unknown metric 'aupor'; did you mean 'aupro'?"),
        ({"columns": "categry"}, "unknown column key 'categry'; did you mean 'category'?"),
        ({"rows": ["bakbone"]}, "unknown row key 'bakbone'; did you mean 'backbone'?"),
        ({"rows": ["layer"], "columns": "layer"}, "'layer' cannot be both a row and a column; take it out of one of them"),
    ],
)
def test_a_wrong_name_is_told_with_the_nearest(options: dict, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        build([done(JOB)], **options)
    assert str(caught.value) == message


def test_nothing_to_report() -> None:
    with pytest.raises(DataError) as caught:
        build([], [JOB], folder="out")
    expected = "no results in 'out': run 'adbench sweep' first, or name the folder that it wrote to"
    assert str(caught.value) == expected


@pytest.mark.parametrize("name", FOR_PEOPLE)
def test_every_format_prints_every_cell_and_note(name: str) -> None:
    report = example()
    text = re.sub(r"\\([_|%{}&$#])", r"\1", FORMATS.get(name)(report))
    cells = [cell.text for row in report.table.rows for cell in row]
    assert cells == ["layer2", "3/3", "0.804", "0.250", "layer10", "2/3", "0.955 (2/3)", "0.250 (2/3)"]
    assert all(cell in text for cell in cells)
    assert report.notes[0] in text and "1 job failed: 50% of {x}_y" in text


@pytest.mark.parametrize("name", ["csv", "json"])
def test_formats_for_programs_hold_the_same_numbers(name: str) -> None:
    report = example()
    text = FORMATS.get(name)(report)
    rows = json.loads(text) if name == "json" else list(csv.DictReader(io.StringIO(text)))
    of = {"json": lambda r: r["metrics"]["image_auroc"], "csv": lambda r: float(r["metrics.image_auroc"])}[name]
    values = [of(row) for row in rows if row["status"] == "done" and row["layer"] == "layer2"]
    assert values == [0.9, 0.8, 0.71234]
    assert f"{sum(values) / 3:.3f}" == report.table.rows[0][2].text


def test_table_as_text() -> None:
    lines = table(example()).splitlines()
    assert lines[2].split() == ["layer", "categories", "image_auroc", "aupro"]
    assert lines[4].split() == ["layer2", "3/3", "*0.804*", "*0.250*"]
    assert lines[7] == "*best* of a column among complete rows"


def test_table_in_bold_keeps_its_columns() -> None:
    plain, bold = table(example()), table(replace(example(), bold=True))
    assert "\033[1m0.804\033[0m" in bold and "*" not in bold
    assert "\033" not in plain


def test_markdown_is_a_pipe_table() -> None:
    lines = markdown(example()).splitlines()
    assert re.fullmatch(r"\| layer +\| +categories \| +image_auroc \| +aupro \|", lines[2])
    assert re.fullmatch(r"\|:-+\|-+:\|-+:\|-+:\|", lines[3])
    assert re.fullmatch(r"\| layer2 +\| +3/3 \| +\*\*0\.804\*\* \| +\*\*0\.250\*\* \|", lines[4])
    assert lines[8].startswith(r"- 1 job failed: 50% of {x}\_y \| \[z\] lost")


def test_markdown_keeps_names_from_being_markup() -> None:
    report = Report(Table("_a_ *b*", ["x"], [[Cell("wide_resnet50_2|<i>")]], 1))
    assert markdown(report).splitlines()[0] == r"\_a\_ \*b\*"
    assert r"wide_resnet50_2\|\<i\>" in markdown(report)


def test_latex_is_a_complete_document() -> None:
    text = latex(example())
    assert text.startswith("\\documentclass") and text.endswith("\\end{document}\n")
    environments = re.findall(r"\\(begin|end)\{(\w+)\}", text)
    opened = [name for kind, name in environments if kind == "begin"]
    assert opened == ["document", "table", "tabular"] == [name for kind, name in environments if kind == "end"][::-1]
    assert r"layer2 & 3/3 & \textbf{0.804} & \textbf{0.250} \\" in text
    assert re.search(r"tabular\}\{lrrr\}\n\\toprule\n.*\n\\midrule\n.*\n.*\n\\bottomrule", text)


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_latex_compiles_as_it_stands(tmp_path: Path) -> None:
    special = Cell("[a_b] 5% $x$ {y} \\z ~ ^ # & <> \N{LATIN SMALL LETTER E WITH ACUTE}")
    long = Table("All", ["n"] * 30, [[special] * 30] * 80, 1)
    (tmp_path / "report.tex").write_text(latex(replace(example(), sections=[Section("Why?", [long])])), encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "report.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "report.pdf").stat().st_size > 10_000


def test_latex_escapes_what_is_special() -> None:
    text = latex(Report(Table("", ["h"], [[Cell("[a_b] 5% $x$ {y} \\z ~ ^ # & <>")]], 1)))
    expected = r"{[}a\_b{]} 5\% \$x\$ \{y\} \textbackslash{}z \textasciitilde{} \textasciicircum{} \# \& "
    assert expected + r"\textless{}\textgreater{} \\" in text


def test_latex_keeps_the_hyphens_of_an_option() -> None:
    assert r"rf -{}-figure" in latex(Report(Table("adbench rf --figure", ["h"], [[Cell("1")]], 1)))


def test_latex_breaks_a_table_that_is_longer_than_a_page() -> None:
    text = latex(Report(Table("All", ["n"], [[Cell(str(n))] for n in range(80)], 1)))
    assert re.findall(r"\\caption\{(.*)\}", text) == ["All", "All (continued)", "All (continued)"]
    assert re.findall(r"^(\d+) \\\\$", text, re.MULTILINE) == [str(n) for n in range(80)]


def test_csv_is_lossless() -> None:
    result = replace(done(JOB, 0.1 + 0.2, None, fit_s=1e-17), environment={"torch": "2.1", "threads": 2}, details={"n": [1]})
    row = next(csv.DictReader(io.StringIO(FORMATS.get("csv")(build([result])))))
    record = {name: json.loads(row[name]) for name in ("params", "layers", "details", "image_size", "seed")}
    assert record == {"params": {"k": 5, "p": 0.1}, "layers": ["layer2"], "details": {"n": [1]}, "image_size": 256, "seed": 0}
    assert (row["metrics.image_auroc"], row["cost.fit_s"], row["environment.torch"]) == ("0.30000000000000004", "1e-17", "2.1")
    assert row["reason"] == "" and row["key"] == JOB.key


def test_json_is_lossless() -> None:
    report = example()
    assert [Result.from_record(record) for record in json.loads(FORMATS.get("json")(report))] == report.results


def test_a_folder_is_rendered_while_its_sweep_runs(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    store.write_plan("layers", jobs(JOB))
    store.write(done(JOB, 0.5))
    assert re.search(r"^layer2 +1/3 +0\.500 \(1/3\)", render(make_report(tmp_path), "table"), re.MULTILINE)
    assert json.loads(render(make_report(tmp_path), "json"))[0]["metrics"] == {"image_auroc": 0.5, "aupro": 0.25}


def test_a_folder_without_results_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"^no results in '{re.escape(str(tmp_path))}': run 'adbench sweep' first"):
        render(make_report(tmp_path), "table")


def test_formats_are_found() -> None:
    assert {"csv", "json", "latex", "markdown", "table"} <= set(FORMATS.names())
    with pytest.raises(UsageError, match=r"^unknown format 'tabel'; did you mean 'table'\?$"):
        FORMATS.get("tabel")


@pytest.fixture
def toy_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    source = 'from adbench.reports.formats import register\n\n@register("toy")\ndef toy(report):\n    return "toy"\n'
    (tmp_path / "toy_format.py").write_text(source)
    monkeypatch.setattr(adbench.reports.formats, "__path__", [*adbench.reports.formats.__path__, str(tmp_path)])
    monkeypatch.setattr(FORMATS, "_loaded", False)
    yield
    FORMATS._items.pop("toy", None)
    sys.modules.pop("adbench.reports.formats.toy_format", None)


@pytest.mark.usefixtures("toy_format")
def test_a_new_format_is_one_file() -> None:
    assert FORMATS.get("toy")(example()) == "toy"


def with_section() -> Report:
    def drawing() -> object:
        from matplotlib.figure import Figure as Drawing

        return Drawing(figsize=(1, 1))

    table = Table("wins by layer", ["layer", "wins"], [[Cell("layer3"), Cell("7", best=True)]], 1)
    section = Section("Which layer?", [table], [Figure("wins", "Wins", "bars", drawing)], ["layer3 wins in 7"])
    return replace(example(), sections=[section])


@pytest.mark.parametrize("name", FOR_PEOPLE)
def test_sections_follow_the_table(name: str) -> None:
    text = FORMATS.get(name)(with_section())
    positions = [text.index(word) for word in ("1 job failed", "Which layer?", "wins by layer", "layer3 wins in 7")]
    assert positions == sorted(positions)


def test_figures_are_written_as_png_and_svg(tmp_path: Path) -> None:
    assert [path.name for path in draw_figures(with_section(), tmp_path)] == ["wins.png", "wins.svg"]
    assert (tmp_path / "wins.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (tmp_path / "wins.svg").read_text()


def test_studies_of_very_many_jobs_are_shown_when_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("adbench.reports.report.MOST_JOBS", 1)
    for result in (done(JOB), done(OTHER)):
        ResultStore(tmp_path).write(result)
    assert [section.title for section in make_report(tmp_path).sections] == ["Studies"]
    assert make_report(tmp_path, View(study="layers")).sections[0].tables
