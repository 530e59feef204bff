"""Is the difference real: chance in the choice of test images, of categories and of seeds, each with its own test.

Over test images: every result has the influence of each image; all configurations are measured on the same images, so their
differences are tested pairwise (`statistics.paired`). Over categories: Friedman's test, Nemenyi's critical difference, and
Wilcoxon's signed-rank test of all pairs with Holm's correction (`statistics.ranks`). Over seeds: the standard deviation.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from adbench.reports.analyses import Question, register
from adbench.reports.comparison import DASH, fraction
from adbench.reports.configurations import MOST, Configurations, configurations, listed, value_of, with_influence
from adbench.reports.formats import Cell, Figure, Section, Table
from adbench.reports.keys import KeyedJob
from adbench.reports.plotting import INK, LETTER, PAGE, panels
from adbench.reports.study_data import FEWEST_SEEDS, slug
from adbench.reports.tables import counted
from adbench.statistics.influence import Values
from adbench.statistics.paired import compare_with_best
from adbench.statistics.ranks import ALPHA, critical_difference, friedman, least_categories
from adbench.types import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

TITLE = "Is the difference real?"
_LEVEL = f"at {ALPHA:.0%}"
_ROW, _BAR = 0.17, 0.4  # a label's height in inches; from bar to bar, in rows
_RULER = 2.6  # rows above the axis, for its numbers, the ruler and the ruler's name
_AXIS = 3.3  # inches: the least length of the axis, however long the names are


@register("significance")
def section(jobs: Sequence[KeyedJob], question: Question) -> Section:
    """Return per metric a table of configurations, one of categories, the diagram, and the verdicts in words."""
    found = [with_influence(compared, question) for compared in configurations(jobs, question)]
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
    deviations = [_deviation(compared, cells) for cells in compared.cells]
    if any(value is not None for value in deviations):
        columns["sd of seeds"] = [fraction(value, 4) for value in deviations]
    columns |= _over_images(compared)
    if compared.testable:
        columns["p (categories)"] = _others(compared, [f"{p:.2g}" for p in compared.by_categories])
    rows = zip(compared.names, *columns.values(), strict=True)
    rest = f"; {counted(compared.left_out, 'incomplete row')} left out" if compared.left_out else ""
    return Table(
        f"{compared.title}: means over {len(compared.categories)} of {compared.planned} categories{rest}",
        ["configuration", *columns],
        [[Cell(text, i == 1 and j == compared.best) for i, text in enumerate(row)] for j, row in enumerate(rows)],
        num_labels=1,
    )


def _deviation(compared: Configurations, cells: Sequence[Sequence[Result]]) -> float | None:
    """Return the standard deviation over seeds of a configuration's mean over categories, if enough seeds have all of them."""
    seeds: dict[int, list[float]] = defaultdict(list)
    for result in (result for results in cells for result in results):
        seeds[result.job.seed].append(value_of(result, compared.metrics) or 0)
    means = [fmean(values) for values in seeds.values() if len(values) == len(cells)]
    return stdev(means) if len(means) >= FEWEST_SEEDS else None


def _over_images(compared: Configurations) -> dict[str, list[str]]:
    if compared.influence is None or compared.by_images is None:
        return {}
    found, means = compared.by_images, compared.means
    of_differences = [_interval(ends, "+.3f") for ends in zip(found.low, found.high, strict=True)]
    return {
        "95 % interval": [_interval(ends) for ends in compared.influence.intervals(means)],
        "minus best": _others(compared, [f"{value:+.3f}" for value in means - means[compared.best]]),
        "95 % interval of that": _others(compared, of_differences),
        "p (images)": _others(compared, [f"{p:.2g}" for p in found.p]),
    }


def _others(compared: Configurations, texts: Sequence[str]) -> list[str]:
    """Return the texts with a dash for the best, which is not compared with itself."""
    return [DASH if j == compared.best else text for j, text in enumerate(texts)]


def _interval(ends: tuple[float, float] | None, form: str = ".3f") -> str:
    return DASH if ends is None else " to ".join(f"{end:{form}}" for end in ends)


def _categories(compared: Configurations) -> list[Table]:
    """Return a table of the best configurations in each category, where there are influence values."""
    if not compared.by_category:
        return []
    rows = []
    for values, category, influence in zip(compared.values, compared.categories, compared.by_category, strict=True):
        best = int(np.argmax(values))
        p = compare_with_best(best, values, influence).p
        close = [name for j, name in enumerate(compared.names) if p[j] >= ALPHA and j != best]
        few = (listed(close) or DASH) if len(close) < 3 else f"{len(close)} of {len(compared.others)} others"
        rows.append((category, compared.names[best], few, f"{values[best]:.3f}", _interval(influence.intervals(values)[best])))
    headers = ["category", "best", "not significantly different", "value", "95 % interval"]
    return [Table.of_texts(f"{compared.title}: the best of each category, by its test images", headers, rows, num_labels=3)]


def _notes(compared: Configurations) -> list[str]:
    notes = [verdict(compared)]
    if compared.testable and len(compared.rows) > 2:
        difference = critical_difference(len(compared.categories), len(compared.rows))
        words = f"mean ranks that are less than {difference:.2f} apart are not significantly different (Nemenyi)"
        notes.append(f"{compared.title}: {words}")
    if compared.by_images is not None:
        notes.append(verdict_over_images(compared, compared.by_images.p))
    return notes + identical(compared)


def _legend(found: Sequence[Configurations]) -> list[str]:
    """Return what the columns mean, and for which metrics they are missing."""
    notes = []
    if known := [compared.influence for compared in found if compared.influence]:
        notes.append(
            "p (images) and intervals of differences: random signs for each test image, the same for all rows, corrected for all "
            "pairs, since the best was picked (max T); intervals of values: jackknife over test images, of logits; chance in "
            "seeds and in training images is not in them"
        )
        if not all(one.counted for one in known):
            notes.append(
                "some results of an earlier version have no influence values (RESULTS/influence): bootstrap replicates take "
                "their place, with standard errors enlarged by a fifth"
            )
    if lacking := [compared.title for compared in found if not compared.influence]:
        notes.append(
            f"no intervals for {', '.join(lacking)}: not every result has its influence values (RESULTS/influence), of the same "
            "test images"
        )
    if any(compared.testable for compared in found):
        notes.append("p (categories): Wilcoxon's signed-rank test of all pairs, Holm's correction, behind Friedman's test")
    return notes


def verdict(compared: Configurations) -> str:
    """Return which configurations are not significantly different from the best over categories, or why no test was made."""
    n, k, title = len(compared.categories), len(compared.rows), compared.title
    if not compared.testable:
        needed = least_categories(compared.pairs)
        return (
            f"{title}: whether the differences hold for other categories cannot be tested: {counted(k, 'row')} need {needed} "
            f"categories (else Wilcoxon's test cannot reach {ALPHA:.0%}), and {counted(n, 'category')} "
            f"{'has' if n == 1 else 'have'} a value in every row"
        )
    if k > 2 and (chance := friedman(compared.values)) >= ALPHA:
        return f"{title}: no significant differences between {k} configurations over {n} categories (Friedman, p = {chance:.2g})"
    worse = [compared.ranks[j] >= compared.ranks[compared.best] for j in range(k)]
    head = f"{title}: {compared.names[compared.best]} has the best mean over {n} categories"
    test = "Wilcoxon's test, Holm over all pairs" if k > 2 else "Wilcoxon's test"
    return f"{head}; {_outcomes(compared, compared.by_categories, worse)} ({test}, {_LEVEL})"


def verdict_over_images(compared: Configurations, p: Values) -> str:
    """Return which configurations are not significantly different from the best over all test images, by p-values (k,)."""
    n = len(compared.categories)
    head = f"{compared.title}, over the test images of {'1 category' if n == 1 else f'{n} categories'}"
    names = _outcomes(compared, p, [True] * len(compared.rows))
    return f"{head}: {compared.names[compared.best]} has the best mean; {names} (sign flips, all pairs, {_LEVEL})"


def _outcomes(compared: Configurations, p: Values, worse: Sequence[bool]) -> str:
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
