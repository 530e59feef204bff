"""What does quality cost: times and memory of every row beside its metrics, and the rows on the Pareto front.

How times are measured is documented in `adbench.features.latency`. A row is on the Pareto front of a metric if no other row
is at least as good and at least as fast and better in one of the two, all as printed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from textwrap import fill
from typing import TYPE_CHECKING

from adbench.reports.analyses import Question, register
from adbench.reports.comparison import Column, Comparison, metric_column
from adbench.reports.formats import Cell, Figure, Section, Table
from adbench.reports.keys import KeyedJob, grouped, groups_by
from adbench.reports.plotting import COLUMN, INK, LETTER, PAGE, looks, panels, wanted_width
from adbench.reports.study_data import AXIS_NAMES
from adbench.reports.tables import cost_column, counted, partial_note, ranked
from adbench.types import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

LATENCY = cost_column("latency_ms", "ms p50")
RATE = Column("images/s alone", lambda r: 1000 / ms if (ms := r.cost.get("latency_ms")) else None, digits=1, ranked=False)
COLUMNS = (
    LATENCY, cost_column("latency_p95_ms", "ms p95"), cost_column("forward_ms", "network ms"),
    cost_column("score_ms", "detector ms"), RATE, cost_column("batch_images_per_second", "images/s batched"),
    cost_column("extract_s", "extract s"), cost_column("fit_s", "fit s"), cost_column("score_s", "score s"),
    cost_column("state_mb", "state MB"), cost_column("peak_memory_mb", "peak MB", 0),
    cost_column("accelerator_memory_mb", "GPU MB", 0),
)  # fmt: skip
_HEIGHT, _LINE = 2.0, 0.15  # inches: a panel, a line of the legend
_WIDE = 1.3  # so much higher is a panel beside another


@register("cost")
def section(jobs: Sequence[KeyedJob], question: Question) -> Section:
    """Return the table of costs and the Pareto plot of each metric against the latency of one image."""
    done = [job.done for job in jobs if job.done]
    known = [column for column in COLUMNS if any(column.value(result) is not None for result in done)]
    columns = [*map(metric_column, question.metrics), *known]
    groups, comparison = grouped(jobs, question.rows), Comparison(jobs, question.rows)
    means = [comparison.means(row, columns) for row in groups.values()]
    rows = [[*map(Cell, map(str, values)), *cells] for values, cells in zip(groups, ranked(means, columns), strict=True)]
    headers = [*question.rows, *(column.header for column in columns)]
    table = Table("Quality and cost, means over jobs", headers, rows, num_labels=len(question.rows))
    fronts, left_out = _fronts(jobs, question, comparison)
    sentences = [_front(metric, points) for metric, points in fronts.items()]
    figure = Figure(
        name="quality-latency",
        caption="Quality against the latency of one image; numbered: the rows that no other beats in both",
        description=". ".join(sentences) + ".",
        draw=lambda: _draw(fronts),
    )
    notes = [*partial_note(means), *sentences, *left_out, *_legend(done)]
    return Section("What does quality cost?", [table], [figure] if fronts else [], notes)


@dataclass(frozen=True)
class Point:
    """A row in the plot: its name, milliseconds per image, its metric, and whether it is on the Pareto front."""

    name: str
    latency: float
    quality: float
    front: bool = False


def _fronts(jobs: Sequence[KeyedJob], question: Question, comparison: Comparison) -> tuple[dict[str, list[Point]], list[str]]:
    """Return the points by metric, and where data sets or evaluation grids differ by these; and a note on rows without one."""
    fronts, notes = {}, []
    for metric in question.metrics:
        lacking = 0
        for part in groups_by(jobs, comparison.apart):
            points = _points(part.jobs, question.rows, metric, comparison)
            lacking += len(grouped(part.jobs, question.rows)) - len(points)
            if points:
                fronts[", ".join(filter(None, (metric, part.label)))] = points
        if fronts and lacking:
            notes.append(f"{metric}: {counted(lacking, 'row')} not compared: incomplete, or some results have no latency")
    return fronts, notes


def _points(jobs: Sequence[KeyedJob], keys: Sequence[str], metric: str, comparison: Comparison) -> list[Point]:
    """Return the rows whose quality and latency both cover all cells, the fastest first."""
    points = []
    for row in groups_by(jobs, keys):
        quality, latency = comparison.means(row.jobs, [metric_column(metric), LATENCY])
        if quality.complete and latency.complete:
            points.append(Point(row.label, float(latency.number), float(quality.number)))
    return pareto(points)


def pareto(points: Sequence[Point]) -> list[Point]:
    """Return the points from fast to slow, of equally fast ones the better first, with those on the front marked."""
    marked: list[Point] = []
    for point in sorted(points, key=lambda point: (point.latency, -point.quality)):
        best = [p for p in marked if p.front]
        equal = any((p.latency, p.quality) == (point.latency, point.quality) for p in best)
        marked.append(replace(point, front=equal or all(point.quality > p.quality for p in best)))
    return marked


def _front(metric: str, points: Sequence[Point]) -> str:
    front = [f"{p.name} ({p.latency:.1f} ms, {p.quality:.3f})" for p in points if p.front]
    return f"{metric}: no row beats these in both quality and latency: {'; '.join(front)}"


def _legend(done: Sequence[Result]) -> list[str]:
    notes = [
        "ms: one image at a time, from pixels in memory to score and map; images/s batched: in passes of the network's batch"
    ]
    if unknown := sum(result.cost.get("latency_ms") is None for result in done):
        notes.append(f"{unknown} of {len(done)} results have no latency: no test images, or an earlier version's")
    machines = {tuple(str(r.environment.get(key)) for key in ("machine", "accelerator", "threads")) for r in done}
    if len(machines) > 1:
        notes.append(f"measured on {len(machines)} kinds of machine: their times and memory cannot be compared")
    return notes


def _draw(fronts: dict[str, list[Point]]) -> Drawing:
    """Draw a panel per metric, side by side where there is room; a row has the same number in all of them."""
    from matplotlib.lines import Line2D

    front = {p.name: p.latency for points in fronts.values() for p in points if p.front}
    numbers = {name: number for number, name in enumerate(sorted(front, key=lambda name: front[name]), start=1)}
    labels = [_legend_text(number, name) for name, number in numbers.items()]
    rows = 1 if wanted_width() >= PAGE else len(fronts)
    size = (COLUMN, _HEIGHT * (_WIDE if rows == 1 else 1) * rows + _LINE * sum(label.count("\n") + 1 for label in labels))
    drawing, axes = panels(size, rows, -(-len(fronts) // rows))
    for panel, (metric, points) in zip(axes.flat, fronts.items(), strict=True):
        panel.set_ylabel(AXIS_NAMES.get(metric, metric))
        panel.set_xlabel("ms per image")
        panel.grid()
        _draw_panel(panel, points, numbers)
    handles = [Line2D([], [], linestyle="none", label=label) for label in labels]
    drawing.legend(handles=handles, loc="outside lower left", handlelength=0, handletextpad=0)
    return drawing


def _draw_panel(panel: Axes, points: Sequence[Point], numbers: dict[str, int]) -> None:
    from matplotlib.ticker import LogLocator

    front, rest = [p for p in points if p.front], [p for p in points if not p.front]
    look = looks(1)[0]
    if points[-1].latency > 10 * points[0].latency:
        panel.set_xscale("log", subs=[])  # minor ticks would add labels of their own
        panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.xaxis.set_major_formatter("{x:g}")
    panel.plot([p.latency for p in rest], [p.quality for p in rest], "o", color=INK, markerfacecolor="white")
    panel.step([p.latency for p in front], [p.quality for p in front], where="post", color=look.color, linestyle="--")
    panel.plot([p.latency for p in front], [p.quality for p in front], "o", color=look.color)
    for p in front:
        panel.annotate(str(numbers[p.name]), (p.latency, p.quality), (0, 4), textcoords="offset points", ha="center")


def _legend_text(number: int, name: str) -> str:
    """Return a row's number and name, broken into lines that fit the figure."""
    return fill(f"{number}  {name}", int(wanted_width() / LETTER) - 8, subsequent_indent="    ", break_long_words=False)
