"""The critical-difference diagram (Demsar, JMLR 7, 2006, figure 1): mean ranks, and bars over what Nemenyi's test joins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from adbench.analyses.contests import Contest
from adbench.reports import Figure
from adbench.reports.plotting import INK, PAGE
from adbench.statistics.ranks import ALPHA, critical_difference
from adbench.studies.grid import slug

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

_ROW, _HEAD = 0.2, 0.75  # inches: a label's height; axis and ruler
_BAR = 0.35  # rows between two bars


def joined(ranks: NDArray[np.float64], difference: float) -> list[tuple[float, float]]:
    """Return the widest stretches of mean ranks, (lowest, highest), no longer than `difference` and with two members or more."""
    ordered = np.sort(ranks)
    ends = [int(np.searchsorted(ordered, rank + difference, side="right")) - 1 for rank in ordered]
    return [
        (float(ordered[i]), float(ordered[end]))
        for i, end in enumerate(ends)
        if end > i and (i == 0 or end > ends[i - 1])
    ]


def critical_difference_diagram(contest: Contest) -> Figure:
    """Return the diagram of a contest, and what it shows in words."""
    difference = critical_difference(len(contest.categories), len(contest.names))
    order = np.argsort(contest.ranks, kind="stable")
    said = ", ".join(f"{contest.names[j]} {contest.ranks[j]:.2f}" for j in order)
    return Figure(
        name=f"critical-difference-{slug(contest.title)}",
        caption=f"{contest.title}: mean ranks over {len(contest.categories)} categories (1 = best); what a bar joins is not "
        f"significantly different (Nemenyi, p >= {ALPHA})",
        description=f"Mean ranks: {said}. Critical difference {difference:.2f}.",
        draw=lambda: _drawn([contest.names[j] for j in order], contest.ranks[order], difference),
    )


def _drawn(names: Sequence[str], ranks: NDArray[np.float64], difference: float) -> Drawing:
    """Labels of the better half on the left, of the others on the right; `ranks` ascend."""
    from matplotlib.figure import Figure as Drawing

    bars, half = joined(ranks, difference), (len(names) + 1) // 2
    depth = _BAR * (len(bars) + 1)
    drawing = Drawing(figsize=(PAGE, _HEAD + _ROW * (depth + half)), layout="constrained")
    axes = drawing.subplots()
    count = len(names)
    axes.set_xlim(1 - 0.02 * count, count + 0.02 * count)
    axes.set_ylim(depth + half + 0.2, -0.2)
    axes.xaxis.tick_top()
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.spines["top"].set_visible(True)
    axes.set_yticks([])
    axes.set_xticks(_ticks(count))
    for i, (low, high) in enumerate(bars):
        axes.plot([low - 0.005 * count, high + 0.005 * count], [_BAR * (i + 1)] * 2, color=INK, linewidth=3)
    for i, (name, rank) in enumerate(zip(names, ranks, strict=True)):
        _label(axes, name, float(rank), depth + (i if i < half else count - 1 - i) + 0.5, i < half)
    _ruler(axes, difference)
    return drawing


def _ticks(count: int) -> list[int]:
    step = max(1, count // 10)
    return [*range(1, count + 1, step)]


def _label(axes: Axes, name: str, rank: float, height: float, left: bool) -> None:
    """A line from the axis down to the label's height and out to the margin."""
    margin = axes.get_xlim()[0 if left else 1]
    axes.plot([rank, rank, margin], [-0.2, height, height], color=INK, linewidth=0.6, clip_on=False)
    axes.annotate(
        f"{name} ({rank:.2f})",
        (margin, height),
        (-3 if left else 3, 0),
        textcoords="offset points",
        va="center",
        ha="right" if left else "left",
    )


def _ruler(axes: Axes, difference: float) -> None:
    """The critical difference, to scale, above the axis."""
    start, end = 1.0, 1.0 + difference
    axes.annotate(
        "", (start, -1.6), (end, -1.6), arrowprops={"arrowstyle": "|-|", "mutation_scale": 2}, annotation_clip=False
    )
    axes.annotate(
        f"critical difference {difference:.2f}",
        ((start + end) / 2, -1.75),
        ha="center",
        va="bottom",
        annotation_clip=False,
    )
