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
    metric: Annotated[str | None, o.option("M", "The only metric to show and to compare by.")] = None,
    metrics: Annotated[list[str] | None, o.option("M,..|all", "Metrics to show. Default: image_auroc and aupro.")] = None,
    sort: Annotated[str | None, o.option("COLUMN", "Sort the rows by a column, the best first.")] = None,
    top: Annotated[int | None, o.option("N", "Show only the first N rows, by --sort or the first metric.", low=1)] = None,
    study: Annotated[str, o.option("S", "layers, image-size, pretraining, seeds, auto or none.")] = "auto",
    show: Annotated[list[str] | None, o.option("A", "From 'adbench list analyses', or all; may be repeated.")] = None,
    compare: Annotated[bool, o.flag("--compare", "Compare two folders job by job, with tests of significance.")] = False,
    mm_per_px: Annotated[
        float | None, o.option("MM", "Millimeters per pixel of the images, for --show defects.", low=1e-9)
    ] = None,
    figures: Annotated[Path | None, o.path_option("DIR", "Folder for figures, as PNG and SVG.")] = None,
    json: o.Json = False,
) -> None:
    """Print the results table, also while a sweep is running, the answers to its studies, and which row is best."""
    from adbench.core.environment import cache_folder
    from adbench.reports.report import Budget, View, draw_figures, render, report_on

    name = "json" if json else format_
    budget = Budget(limits.max_latency, limits.memory_mb)
    view = View(
        o.split(rows), columns, metric, o.split(metrics), sort, top, study, o.split(show),
        None if budget == Budget() else budget, name.lower() == "html", cache_folder() / "backbones", mm_per_px,
    )  # fmt: skip
    made = report_on(results or [o.results_folder(None)], view, compare)
    console.answer(render(made, name, bold=console.has_color(sys.stdout), width=console.width()))
    if figures:
        with console.progress() as on_step:
            written = draw_figures(made, figures, on_step)
        names = ", ".join(dict.fromkeys(path.stem for path in written))
        console.say(f"in {figures}, as PNG and SVG: {names}" if names else "no figures: these results answer no study")
