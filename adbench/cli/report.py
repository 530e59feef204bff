"""`adbench report`: tables, studies, analyses and figures of a results folder."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from adbench.cli import completion, console
from adbench.cli import options as o

if TYPE_CHECKING:
    from adbench.reports.formats import Report

_ROWS = "Keys of a job that make the rows, e.g. layer,image_size; may be repeated."
_METRIC = "The only metric to show and to compare by, e.g. aupro; see 'adbench list metrics'."
_METRICS = "Metrics to show, or all. Default: image_auroc and aupro."
_COLUMNS = "Key of a job whose values make the columns, e.g. category."
_STUDY = "Question to answer: layers, image-size, pretraining, seeds, shots, none, or auto: all that the results were made for."
_SHOW = (
    "More to print: cost (metrics beside time and memory), defects (metrics by kind and size of defect), significance (are the "
    "differences larger than chance?), thresholds (promised and attained rates), robustness (changes on shifted test images), or "
    "all; may be repeated."
)


def report(
    results: Annotated[
        list[Path] | None,
        o.path_argument("[RESULTS...]", "Results folder; two for --compare. Default: $ADBENCH_RESULTS, else ./results."),
    ] = None,
    *,
    format_: o.Format = "table",
    rows: Annotated[list[str] | None, o.option("K,..", _ROWS, complete=completion.table_keys)] = None,
    columns: Annotated[str | None, o.option("K", _COLUMNS, complete=completion.table_key)] = None,
    metric: Annotated[str | None, o.option("M", _METRIC, complete=completion.table("metrics"))] = None,
    metrics: Annotated[
        list[str] | None, o.option("M,..|all", _METRICS, complete=completion.table("metrics", "all", separators=","))
    ] = None,
    sort: Annotated[str | None, o.option("COLUMN", "Sort the rows by a column, e.g. aupro, the best first.")] = None,
    top: Annotated[int | None, o.option("N", "Show only the first N rows, by --sort or the first metric.", low=1)] = None,
    study: Annotated[str, o.option("S", _STUDY, complete=completion.table("studies", "auto", "none"))] = "auto",
    show: Annotated[
        list[str] | None, o.option("A,..", _SHOW, complete=completion.table("analyses", "all", separators=","))
    ] = None,
    mm_per_px: Annotated[
        float | None, o.option("MM", "Millimeters per pixel of the images, for --show defects.", low=1e-9)
    ] = None,
    compare: Annotated[bool, o.flag("--compare", "Compare two results folders job by job, with tests of significance.")] = False,
    figures: Annotated[Path | None, o.path_option("DIR", "Folder for figures, as PNG and SVG.")] = None,
    limits: o.CostLimits,
    json: o.Json = False,
) -> None:
    """Print the results of a sweep, also while it is running.

    The table of all results comes first, then the answers to the questions (studies) for which the results were made, then
    which row is best, whether that can be chance, and the command that trains it.

    Examples:
      adbench report results --columns category --metric aupro
      adbench report results --sort aupro --top 5 --metrics all
      adbench report results --show significance,cost
      adbench report results --format html > results.html
      adbench report before after --compare
    """
    from adbench.core.environment import cache_folder
    from adbench.core.files import check_folder
    from adbench.reports.formats import FORMATS
    from adbench.reports.report import Budget, View, draw_figures, report_on

    name = "json" if json else FORMATS.canonical(format_)
    if figures:
        check_folder("--figures", figures)
    budget = Budget(limits.max_latency, limits.memory_mb)
    view = View(
        o.split(rows), columns, metric, o.split(metrics), sort, top, study, o.split(show),
        None if budget == Budget() else budget, name == "html", cache_folder() / "backbones", mm_per_px,
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

    text = render(report, name, bold=console.has_color(sys.stdout), width=console.width())
    console.answer(text) if name == "table" else console.answer_document(text)
