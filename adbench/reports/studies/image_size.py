"""How does the size of the input matter, layer by layer (Figure 3 of the paper's supplement)?

A larger input lowers the relative receptive field of a layer (RRF = receptive field / image size), which the figure shows
below the metrics. All sizes are scored at one evaluation grid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from adbench.reports import study_data as data
from adbench.reports.analyses.defects import FOUND, sizes_table
from adbench.reports.comparison import DASH, Column, Comparison
from adbench.reports.formats import Figure, Section, Table
from adbench.reports.keys import Group, KeyedJob, grouped, groups_by, natural, several, value_words
from adbench.reports.plotting import COLUMN, SMALL, Look, name_layers, panels, shades
from adbench.reports.studies import Study, register
from adbench.reports.tables import analytic_note
from adbench.types import ImageSize

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

KEY = "view"  # the image size, and the tiles that it is cut into
RRF = "RRF"
Cells = dict[tuple[Any, ...], list[KeyedJob]]  # by size and layer
_WIDTH, _HEIGHT, _STEP, _FRAME = 1.65, 1.1, 0.25, 1.05  # inches: a panel, from layer to layer, legend and names of layers


def section(jobs: Sequence[KeyedJob]) -> Section:
    """Return a table per metric with a column per size, a table of RRF, and a figure per detector."""
    measures, key = data.measured(jobs), _key(jobs)
    tables, notes = data.pivot_tables(jobs, key, measures)
    tables += [*_by_defect_size(jobs, key), *_latencies(jobs, key)]
    grids = " or ".join(sorted({str(job.job.eval_size) for job in jobs}))
    return Section(
        "How does the image size matter?",
        tables=[*tables, _relative_fields(jobs)],
        figures=[_figure(group, measures) for group in groups_by(jobs, data.figure_keys(jobs)) if measures],
        notes=[
            *notes,
            f"all sizes are scored at one grid, eval_size {grids}; RRF: estimated receptive field / image size",
            *analytic_note(jobs),
        ],
    )


def _key(jobs: Sequence[KeyedJob]) -> str:
    """Return the key of the columns: the image size alone where no image is cut into tiles."""
    return KEY if any(job.job.tile for job in jobs) else "image_size"


def _by_defect_size(jobs: Sequence[KeyedJob], key: str) -> list[Table]:
    """Return what each view finds of defects of each size, where results have it."""
    others = [name for name in ("backbone", "weights", "layer", "detector", "params", "category") if several(jobs, name)]
    return [found for metric in ("aupro", FOUND) if (found := sizes_table(jobs, [*others, "category"], key, metric))]


def _latencies(jobs: Sequence[KeyedJob], key: str) -> list[Table]:
    """Return the milliseconds of one image by view, where results have them."""
    column, values = Column("", lambda result: result.cost.get("latency_ms"), digits=1), _values(jobs, key)
    comparison = Comparison(jobs, ["backbone", "layer", "detector", key])
    rows = [
        [group.label, layer, *(comparison.means([j for j in own if j.values[key] == v], [column])[0].number for v in values)]
        for group in groups_by(jobs, ["backbone", "detector"])
        for layer, own in data.by_layer(group.jobs).items()
    ]
    caption = "Latency in ms per image, with reading and resizing left out"
    known = any(job.done and job.done.cost.get("latency_ms") for job in jobs)
    return [Table.of_texts(caption, ["configuration", "layer", *map(str, values)], rows, 2)] if known else []


def _relative_fields(jobs: Sequence[KeyedJob]) -> Table:
    key = _key(jobs)
    sizes = _values(jobs, key)
    rows = [
        [group.label, layer, *(data.field_texts([j for j in members if j.values[key] == size])[1] for size in sizes)]
        for group in groups_by(jobs, ["backbone"])
        for layer, members in data.by_layer(group.jobs).items()
    ]
    return Table.of_texts("Relative receptive field (RRF) by image size", ["backbone", "layer", *map(str, sizes)], rows, 2)


def _values(jobs: Sequence[KeyedJob], key: str) -> list[ImageSize]:
    return sorted({job.values[key] for job in jobs}, key=natural)


def _figure(detector: Group, measures: Sequence[str]) -> Figure:
    comparison = data.compared(detector.jobs)
    jobs = detector.jobs
    keys = data.backbone_keys(jobs, ["weights"])
    words = data.in_words(jobs, keys, lambda members: data.by_value(comparison, members, _key(jobs), "{1} at {0}", measures))
    return Figure(
        name=f"image-size-{data.slug(detector.label)}",
        caption=f"{detector.label}: metrics by layer and image size, and below them the relative receptive field (RRF)",
        description=f"Lines, one per image size. {'. '.join(words)}.",
        draw=lambda: _draw(comparison, groups_by(jobs, keys), _key(jobs), measures),
    )


def _draw(comparison: Comparison, groups: Sequence[Group], key: str, measures: Sequence[str]) -> Drawing:
    rows = [*measures, RRF]
    most_layers = max(len(data.by_layer(group.jobs)) for group in groups)
    size = (max(COLUMN, max(_WIDTH, _STEP * most_layers) * len(groups)), _FRAME + _HEIGHT * len(rows))
    drawing, axes = panels(size, len(rows), len(groups), sharex="col", sharey="row")
    sizes = _values([job for group in groups for job in group.jobs], key)
    tones = dict(zip(sizes, shades(len(sizes)), strict=True))
    for group, column in zip(groups, axes.T, strict=True):
        column[0].set_title(group.label.replace(", ", "\n"), fontsize="medium", fontweight="bold")
        _draw_column(comparison, column, group.jobs, measures, key, tones)
    for panel, name in zip(axes[:, 0], rows, strict=True):
        panel.set_ylabel(data.AXIS_NAMES.get(name, name))
    drawing.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=4, columnspacing=1)
    return drawing


def _draw_column(
    comparison: Comparison,
    column: Sequence[Axes],
    jobs: Sequence[KeyedJob],
    measures: Sequence[str],
    key: str,
    tones: dict[ImageSize, Look],
) -> None:
    """Draw the panels of one backbone: metrics over its layers, then their relative receptive fields."""
    from matplotlib.ticker import LogLocator

    names = data.names_in_figure(list(data.by_layer(jobs)), joined_in_lines=True)
    for panel in column:
        panel.grid(axis="y")
        panel.set_xlim(-0.3, len(names) - 0.7)
        name_layers(panel, list(names.values()), _WIDTH)
    cells = grouped(jobs, [key, "layer"])
    for panel, measure in zip(column, measures, strict=False):
        _draw_metric(comparison, panel, cells, list(names), measure, tones)
    fields = column[-1]
    fields.set_yscale("log", subs=[])
    fields.yaxis.set_major_locator(LogLocator(subs=(1, 3)))
    fields.yaxis.set_major_formatter("{x:g}")
    for size, look in tones.items():
        fields.plot(
            [data.relative_field(cells.get((size, name), [])) or math.nan for name in names], color=look.color, marker=look.marker
        )


def _draw_metric(
    comparison: Comparison, panel: Axes, cells: Cells, names: Sequence[str], measure: str, tones: dict[ImageSize, Look]
) -> None:
    """Draw a line per size, broken where there is no value; partial means have hollow markers and dotted lines."""
    shares = set()
    for size, look in tones.items():
        means = [comparison.mean(cells.get((size, name), []), measure) for name in names]
        values = [math.nan if mean.number == DASH else float(mean.number) for mean in means]
        complete = [value if mean.complete else math.nan for mean, value in zip(means, values, strict=True)]
        partial = [math.nan if mean.complete else value for mean, value in zip(means, values, strict=True)]
        panel.plot(values, color=look.color, linestyle=":")
        panel.plot(complete, color=look.color, marker=look.marker, label=value_words("view", size))
        panel.plot(partial, look.marker, color=look.color, markerfacecolor="white")
        shares |= {mean.share for mean in means if mean.share}
    if shares:
        ends = min(shares, key=natural), max(shares, key=natural)
        panel.set_xlabel(f"hollow, dotted or missing: {' to '.join(dict.fromkeys(ends))}", fontsize=SMALL)


register("image-size")(Study(KEY, section))
