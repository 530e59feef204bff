"""`adbench report`: tables, studies, analyses and figures of a results folder."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from adbench.cli import console
from adbench.cli import options as o

if TYPE_CHECKING:
    from adbench.reports.formats import Report


def report(
    limits: o.CostLimits,
    results: Annotated[
        list[Path] | None,
        o.path_argument("[RESULTS]...", "Folder; two for --compare. Default: $ADBENCH_RESULTS, else ./results."),
    ] = None,
    format_: o.Format = "table",
    rows: Annotated[list[str] | None, o.option("K", "Keys whose values make the rows; may be repeated.")] = None,
    columns: Annotated[str | None, o.option("K", "Key whose values make the columns, e.g. category.")] = None,
    metric: Annotated[str | None, o.option("M", "Metric to show, from 'adbench list metrics'.")] = None,
    study: Annotated[str, o.option("S", "layers, image-size, pretraining, seeds, auto or none.")] = "auto",
    show: Annotated[list[str] | None, o.option("A", "From 'adbench list analyses', or all; may be repeated.")] = None,
    compare: Annotated[bool, o.flag("--compare", "Compare two folders job by job, with tests of significance.")] = False,
    figures: Annotated[Path | None, o.path_option("DIR", "Folder for figures, as PNG and SVG.")] = None,
    json: o.Json = False,
) -> None:
    """Print the results table, also while a sweep is running, and the answers to its studies."""
    from adbench.core.files import check_folder
    from adbench.reports.formats import FORMATS
    from adbench.reports.report import Budget, View, draw_figures, report_on

    name = "json" if json else FORMATS.canonical(format_)
    if figures:
        check_folder("--figures", figures)
    budget = Budget(limits.max_latency, limits.memory_mb)
    view = View(
        o.split(rows), columns, metric, study, o.split(show), None if budget == Budget() else budget,
        complete=name == "html",
    )  # fmt: skip
    made = report_on(results or [o.results_folder(None)], view, compare)
    print_report(made, name)
    if figures:
        with console.progress() as on_step:
            written = draw_figures(made, figures, on_step)
        names = ", ".join(dict.fromkeys(path.stem for path in written))
        console.say(f"in {figures}, as PNG and SVG: {names}" if names else "no figures: these results answer no study")


def print_report(report: Report, name: str) -> None:
    """Print a report in the format `name`; all but the table for a terminal are documents."""
    from adbench.reports.report import render

    text = render(report, name, bold=console.has_color(sys.stdout))
    console.answer(text) if name == "table" else console.answer_document(text)
