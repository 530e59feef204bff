"""Is the difference real: chance in the choice of test images, of categories and of seeds, each with its own test.

Over test images: every result has bootstrap replicates; all configurations are measured on the same ones, so their
differences are tested pairwise (`statistics.paired`). Over categories: Friedman's test, Nemenyi's critical difference, and
Wilcoxon's signed-rank test against the best with Holm's correction (`statistics.ranks`). Over seeds: the standard deviation.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from adbench.reports.analyses import Question, register
from adbench.reports.formats import Cell, Figure, Section, Table
from adbench.reports.keys import Group, KeyedJob, grouped, groups_by, varying
from adbench.reports.plotting import INK, LETTER, PAGE, panels
from adbench.reports.study_data import replicates_of, seed_scatter, slug
from adbench.reports.tables import DASH, fraction
from adbench.statistics.paired import interval, p_values
from adbench.statistics.ranks import ALPHA, critical_difference, friedman, holm, least_categories, mean_ranks, wilcoxon
from adbench.types import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

TITLE = "Is the difference real?"
MOST = 50  # configurations for which a sentence under the main table or a diagram is still readable
TEST_SET_KEYS = ("dataset", "category", "fingerprint")
SCALE_KEYS = ("eval_size", "pro_limit")  # neither these nor the test set name a configuration
_NAMED = 4  # configurations that a sentence names
_LEVEL = f"at {ALPHA:.0%}"
_ROW, _BAR = 0.17, 0.4  # a label's height in inches; from bar to bar, in rows
_RULER = 2.6  # rows above the axis, for its numbers, the ruler and the ruler's name
_AXIS = 3.3  # inches: the least length of the axis, however long the names are


@register("significance")
def section(jobs: Sequence[KeyedJob], question: Question) -> Section:
    """Return per metric a table of configurations, one of categories, the diagram, and the verdicts in words."""
    found = [with_replicates(compared, question) for compared in configurations(jobs, question)]
    if not found:
        return Section(TITLE, notes=["nothing to compare: no two configurations have a value in the same category"])
    return Section(
        TITLE,
        tables=[table for compared in found for table in (_configurations(compared), *_categories(compared))],
        figures=[critical_difference_diagram(c) for c in found if c.testable and 2 < len(c.rows) <= MOST],
        notes=[*(note for compared in found for note in _notes(compared)), *_legend(found)],
    )


def sentences(jobs: Sequence[KeyedJob], question: Question) -> list[str]:
    """Return one sentence per metric for the main table; none where there are too few categories or too many rows."""
    rows: set[tuple[object, ...]] = set()
    for job in jobs:
        rows.add(tuple(job.values[key] for key in question.rows))
        if len(rows) > MOST:
            return []
    if len({job.job.category for job in jobs}) < least_categories(1):
        return []
    return [verdict(compared) for compared in configurations(jobs, question) if compared.testable]


def _configurations(compared: Configurations) -> Table:
    columns = {"mean": [f"{value:.3f}" for value in compared.means], "mean rank": [f"{r:.2f}" for r in compared.ranks]}
    deviations = [seed_scatter(row.jobs, compared.metric).deviation for row in compared.rows]
    if any(value is not None for value in deviations):
        columns["sd of seeds"] = [fraction(value, 4) for value in deviations]
    columns |= _over_images(compared)
    if compared.testable:
        columns["p (categories)"] = _others(compared, [f"{p:.2g}" for p in compared.by_categories])
    rows = zip(compared.names, *columns.values(), strict=True)
    return Table(
        f"{compared.title}: means over {len(compared.categories)} of {compared.planned} categories",
        ["configuration", *columns],
        [[Cell(text, i == 1 and j == compared.best) for i, text in enumerate(row)] for j, row in enumerate(rows)],
        num_labels=1,
    )


def _over_images(compared: Configurations) -> dict[str, list[str]]:
    if compared.replicates is None or compared.by_images is None:
        return {}
    replicates, means, best = compared.replicates.mean(axis=1), compared.means, compared.best
    return {
        "95 % interval": [_interval(row) for row in replicates],
        "minus best": _others(compared, [f"{value:+.3f}" for value in means - means[best]]),
        "95 % interval of that": _others(compared, [_interval(row - replicates[best], "+.3f") for row in replicates]),
        "p (images)": _others(compared, [f"{p:.2g}" for p in compared.by_images]),
    }


def _others(compared: Configurations, texts: Sequence[str]) -> list[str]:
    """Return the texts with a dash for the best, which is not compared with itself."""
    return [DASH if j == compared.best else text for j, text in enumerate(texts)]


def _interval(replicates: NDArray[np.float64], form: str = ".3f") -> str:
    low, high = interval(replicates)
    return f"{low:{form}} to {high:{form}}"


def _categories(compared: Configurations) -> list[Table]:
    """Return a table of the best configurations in each category, where there are replicates."""
    if compared.replicates is None:
        return []
    rows = []
    for i, category in enumerate(compared.categories):
        values, replicates = compared.values[i], compared.replicates[:, i]
        best = int(np.argmax(values))
        p = p_values_against(best, values, replicates)
        close = [name for j, name in enumerate(compared.names) if p[j] >= ALPHA and j != best]
        few = (listed(close) or DASH) if len(close) < 3 else f"{len(close)} of {len(compared.others)} others"
        rows.append((category, compared.names[best], few, f"{values[best]:.3f}", _interval(replicates[best])))
    headers = ["category", "best", "not significantly different", "value of the best", "95 % interval"]
    return [Table.of_texts(f"{compared.title}: the best of each category, by its test images", headers, rows, num_labels=3)]


def _notes(compared: Configurations) -> list[str]:
    notes = [verdict(compared)]
    if compared.testable and len(compared.rows) > 2:
        difference = critical_difference(len(compared.categories), len(compared.rows))
        words = f"mean ranks that are less than {difference:.2f} apart are not significantly different (Nemenyi)"
        notes.append(f"{compared.title}: {words}")
    if compared.by_images is not None:
        notes.append(verdict_over_images(compared, compared.by_images))
    return notes + identical(compared)


def _legend(found: Sequence[Configurations]) -> list[str]:
    """Return what the columns mean, and for which metrics they are missing."""
    notes = []
    if any(compared.replicates is not None for compared in found):
        notes.append(
            "intervals and p (images): bootstrap over test images, the same replicates for all, p corrected for all comparisons "
            "(max T); chance in seeds and in training images is not in them"
        )
    if lacking := [compared.title for compared in found if compared.replicates is None]:
        notes.append(
            f"no intervals for {', '.join(lacking)}: not every result has its replicates (RESULTS/replicates), drawn from the "
            "same test images"
        )
    if any(compared.testable for compared in found):
        notes.append("p (categories): Wilcoxon's signed-rank test against the best, Holm's correction")
    return notes


@dataclass(frozen=True)
class Configurations:
    """k configurations in n categories by one metric.

    title: the metric, and where results have several, the evaluation grid and the like. cells[j][i]: the results of
    configuration j in category i, one per seed. planned: the number of all categories. replicates: (k, n, R) bootstrap
    replicates of the values over common draws of test images, if they were read and every result has them.
    """

    metric: str
    title: str
    rows: Sequence[Group]
    categories: Sequence[str]
    cells: Sequence[Sequence[Sequence[Result]]]
    planned: int
    replicates: NDArray[np.float64] | None = None

    @property
    def names(self) -> list[str]:
        return [row.label for row in self.rows]

    @cached_property
    def values(self) -> NDArray[np.float64]:
        """(n, k): means over seeds."""
        rows = [[fmean(r.metrics[self.metric] or 0 for r in seeds) for seeds in cells] for cells in self.cells]
        return np.array(rows, dtype=float).T

    @cached_property
    def means(self) -> NDArray[np.float64]:
        """(k,): over categories."""
        return np.asarray(self.values.mean(axis=0))

    @cached_property
    def ranks(self) -> NDArray[np.float64]:
        """(k,): mean ranks over categories, 1 = best."""
        return mean_ranks(self.values)

    @cached_property
    def best(self) -> int:
        """The configuration with the best mean; among equal ones, the one with the best mean rank."""
        return min(range(len(self.rows)), key=lambda j: (-self.means[j], self.ranks[j]))

    @property
    def others(self) -> list[int]:
        """All but the best."""
        return [j for j in range(len(self.rows)) if j != self.best]

    @property
    def testable(self) -> bool:
        """Whether there are enough categories for a test over them to be significant."""
        return len(self.categories) >= least_categories(len(self.rows) - 1)

    @cached_property
    def by_categories(self) -> NDArray[np.float64]:
        """(k,): p-values of Wilcoxon's test against the best over categories, with Holm's correction; 1 for the best."""
        found = np.ones(len(self.rows))
        tests = [wilcoxon(self.values[:, self.best], self.values[:, j]) for j in self.others]
        found[self.others] = holm(np.array(tests))
        return found

    @cached_property
    def by_images(self) -> NDArray[np.float64] | None:
        """(k,): p-values of the difference to the best mean over test images, 1 for the best; None without replicates."""
        return None if self.replicates is None else p_values_against(self.best, self.means, self.replicates.mean(axis=1))


def p_values_against(best: int, values: NDArray[np.float64], replicates: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return p-values (k,) of the differences of values (k,) with replicates (k, R) to the one of `best`, which gets 1."""
    others = np.arange(len(values)) != best
    found = np.ones(len(values))
    found[others] = p_values((values - values[best])[others], (replicates - replicates[best])[others])
    return found


def configurations(jobs: Sequence[KeyedJob], question: Question) -> list[Configurations]:
    """Return the comparison by each metric on each scale, where at least two configurations share at least one category."""
    keys = [key for key in question.rows if key not in (*TEST_SET_KEYS, *SCALE_KEYS)]
    scales = groups_by(jobs, varying(jobs, SCALE_KEYS))
    found = [_compared(scale, keys, metric) for metric in question.metrics for scale in scales]
    return [compared for compared in found if len(compared.rows) > 1 and compared.categories]


def _compared(scale: Group, keys: Sequence[str], metric: str) -> Configurations:
    found = [(row, _complete(row.jobs, metric)) for row in groups_by(scale.jobs, keys)]
    rows = [(row, cells) for row, cells in found if cells]
    planned = grouped(scale.jobs, TEST_SET_KEYS)
    common = [test_set for test_set in planned if all(test_set in cells for _, cells in rows)]
    cells = [[cells[test_set] for test_set in common] for _, cells in rows]
    title, categories = ", ".join(filter(None, (metric, scale.label))), [category for _, category, _ in common]
    return Configurations(metric, title, [row for row, _ in rows], categories, cells, len(planned))


def _complete(jobs: Sequence[KeyedJob], metric: str) -> dict[tuple[Any, ...], list[Result]]:
    """Return the results in each category in which every seed has a value, by the values of TEST_SET_KEYS."""
    cells = {}
    for test_set, members in grouped(jobs, TEST_SET_KEYS).items():
        seeds = [job.done for job in members if job.done and job.done.metrics.get(metric) is not None]
        if len(seeds) == len(members):
            cells[test_set] = seeds
    return cells


def with_replicates(compared: Configurations, question: Question) -> Configurations:
    """Return the configurations with their replicates, means over seeds, if all were drawn from the same test images."""
    for cells in zip(*compared.cells, strict=True):
        if len({result.details.get("resamples") for seeds in cells for result in seeds}) > 1:
            return compared
    means = []
    for seeds in (seeds for cells in compared.cells for seeds in cells):
        known = [found for r in seeds if (found := replicates_of(compared.metric, r, question.replicates)) is not None]
        if len(known) < len(seeds):
            return compared
        means.append(np.mean(known, axis=0))
    shape = len(compared.rows), len(compared.categories), -1
    return replace(compared, replicates=np.array(means, dtype=float).reshape(shape))


def verdict(compared: Configurations) -> str:
    """Return which configurations are not significantly different from the best over categories, or why no test was made."""
    n, k, title = len(compared.categories), len(compared.rows), compared.title
    if not compared.testable:
        of = f"{n}" if n == compared.planned else f"{n} of {compared.planned}"
        return (
            f"{title}: no test over categories: {of} in which all {k} configurations have a value, at least "
            f"{least_categories(k - 1)} are needed (over fewer, not even one that is best in each could reach p < {ALPHA} in "
            f"Wilcoxon's test{' with Holm' if k > 2 else ''})"
        )
    if k > 2 and (chance := friedman(compared.values)) >= ALPHA:
        return f"{title}: no significant differences between {k} configurations over {n} categories (Friedman, p = {chance:.2g})"
    worse = [compared.ranks[j] >= compared.ranks[compared.best] for j in range(k)]
    head = f"{title}: {compared.names[compared.best]} has the best mean over {n} categories"
    return f"{head}; {_outcomes(compared, compared.by_categories, worse)} (Wilcoxon's test{', Holm' if k > 2 else ''}, {_LEVEL})"


def verdict_over_images(compared: Configurations, p: NDArray[np.float64]) -> str:
    """Return which configurations are not significantly different from the best over all test images, by p-values (k,)."""
    n = len(compared.categories)
    head = f"{compared.title}, over the test images of {'1 category' if n == 1 else f'{n} categories'}"
    names = _outcomes(compared, p, [True] * len(compared.rows))
    return f"{head}: {compared.names[compared.best]} has the best mean; {names} (paired bootstrap, {_LEVEL})"


def _outcomes(compared: Configurations, p: NDArray[np.float64], worse: Sequence[bool]) -> str:
    outcomes = {
        "not significantly different": [j for j in compared.others if p[j] >= ALPHA],
        "significantly worse": [j for j in compared.others if p[j] < ALPHA and worse[j]],
        "significantly better in rank, with a lower mean": [j for j in compared.others if p[j] < ALPHA and not worse[j]],
    }
    texts = []
    for outcome, members in outcomes.items():
        if members:
            everyone = len(members) == len(compared.others) > 1
            texts.append(f"{outcome}: {'all others' if everyone else listed([compared.names[j] for j in members])}")
    return "; ".join(texts)


def identical(compared: Configurations) -> list[str]:
    """Return a sentence for each set of configurations that have the same value in every category."""
    by_values = defaultdict(list)
    for name, column in zip(compared.names, compared.values.T, strict=True):
        by_values[tuple(column)].append(name)
    n = len(compared.categories)
    where = "the only category" if n == 1 else f"all {n} categories"
    alike = [names for names in by_values.values() if len(names) > 1]
    return [f"{compared.title}: {listed(names)} do not differ: equal in {where}" for names in alike]


def listed(names: Sequence[str]) -> str:
    """Return names as a list in a sentence, the first few of many."""
    if len(names) > _NAMED + 1:
        return f"{', '.join(names[:_NAMED])} and {len(names) - _NAMED} more"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def joined(ranks: NDArray[np.float64], difference: float) -> list[tuple[float, float]]:
    """Return the widest intervals of mean ranks, (lowest, highest), no longer than `difference`, with two members or more."""
    ordered = np.sort(ranks)
    ends = [int(np.searchsorted(ordered, rank + difference, side="right")) - 1 for rank in ordered]
    return [(float(ordered[i]), float(ordered[end])) for i, end in enumerate(ends) if end > i and (i == 0 or end > ends[i - 1])]


def critical_difference_diagram(compared: Configurations) -> Figure:
    """Return the critical difference diagram (Demsar, JMLR 7, 2006), described in words too."""
    difference = critical_difference(len(compared.categories), len(compared.rows))
    order = np.argsort(compared.ranks, kind="stable")
    ranks = ", ".join(f"{compared.names[j]} {compared.ranks[j]:.2f}" for j in order)
    return Figure(
        name=f"critical-difference-{slug(compared.title)}",
        caption=f"{compared.title}: mean ranks over {len(compared.categories)} categories (1 = best); what a bar joins is not "
        f"significantly different (Nemenyi, p >= {ALPHA})",
        description=f"Mean ranks: {ranks}. Critical difference {difference:.2f}.",
        draw=lambda: _draw([compared.names[j] for j in order], compared.ranks[order], difference),
    )


def _draw(names: Sequence[str], ranks: NDArray[np.float64], difference: float) -> Drawing:
    """Draw one row per name, the best on top, so that no two lines from the axis cross; `ranks` ascend."""
    bars, count = joined(ranks, difference), len(names)
    labels = [f"{name} ({rank:.2f})" for name, rank in zip(names, ranks, strict=True)]
    heights = _BAR * (len(bars) + 1) + 0.4 + np.arange(count)
    width = max(PAGE, _AXIS + LETTER * max(map(len, labels)))
    drawing, ((axes,),) = panels((width, _ROW * (_RULER + heights[-1] + 0.6)))
    axes.set_xlim(1 - 0.02 * count, max(count, 1 + difference) + 0.02 * count)
    axes.set_ylim(heights[-1] + 0.6, -_RULER)
    axes.xaxis.tick_top()
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.spines["top"].set(visible=True, position=("data", 0))
    axes.set_xticks(range(1, count + 1, max(1, count // 10)))
    axes.set_yticks(heights, labels)
    axes.tick_params(axis="y", length=0)
    for i, (low, high) in enumerate(bars):
        axes.plot([low - 0.005 * count, high + 0.005 * count], [_BAR * (i + 1)] * 2, color=INK, linewidth=3)
    for rank, height in zip(ranks, heights, strict=True):
        axes.plot([rank, rank, axes.get_xlim()[0]], [0, height, height], color=INK, linewidth=0.6)
    axes.plot((1.0, 1.0 + difference), (-1.6, -1.6), color=INK, marker="|", markersize=5)  # the ruler, to scale
    axes.annotate(f"critical difference {difference:.2f}", (1.0, -1.85), va="bottom")
    return drawing
