"""`adbench report`: tables, studies, analyses and figures of a results folder."""

import sys
from pathlib import Path
from typing import Annotated

from adbench.cli import console
from adbench.cli import options as o


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
    from adbench.reports.report import Budget, View, draw_figures, render, report_on

    name = "json" if json else format_
    budget = Budget(limits.max_latency, limits.memory_mb)
    view = View(
        o.split(rows), columns, metric, study, o.split(show), None if budget == Budget() else budget,
        complete=name.lower() == "html",
    )  # fmt: skip
    made = report_on(results or [o.results_folder(None)], view, compare)
    console.answer(render(made, name, bold=console.has_color(sys.stdout)))
    if figures:
        with console.progress() as on_step:
            written = draw_figures(made, figures, on_step)
        names = ", ".join(dict.fromkeys(path.stem for path in written))
        console.say(f"in {figures}, as PNG and SVG: {names}" if names else "no figures: these results answer no study")
