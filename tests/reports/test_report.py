"""A results folder as a report: while its sweep runs, without results, with figures and studies."""

import json
import re
from pathlib import Path

import pytest
from report_examples import JOB, OTHER, done, jobs, with_section

from adbench.core.errors import DataError
from adbench.reports.report import View, draw_figures, make_report, render
from adbench.sweep.results import ResultStore


def test_a_folder_is_rendered_while_its_sweep_runs(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    store.write_plan("layers", jobs(JOB))
    store.write(done(JOB, 0.5))
    assert re.search(r"^layer2 +1/3 +0\.500 \(1/3\)", render(make_report(tmp_path), "table"), re.MULTILINE)
    assert json.loads(render(make_report(tmp_path), "json"))[0]["metrics"] == {"image_auroc": 0.5, "aupro": 0.25}


def test_a_folder_without_results_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"^no results in '{re.escape(str(tmp_path))}': run 'adbench sweep' first"):
        render(make_report(tmp_path), "table")


def test_figures_are_written_as_png_and_svg(tmp_path: Path) -> None:
    assert [path.name for path in draw_figures(with_section(), tmp_path)] == ["wins.png", "wins.svg"]
    assert (tmp_path / "wins.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (tmp_path / "wins.svg").read_text()


def test_studies_of_very_many_jobs_are_shown_when_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("adbench.reports.report.MOST_JOBS", 1)
    for result in (done(JOB), done(OTHER)):
        ResultStore(tmp_path).write(result)
    assert [section.title for section in make_report(tmp_path).sections] == ["Studies", "Which row is best?"]
    assert make_report(tmp_path, View(study="layers")).sections[0].tables
