"""What does quality cost? Times and memory of every row beside its metrics, and the rows that no other beats in both.

How times are measured stands in `adbench.latency`. A row is on the Pareto front of a metric if no other row is at least as
good and at least as fast and better in one of the two, all as printed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import TYPE_CHECKING, Any

from adbench.reports.analyses import Question, register
from adbench.reports.formats import Cell, Figure, Section, Table
from adbench.reports.grid import AXIS_NAMES, cut
from adbench.reports.keys import Entry, grouped
from adbench.reports.plotting import COLUMN, INK, LETTER, looks
from adbench.reports.tables import DASH, Column, mean_of, metric_value, partial_note, ranked
from adbench.types import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

TITLE = "What does quality cost?"
COLUMNS = {
    "latency_ms": ("ms p50", 1), "latency_p95_ms": ("ms p95", 1), "forward_ms": ("network ms", 1), "score_ms": ("detector ms", 1),
    "images_per_second_alone": ("images/s alone", 1), "batch_images_per_second": ("images/s batched", 1),
    "extract_s": ("extract s", 1), "fit_s": ("fit s", 1), "score_s": ("score s", 1), "state_mb": ("state MB", 1),
    "peak_memory_mb": ("peak MB", 0), "accelerator_memory_mb": ("GPU MB", 0),
}  # fmt: skip
_HEIGHT, _LINE = 2.0, 0.15  # inches: a panel, a line of its legend


@register("cost")
def section(found: Sequence[Entry], question: Question) -> Section:
    """Return the table of costs and the Pareto plot of each metric against the latency of one image."""
    columns = [Column(name, metric_value(name)) for name in question.metrics] + _known(found)
    groups = grouped(found, question.rows)
    means = [[mean_of(entries, column) for column in columns] for entries in groups.values()]
    names = [[Cell(str(value)) for value in values] for values in groups]
    rows = [[*name, *cells] for name, cells in zip(names, ranked(means, columns), strict=True)]
    headers = [*question.rows, *(column.header for column in columns)]
    table = Table("Quality and cost, means over jobs", headers, rows, num_labels=len(question.rows))
    fronts = {metric: _points(found, question.rows, metric) for metric in question.metrics}
    drawn = {metric: points for metric, points in fronts.items() if points}
    notes = [*partial_note(means), *(_told(metric, points) for metric, points in drawn.items()), *_legend(found)]
    return Section(TITLE, [table], [_figure(drawn)] if drawn else [], notes)


def _known(found: Sequence[Entry]) -> list[Column]:
    """Return the columns of costs of which any result has a value."""
    known = {name for entry in found if entry.done for name in COLUMNS if _cost(name)(entry.done) is not None}
    return [Column(head, _cost(name), digits=d, ranked=False) for name, (head, d) in COLUMNS.items() if name in known]


def _cost(name: str) -> Callable[[Result], float | None]:
    if name == "images_per_second_alone":
        return lambda result: 1000 / latency if (latency := result.cost.get("latency_ms")) else None
    return lambda result: result.cost.get(name)


@dataclass(frozen=True)
class Point:
    """A row in the plot: its name, milliseconds per image, its metric, and whether no other row beats it in both."""

    name: str
    latency: float
    quality: float
    front: bool = False


def _points(found: Sequence[Entry], keys: Sequence[str], metric: str) -> list[Point]:
    """Return the complete rows of which the latency is known, the fastest first."""
    points = []
    for part in cut(found, keys):
        quality = mean_of(part.entries, Column(metric, metric_value(metric)))
        latency = mean_of(part.entries, Column("ms", _cost("latency_ms"), digits=1))
        if quality.complete and latency.number != DASH:
            points.append(Point(part.label, float(latency.number), float(quality.number)))
    return pareto(points)


def pareto(points: Sequence[Point]) -> list[Point]:
    """Return the points from fast to slow, of equal ones the better first, with those on the front marked."""
    ordered = sorted(points, key=lambda point: (point.latency, -point.quality))
    marked: list[Point] = []
    for point in ordered:
        best = [p for p in marked if p.front]
        equal = any((p.latency, p.quality) == (point.latency, point.quality) for p in best)
        front = equal or all(point.quality > p.quality for p in best)
        marked.append(Point(point.name, point.latency, point.quality, front))
    return marked


def _told(metric: str, points: Sequence[Point]) -> str:
    front = [f"{p.name} ({p.latency:.1f} ms, {p.quality:.3f})" for p in points if p.front]
    return f"{metric}: no row beats these in both quality and latency: {'; '.join(front)}"


def _legend(found: Sequence[Entry]) -> list[str]:
    done = [entry.done for entry in found if entry.done]
    notes = [
        "ms: one image at a time, from pixels in memory to score and map; images/s batched: in passes of the network's batch"
    ]
    if unknown := sum(result.cost.get("latency_ms") is None for result in done):
        notes.append(f"{unknown} of {len(done)} results have no latency: no test images, or an earlier version's")
    machines = {tuple(str(r.environment.get(key)) for key in ("machine", "accelerator", "threads")) for r in done}
    if len(machines) > 1:
        notes.append(f"measured on {len(machines)} kinds of machine: their times and memory cannot be compared")
    return notes


def _figure(fronts: dict[str, list[Point]]) -> Figure:
    return Figure(
        name="quality-latency",
        caption="Quality against the latency of one image; numbered: the rows that no other beats in both",
        description=". ".join(_told(metric, points) for metric, points in fronts.items()) + ".",
        draw=lambda: _drawn(fronts),
    )


def _drawn(fronts: dict[str, list[Point]]) -> Drawing:
    from matplotlib.figure import Figure as Drawing

    lines = max(sum(_label(0, p).count("\n") + 1 for p in points if p.front) for points in fronts.values())
    drawing = Drawing(figsize=(COLUMN, (_HEIGHT + _LINE * lines) * len(fronts)), layout="constrained")
    panels = drawing.subplots(len(fronts), 1, squeeze=False)[:, 0]
    for panel, (metric, points) in zip(panels, fronts.items(), strict=True):
        panel.set_ylabel(AXIS_NAMES.get(metric, metric))
        panel.set_xlabel("ms per image")
        panel.grid()
        _panel(panel, points)
    return drawing


def _panel(panel: Axes, points: Sequence[Point]) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.ticker import LogLocator

    front, rest = [p for p in points if p.front], [p for p in points if not p.front]
    look = looks(1)[0]
    if points[-1].latency > 10 * points[0].latency:
        panel.set_xscale("log", subs=[])  # minor ticks would bring labels of their own
        panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.xaxis.set_major_formatter("{x:g}")
    panel.plot([p.latency for p in rest], [p.quality for p in rest], "o", color=INK, markerfacecolor="white")
    panel.step([p.latency for p in front], [p.quality for p in front], where="post", color=look.colour, linestyle="--")
    panel.plot([p.latency for p in front], [p.quality for p in front], "o", color=look.colour)
    handles: list[Any] = []
    for number, p in enumerate(front, start=1):
        panel.annotate(str(number), (p.latency, p.quality), (0, 4), textcoords="offset points", ha="center")
        handles.append(Line2D([], [], linestyle="none", label=_label(number, p)))
    panel.legend(handles=handles, loc="upper left", bbox_to_anchor=(-0.1, -0.25), handlelength=0, handletextpad=0)


def _label(number: int, point: Point) -> str:
    """Return the point's number and name, over several lines where it is wider than a column."""
    return fill(f"{number}  {point.name}", int(COLUMN / LETTER) - 8, subsequent_indent="    ", break_long_words=False)
