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
from adbench.studies.charts import LETTER
from adbench.studies.grid import slug

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

_ROW, _BAR = 0.17, 0.4  # inches: a label's height; of it, from one bar to the next
_RULER = 2.6  # rows above the axis: its numbers, the ruler and the ruler's name
_AXIS = 3.3  # inches: the axis at least, however long the names are


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
    """One row per name, the best on top, so that no two lines from the axis cross; `ranks` ascend."""
    from matplotlib.figure import Figure as Drawing

    bars, count = joined(ranks, difference), len(names)
    labels = [f"{name} ({rank:.2f})" for name, rank in zip(names, ranks, strict=True)]
    heights = _BAR * (len(bars) + 1) + 0.4 + np.arange(count)
    width = max(PAGE, _AXIS + LETTER * max(map(len, labels)))
    drawing = Drawing(figsize=(width, _ROW * (_RULER + heights[-1] + 0.6)), layout="constrained")
    axes = drawing.subplots()
    axes.set_xlim(1 - 0.02 * count, max(count, 1 + difference) + 0.02 * count)
    axes.set_ylim(heights[-1] + 0.6, -_RULER)
    axes.xaxis.tick_top()
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.spines["top"].set(visible=True, position=("data", 0))
    axes.set_xticks(_ticks(count))
    axes.set_yticks(heights, labels)
    axes.tick_params(axis="y", length=0)
    for i, (low, high) in enumerate(bars):
        axes.plot([low - 0.005 * count, high + 0.005 * count], [_BAR * (i + 1)] * 2, color=INK, linewidth=3)
    for rank, height in zip(ranks, heights, strict=True):
        axes.plot([rank, rank, axes.get_xlim()[0]], [0, height, height], color=INK, linewidth=0.6)
    _ruler(axes, difference)
    return drawing


def _ticks(count: int) -> list[int]:
    step = max(1, count // 10)
    return [*range(1, count + 1, step)]


def _ruler(axes: Axes, difference: float) -> None:
    """The critical difference, to scale, above the axis."""
    ends = (1.0, 1.0 + difference)
    axes.plot(ends, (-1.6, -1.6), color=INK, marker="|", markersize=5)
    axes.annotate(f"critical difference {difference:.2f}", (1.0, -1.85), va="bottom")
