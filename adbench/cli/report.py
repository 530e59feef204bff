"""`adbench report`: tables, studies, analyses and figures of a results folder."""

import sys
from pathlib import Path
from typing import Annotated

from adbench.cli import completion, console
from adbench.cli import options as o

_ROWS = "Keys of a job that make the rows, e.g. layer,image_size; may be repeated."
_METRIC = "Metric to show, e.g. aupro; see 'adbench list metrics'. Default: all."
_COLUMNS = "Key of a job whose values make the columns, e.g. category."
_STUDY = "Question to answer: layers, image-size, pretraining, seeds, none, or auto: all that the results were made for."
_SHOW = (
    "More to print: cost (metrics beside time and memory), defects (metrics by kind and size of defect), significance (are the "
    "differences larger than chance?), or all; may be repeated."
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
    study: Annotated[str, o.option("S", _STUDY, complete=completion.table("studies", "auto", "none"))] = "auto",
    show: Annotated[
        list[str] | None, o.option("A,..", _SHOW, complete=completion.table("analyses", "all", separators=","))
    ] = None,
    compare: Annotated[bool, o.flag("--compare", "Compare two results folders job by job, with tests of significance.")] = False,
    figures: Annotated[Path | None, o.path_option("DIR", "Folder for figures, as PNG and SVG.")] = None,
    limits: o.CostLimits,
    json: o.Json = False,
) -> None:
    """Print the results of a sweep, also while it is running.

    The table of all results comes first, then the answers to the questions (studies) for which the results were made.

    Examples:
      adbench report results --columns category --metric aupro
      adbench report results --show significance,cost
      adbench report results --format html > results.html
      adbench report before after --compare
    """
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
