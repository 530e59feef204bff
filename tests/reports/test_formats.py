"""Report formats: every format for people prints the same digits, every format for programs is lossless."""

import csv
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from report_examples import JOB, OTHER, build, complete, done, example, with_section

from adbench.core.errors import UsageError
from adbench.reports.formats import FORMATS, Cell, Report, Section, Table
from adbench.reports.formats.latex import latex
from adbench.reports.formats.markdown import markdown
from adbench.reports.formats.table import table
from adbench.sweep.results import ResultStore
from adbench.types import Result

FOR_PEOPLE = ("latex", "markdown", "table")


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
    lines = table(complete()).splitlines()
    assert lines[2].split() == ["layer", "I-AUROC", "AU-PRO"]
    assert lines[4].split() == ["layer2", "*0.804*", "*0.250*"]
    assert lines[7:] == [
        "*best*: the best of its column",
        "I-AUROC: area under the ROC curve, images; AU-PRO: overlap with defect regions",
    ]


def test_table_in_bold_keeps_its_columns() -> None:
    plain, bold = table(complete()), table(replace(complete(), bold=True))
    assert "\033[1m0.804\033[0m" in bold and "*" not in bold
    assert "\033" not in plain


def wide(labels: int, values: int, rows: int = 3) -> Report:
    headers = [*(f"label {i}" for i in range(labels)), *(f"blocks.{i}.relu+some value" for i in range(values))]
    text = "blocks.2.1.add+blocks.4.2.add, patchcore"
    body = [[*[Cell(f"{text} {i}")] * labels, *[Cell("0.123 (14/15)", best=i == 1)] * values] for i in range(rows)]
    note = f"a sentence of many words that is longer than any terminal {text}: adbench train {text} --data 'my parts' --model x"
    return Report(Table(f"caption {text} {text} {text}", headers, body, labels), [note])


@pytest.mark.parametrize("width", [60, 80, 100])
@pytest.mark.parametrize(("labels", "values"), [(1, 1), (1, 12), (2, 4), (3, 2)])
@pytest.mark.parametrize("bold", [False, True])
def test_a_table_fits_the_terminal_and_loses_nothing(labels: int, values: int, width: int, bold: bool) -> None:
    report = replace(wide(labels, values), bold=bold, width=width)
    text = re.sub("\033\\[.m", "", table(report))
    assert max(map(len, text.splitlines())) <= width
    assert text.count("0.123 (14/15)") == 3 * values
    squeezed = re.sub(r"\s+", "", text)
    assert "captionblocks.2.1.add+blocks.4.2.add,patchcore" in squeezed
    command = text[text.index("  adbench train") :].replace("\\\n", " ")
    assert shlex.split(command)[-4:] == ["--data", "my parts", "--model", "x"]


def test_a_table_that_fits_is_not_broken() -> None:
    assert table(replace(complete(), width=100)).splitlines()[3:7] == table(complete()).splitlines()[2:6]


def test_keys_that_all_rows_share_are_said_once_above() -> None:
    rows = [[Cell("resnet18"), Cell(f"layer{i}"), Cell("1")] for i in range(2)]
    lines = table(Report(Table("wins", ["backbone", "layer", "wins"], rows, 2))).splitlines()
    assert lines[0] == "wins; all rows: backbone resnet18" and lines[2].split() == ["layer", "wins"]
    alone = table(Report(Table("wins", ["backbone", "layer", "wins"], rows[:1], 2))).splitlines()
    assert alone[2].split() == ["backbone", "layer", "wins"]


def test_an_abbreviation_is_explained_once() -> None:
    text = table(replace(complete(), sections=[Section("Again", [complete().table])]))
    assert text.count("area under the ROC curve, images") == 1 and text.count("the best of its column") == 1


def test_markdown_is_a_pipe_table() -> None:
    lines = markdown(complete()).splitlines()
    assert re.fullmatch(r"\| layer +\| +image_auroc \| +aupro \|", lines[2])
    assert re.fullmatch(r"\|:-+\|-+:\|-+:\|", lines[3])
    assert re.fullmatch(r"\| layer2 +\| +\*\*0\.804\*\* \| +\*\*0\.250\*\* \|", lines[4])
    lines = markdown(example()).splitlines()
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
    assert r"layer2 & 3/3 & 0.804 & 0.250 \\" in text
    assert r"layer2 & \textbf{0.804} & \textbf{0.250} \\" in latex(complete())
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


def test_formats_are_found() -> None:
    assert {"csv", "json", "latex", "markdown", "table"} <= set(FORMATS.names())
    with pytest.raises(UsageError, match=r"^unknown format 'tabel'; did you mean 'table'\?$"):
        FORMATS.get("tabel")


def test_a_new_format_is_one_file(tmp_path: Path) -> None:
    source = 'from adbench.reports.formats import register\n\n@register("toy")\ndef toy(report):\n    return "toy"\n'
    (tmp_path / "toy.py").write_text(source)
    ResultStore(tmp_path / "results").write(done(JOB))
    command = [sys.executable, "-m", "adbench", "report", "results", "--format", "toy"]
    environment = os.environ | {"ADBENCH_PLUGINS": str(tmp_path / "toy.py")}
    assert subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout == "toy\n"


METRICS = {"image_auroc": 0.5, "blur": 0.12345, "sharpness": 0.75}


@pytest.mark.parametrize("name", [*FOR_PEOPLE, "html"])
def test_every_format_has_the_columns_of_plug_ins(name: str) -> None:
    result = replace(done(JOB), metrics=METRICS, environment={"torch": "2.9"})
    other = replace(done(OTHER), environment={"torch": "2.14"})
    text = FORMATS.get(name)(build([result, other]))
    assert all(word in text for word in ("blur", "sharpness", "0.123", "0.750"))
    assert text.count("the results mix torch 2.9 and 2.14: last digits and times may differ") == 1
    if name == "html":
        assert re.search(r">image_auroc</th>\s+.*>aupro</th>\s+.*>blur</th>\s+.*>sharpness</th>\s+.*>fit s</th>", text)


def test_formats_for_programs_have_the_metrics_of_plug_ins() -> None:
    report = build([replace(done(JOB), metrics=METRICS)])
    assert json.loads(FORMATS.get("json")(report))[0]["metrics"] == METRICS
    assert next(csv.DictReader(io.StringIO(FORMATS.get("csv")(report))))["metrics.sharpness"] == "0.75"


@pytest.mark.parametrize("name", FOR_PEOPLE)
def test_sections_follow_the_table(name: str) -> None:
    text = FORMATS.get(name)(with_section())
    positions = [text.index(word) for word in ("1 job failed", "Which layer?", "wins by layer", "layer3 wins in 7")]
    assert positions == sorted(positions)


def test_what_a_note_or_a_caption_says_is_not_said_again() -> None:
    headers, rows = ["backbone", "layer", "RRF"], [[Cell("resnet18"), Cell(name), Cell("0.5")] for name in ("a", "b")]
    plain = Report(Table("means; all rows: seed 0", headers, rows, num_labels=2), ["ms: of one image. RRF: the field"])
    text = FORMATS.get("table")(plain)
    assert text.splitlines()[0] == "means; all rows: seed 0, backbone resnet18" and text.count("RRF: ") == 1
    silent = Report(plain.table, ["at 256 px: RRF: nothing"])
    assert "RRF: receptive field / image size" in FORMATS.get("table")(silent)
