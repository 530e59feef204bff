"""Configurations side by side: one metric, the categories in which all of them have a value. No analysis."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from adbench.reports.analyses import Question
from adbench.reports.formats import Figure
from adbench.reports.grid import cut, slug, varying
from adbench.reports.keys import Entry, natural
from adbench.reports.plotting import INK, LETTER, PAGE
from adbench.statistics.bootstrap import row
from adbench.statistics.ranks import ALPHA, critical_difference, friedman, holm, least_categories, mean_ranks, wilcoxon
from adbench.types import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

Block = tuple[str, str, str]
BLOCK_KEYS = ("dataset", "fingerprint", "category")  # what is measured on; neither it nor the scale names a configuration
SCALE_KEYS = ("eval_size", "pro_limit")


@dataclass(frozen=True)
class Comparison:
    """k configurations in n categories by one metric; `cells[j][i]` are the results, one per seed, of j in category i.

    `scale` is the evaluation grid and the like, in words, where results have several; `planned` counts all categories.
    """

    metric: str
    scale: str
    names: Sequence[str]
    entries: Sequence[Sequence[Entry]]
    categories: Sequence[str]
    cells: Sequence[Sequence[Sequence[Result]]]
    planned: int

    @property
    def title(self) -> str:
        return f"{self.metric}, {self.scale}" if self.scale else self.metric

    @cached_property
    def values(self) -> NDArray[np.float64]:
        """(n, k): means over seeds."""
        rows = [[fmean(r.metrics[self.metric] or 0 for r in seeds) for seeds in cells] for cells in self.cells]
        return np.array(rows, dtype=float).T

    @cached_property
    def best(self) -> int:
        """The configuration with the best mean, of equal ones that with the best mean rank."""
        return min(range(len(self.names)), key=lambda j: (-self.means[j], self.ranks[j]))

    @property
    def others(self) -> list[int]:
        """All but the best."""
        return [j for j in range(len(self.names)) if j != self.best]

    @cached_property
    def means(self) -> NDArray[np.float64]:
        """(k,): over categories."""
        return np.asarray(self.values.mean(axis=0))

    @cached_property
    def ranks(self) -> NDArray[np.float64]:
        """(k,): mean ranks over categories, 1 = best."""
        return mean_ranks(self.values)


def comparisons(found: Sequence[Entry], question: Question) -> list[Comparison]:
    """Return a contest per metric and scale in which at least two configurations meet in at least one category."""
    keys = [key for key in question.rows if key not in (*BLOCK_KEYS, *SCALE_KEYS)]
    scales = cut(found, varying(found, SCALE_KEYS))
    made = [_contest(scale.label, scale.entries, keys, metric) for metric in question.metrics for scale in scales]
    return [contest for contest in made if len(contest.names) > 1 and contest.categories]


def _contest(scale: str, found: Sequence[Entry], keys: Sequence[str], metric: str) -> Comparison:
    rows = [(part, _by_category(part.entries, metric)) for part in cut(found, keys)]
    rows = [(part, cells) for part, cells in rows if cells]
    common = set.intersection(*(set(cells) for _, cells in rows)) if rows else set()
    ordered = sorted(common, key=lambda block: (block[0], natural("category", block[2]), block[1]))
    planned = {_block(entry) for entry in found}
    return Comparison(
        metric,
        scale,
        [part.label for part, _ in rows],
        [part.entries for part, _ in rows],
        [category for _, _, category in ordered],
        [[cells[block] for block in ordered] for _, cells in rows],
        len(planned),
    )


def _by_category(entries: Sequence[Entry], metric: str) -> dict[Block, list[Result]]:
    """Return the results in each category in which every seed has a value."""
    cells: dict[Block, list[Result | None]] = {}
    for entry in entries:
        cells.setdefault(_block(entry), []).append(entry.done)
    whole = {block: [r for r in seeds if r and r.metrics.get(metric) is not None] for block, seeds in cells.items()}
    return {block: seeds for block, seeds in whole.items() if len(seeds) == len(cells[block])}


def _block(entry: Entry) -> Block:
    return entry.job.dataset, entry.job.fingerprint, entry.job.category


def resampled(contest: Comparison, question: Question) -> NDArray[np.float64] | None:
    """Return replicates (k, n, R) of the values, means over seeds; None if any is not there or was drawn otherwise."""
    for cells in zip(*contest.cells, strict=True):
        if len({result.details.get("resamples") for seeds in cells for result in seeds}) > 1:
            return None
    found = [[[_replicates(result, contest.metric, question) for result in seeds] for seeds in cells] for cells in contest.cells]
    if any(one is None for cells in found for seeds in cells for one in seeds):
        return None
    means = [[np.mean([one for one in seeds if one is not None], axis=0) for seeds in cells] for cells in found]
    return np.array(means, dtype=float)


def _replicates(result: Result, metric: str, question: Question) -> NDArray[np.float32] | None:
    found = question.replicates(result)
    return None if found is None else row(found, result.metrics, metric)


_NAMED = 4  # configurations that a sentence names
_LEVEL = f"at {ALPHA:.0%}"


def enough_categories(contest: Comparison) -> bool:
    """Return whether the tests over categories can find anything."""
    return len(contest.categories) >= least_categories(len(contest.names) - 1)


def against_best(contest: Comparison) -> NDArray[np.float64]:
    """Return p-values (k,) of Wilcoxon's test of each configuration against the best, Holm's correction; 1 for the best."""
    values, found = contest.values, np.ones(len(contest.names))
    tests = [wilcoxon(values[:, contest.best], values[:, j]) for j in contest.others]
    found[contest.others] = holm(np.array(tests))
    return found


def verdict(contest: Comparison) -> str:
    """Return which configurations are not significantly different from the best over categories, or why that is not known."""
    n, k = len(contest.categories), len(contest.names)
    if not enough_categories(contest):
        return f"{contest.title}: {_too_few(contest)}"
    if k > 2 and (p := friedman(contest.values)) >= ALPHA:
        differences = f"no significant differences between {k} configurations over {n} categories"
        return f"{contest.title}: {differences} (Friedman, p = {p:.2g})"
    p_values = against_best(contest)
    different = [j for j in contest.others if p_values[j] < ALPHA]
    told = {
        "not significantly different": [j for j in contest.others if p_values[j] >= ALPHA],
        "significantly worse": [j for j in different if contest.ranks[j] >= contest.ranks[contest.best]],
        "significantly better in rank, with a lower mean": [
            j for j in different if contest.ranks[j] < contest.ranks[contest.best]
        ],
    }
    head = f"{contest.title}: {contest.names[contest.best]} has the best mean over {n} categories"
    return f"{head}; {_told(contest, told)} (Wilcoxon's test{', Holm' if k > 2 else ''}, {_LEVEL})"


def _too_few(contest: Comparison) -> str:
    n, k = len(contest.categories), len(contest.names)
    of = f"{n}" if n == contest.planned else f"{n} of {contest.planned}"
    return (
        f"no test over categories: {of} in which all {k} configurations have a value, at least "
        f"{least_categories(k - 1)} are needed (over fewer, not even one that is best in each could reach p < {ALPHA} in "
        f"Wilcoxon's test{' with Holm' if k > 2 else ''})"
    )


def identical(contest: Comparison) -> list[str]:
    """Return a sentence for each set of configurations that have the same value in every category."""
    alike = defaultdict(list)
    for name, column in zip(contest.names, contest.values.T, strict=True):
        alike[tuple(column)].append(name)
    n = len(contest.categories)
    where = "the only category" if n == 1 else f"all {n} categories"
    return [f"{contest.title}: {listed(names)} do not differ: equal in {where}" for names in alike.values() if len(names) > 1]


def over_images(contest: Comparison, p_values: NDArray[np.float64]) -> str:
    """Return which configurations are not significantly different from the best over the test images of all categories."""
    n = len(contest.categories)
    head = f"{contest.title}, over the test images of {'1 category' if n == 1 else f'{n} categories'}"
    told = {
        "not significantly different": [j for j in contest.others if p_values[j] >= ALPHA],
        "significantly worse": [j for j in contest.others if p_values[j] < ALPHA],
    }
    return f"{head}: {contest.names[contest.best]} has the best mean; {_told(contest, told)} (paired bootstrap, {_LEVEL})"


def _told(contest: Comparison, groups: dict[str, list[int]]) -> str:
    named = {what: listed([contest.names[j] for j in which]) for what, which in groups.items() if which}
    whole = {what: "all others" for what, which in groups.items() if len(which) == len(contest.others) > 1}
    return "; ".join(f"{what}: {names}" for what, names in (named | whole).items())


def listed(names: Sequence[str]) -> str:
    """Return names as a sentence holds them, the first few of many."""
    if len(names) > _NAMED + 1:
        return f"{', '.join(names[:_NAMED])} and {len(names) - _NAMED} more"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


_ROW, _BAR = 0.17, 0.4  # inches: a label's height; of it, from one bar to the next
_RULER = 2.6  # rows above the axis: its numbers, the ruler and the ruler's name
_AXIS = 3.3  # inches: the axis at least, however long the names are


def joined(ranks: NDArray[np.float64], difference: float) -> list[tuple[float, float]]:
    """Return the widest stretches of mean ranks, (lowest, highest), no longer than `difference` and with two members or more."""
    ordered = np.sort(ranks)
    ends = [int(np.searchsorted(ordered, rank + difference, side="right")) - 1 for rank in ordered]
    return [(float(ordered[i]), float(ordered[end])) for i, end in enumerate(ends) if end > i and (i == 0 or end > ends[i - 1])]


def critical_difference_diagram(contest: Comparison) -> Figure:
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
