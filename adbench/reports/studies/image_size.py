"""How does the size of the input matter, layer by layer (Figure 3 of the paper's supplement)?

A larger input lowers the relative receptive field of a layer (RRF = receptive field / image size), which the figure shows
below the metrics. All sizes are scored at one evaluation grid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from adbench.reports.formats import Cell, Figure, Section, Table
from adbench.reports.grid import (
    AXIS_NAMES,
    Slice,
    blocks,
    cut,
    figure_keys,
    fraction,
    layers,
    mean,
    measured,
    relative_field,
    short_names,
    slug,
)
from adbench.reports.keys import Entry, choose_rows, natural
from adbench.reports.plotting import COLUMN, SMALL, Look, name_layers, shades
from adbench.reports.studies import Study, register
from adbench.reports.tables import DASH, Mean, partial_note, tabulated

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

KEY = "image_size"
RRF = "RRF"
_WIDTH, _HEIGHT, _STEP, _FRAME = (1.65, 1.1, 0.25, 1.05)  # inches: a panel, from layer to layer, legend and names of layers


def section(found: Sequence[Entry]) -> Section:
    """Return a table per metric with a column per size, one of RRF, and a figure per detector."""
    shown = measured(found)
    made = [tabulated(found, choose_rows(found, (), KEY), KEY, [measure]) for measure in shown]
    return Section(
        "How does the image size matter?",
        tables=[*(table for table, _ in made), _fields(found)],
        figures=[_figure(part.label, part.entries, shown) for part in cut(found, figure_keys(found)) if shown],
        notes=[*partial_note([row for _, means in made for row in means]), _note(found)],
    )


def _note(found: Sequence[Entry]) -> str:
    grids = sorted({str(entry.job.eval_size) for entry in found})
    return f"all sizes are scored at one grid, eval_size {' or '.join(grids)}; RRF: analytic receptive field / image size"


def _fields(found: Sequence[Entry]) -> Table:
    sizes = sorted({entry.job.image_size for entry in found})
    rows = [
        (part.label, layer, {e.job.image_size: [e] for e in entries if e.done})
        for part in cut(found, ["backbone"])
        for layer, entries in layers(part.entries).items()
    ]
    return Table(
        "Relative receptive field (RRF) by image size",
        ["backbone", "layer", *map(str, sizes)],
        [
            [Cell(label), Cell(layer), *(Cell(fraction(relative_field(of.get(size, [])))) for size in sizes)]
            for label, layer, of in rows
        ],
        num_labels=2,
    )


def _figure(name: str, found: Sequence[Entry], shown: Sequence[str]) -> Figure:
    said = (
        f"{part.label} {layer}: " + "; ".join(f"{AXIS_NAMES[m]} {_by_size(entries, m)}" for m in shown)
        for part in cut(found, blocks(found, ["weights"]))
        for layer, entries in layers(part.entries).items()
    )
    return Figure(
        name=f"image-size-{slug(name)}",
        caption=f"{name}: metrics by layer and image size, and below them the relative receptive field (RRF)",
        description=f"Lines, one per image size. {'. '.join(said)}.",
        draw=lambda: _drawn(found, shown),
    )


def _by_size(entries: Sequence[Entry], measure: str) -> str:
    return ", ".join(f"{mean(part.entries, measure).text} at {part.label}" for part in cut(entries, [KEY]))


def _drawn(found: Sequence[Entry], shown: Sequence[str]) -> Drawing:
    from matplotlib.figure import Figure as Drawing

    parts, sizes = cut(found, blocks(found, ["weights"])), sorted({entry.job.image_size for entry in found})
    rows = [*shown, RRF]
    most = max(len(layers(part.entries)) for part in parts)
    size = (max(COLUMN, max(_WIDTH, _STEP * most) * len(parts)), _FRAME + _HEIGHT * len(rows))
    drawing = Drawing(figsize=size, layout="constrained")
    axes = drawing.subplots(len(rows), len(parts), sharex="col", sharey="row", squeeze=False)
    tones = dict(zip(sizes, shades(len(sizes)), strict=True))
    for part, column in zip(parts, axes.T, strict=True):
        column[0].set_title(part.label.replace(", ", "\n"), fontsize="medium", fontweight="bold")
        _column(column, part, shown, tones)
    for panel, name in zip(axes[:, 0], rows, strict=True):
        panel.set_ylabel(AXIS_NAMES.get(name, name))
    drawing.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=4, columnspacing=1)
    return drawing


def _column(column: Sequence[Axes], part: Slice, shown: Sequence[str], tones: dict[int, Look]) -> None:
    """The panels of one backbone: metrics over its layers, then their relative receptive fields."""
    names = short_names(list(layers(part.entries)))
    cells = {size: layers([e for e in part.entries if e.job.image_size == size]) for size in tones}
    for panel in column:
        panel.grid(axis="y")
        panel.set_xlim(-0.3, len(names) - 0.7)
        name_layers(panel, list(names.values()), _WIDTH)
    for panel, measure in zip(column, shown, strict=False):
        means = {size: [mean(of.get(name, []), measure) for name in names] for size, of in cells.items()}
        _metric_panel(panel, means, tones)
    _field_panel(column[-1], {size: [relative_field(of.get(n, [])) for n in names] for size, of in cells.items()}, tones)


def _metric_panel(panel: Axes, means: dict[int, list[Mean]], tones: dict[int, Look]) -> None:
    """A line per size, broken where there is no value; what is over a part of the categories is hollow, with the part."""
    for size, look in tones.items():
        values = [math.nan if point.number == DASH else float(point.number) for point in means[size]]
        panel.plot(values, color=look.colour, marker=look.marker, label=f"{size} px")
        part = [math.nan if point.complete else value for point, value in zip(means[size], values, strict=True)]
        panel.plot(part, look.marker, color=look.colour, markerfacecolor="white")
    shares = sorted(
        {point.share for points in means.values() for point in points if point.share}, key=lambda share: natural(KEY, share)
    )
    if shares:
        panel.set_xlabel(f"hollow or missing: {' to '.join(dict.fromkeys((shares[0], shares[-1])))}", fontsize=SMALL)


def _field_panel(panel: Axes, fields: dict[int, list[float | None]], tones: dict[int, Look]) -> None:
    from matplotlib.ticker import LogLocator

    panel.set_yscale("log", subs=[])
    panel.yaxis.set_major_locator(LogLocator(subs=(1, 3)))
    panel.yaxis.set_major_formatter("{x:g}")
    for size, look in tones.items():
        panel.plot([field or math.nan for field in fields[size]], color=look.colour, marker=look.marker)


register("image-size")(Study(KEY, section))
