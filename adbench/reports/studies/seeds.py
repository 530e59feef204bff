"""How far do numbers scatter if nothing but the seed changes?

A cell is the mean over seeds and their sample standard deviation (n - 1): of the mean over categories, or of one category.
It has no deviation while a job is missing, nor over fewer than three seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from adbench.metrics import in_order
from adbench.reports.formats import Cell, Figure, Section, Table
from adbench.reports.grid import (
    AXIS_NAMES,
    FEWEST_SEEDS,
    MEASURES,
    Spread,
    blocks,
    cut,
    figure_keys,
    layers,
    measured,
    short_names,
    slug,
    spread,
)
from adbench.reports.keys import Entry, choose_rows, grouped, natural
from adbench.reports.plotting import INK, Block, looks, remark, rows
from adbench.reports.studies import Study, register
from adbench.reports.tables import DASH

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing


def section(found: Sequence[Entry]) -> Section:
    """Return mean and deviation of every row and of every category, and a figure per detector with each seed's dot."""
    shown = measured(found)
    return Section(
        "How much do the seeds matter?",
        tables=[_means(found), *(_by_category(found, measure) for measure in shown)],
        figures=[_figure(part.label, part.entries, shown) for part in cut(found, figure_keys(found)) if shown],
        notes=_notes(found),
    )


def _means(found: Sequence[Entry]) -> Table:
    keys = choose_rows(found, (), None)
    names = in_order(name for e in found if e.done for name, value in e.done.metrics.items() if value is not None)
    return Table(
        "Mean and standard deviation over seeds of the mean over categories",
        [*keys, "seeds", *names],
        [
            [*map(Cell, map(str, values)), Cell(_count(entries)), *(Cell(spread(entries, name).text) for name in names)]
            for values, entries in grouped(found, keys).items()
        ],
        num_labels=len(keys),
    )


def _by_category(found: Sequence[Entry], measure: str) -> Table:
    keys = choose_rows(found, (), None)
    categories = sorted({entry.job.category for entry in found}, key=lambda name: natural("category", name))
    return Table(
        f"{measure} by category: mean and standard deviation over seeds",
        [*keys, *categories],
        [
            [*map(Cell, map(str, values)), *(Cell(_in(entries, category, measure)) for category in categories)]
            for values, entries in grouped(found, keys).items()
        ],
        num_labels=len(keys),
    )


def _in(entries: Sequence[Entry], category: str, measure: str) -> str:
    return spread([entry for entry in entries if entry.job.category == category], measure).text


def _count(entries: Sequence[Entry]) -> str:
    """Seeds of which every job is done, and of how many."""
    seeds = {entry.job.seed for entry in entries}
    return f"{len(seeds - {entry.job.seed for entry in entries if not entry.done})}/{len(seeds)}"


def _notes(found: Sequence[Entry]) -> list[str]:
    notes = ["±: sample standard deviation over seeds; it tells how training scatters, not how test images do"]
    if few := sum(len({e.job.seed for e in row}) < FEWEST_SEEDS for row in grouped(found, choose_rows(found, (), None)).values()):
        notes.append(f"too few seeds for a standard deviation in {few} rows: {FEWEST_SEEDS} are the least, five are better")
    if any(not entry.done for entry in found):
        notes.append("no standard deviation is given while a job is missing; a number with (n/N) is over n of N")
    return notes


def _figure(name: str, found: Sequence[Entry], shown: Sequence[str]) -> Figure:
    said = (
        f"{block.label} {layer}: " + ", ".join(f"{AXIS_NAMES[m]} {spread(entries, m).text}" for m in shown)
        for block in cut(found, blocks(found))
        for layer, entries in layers(block.entries).items()
    )
    return Figure(
        name=f"seeds-{slug(name)}",
        caption=f"{name}: each seed's mean over categories (dots), mean and standard deviation over seeds (bars)",
        description=f"Dots with error bars. {'; '.join(said)}.",
        draw=lambda: _drawn(found, shown),
    )


def _drawn(found: Sequence[Entry], shown: Sequence[str]) -> Drawing:
    parts = [(part.label, layers(part.entries)) for part in cut(found, blocks(found))]
    titles = [f"{MEASURES[measure]}\n({AXIS_NAMES[measure]})" for measure in shown]
    drawing, axes, heights = rows([Block(label, list(short_names(list(of)).values())) for label, of in parts], titles)
    for panel, measure in zip(axes, shown, strict=True):
        for (_, of), block in zip(parts, heights, strict=True):
            for entries, y in zip(of.values(), block, strict=True):
                _row(panel, spread(entries, measure), y)
        panel.locator_params(axis="x", nbins=3)
    return drawing


def _row(panel: Axes, found: Spread, y: int) -> None:
    """A dot per seed; below them the mean with its deviation, hollow and with its share where something is missing."""
    panel.scatter(found.values, [y - 0.2] * len(found.values), s=5, color=looks(1)[0].colour, linewidths=0, zorder=3)
    if found.mean.number == DASH:
        return
    face = INK if found.mean.complete else "white"
    centre = float(found.mean.number)
    panel.errorbar(centre, y + 0.15, xerr=found.deviation, fmt="D", ms=2.5, color=INK, markerfacecolor=face)
    if not found.mean.complete:
        remark(panel, found.mean.share, (centre, y + 0.15), (4, 0), va="center")


register("seeds")(Study("seed", section))
