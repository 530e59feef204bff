"""Is the difference real? Chance in the choice of test images, of categories and of seeds, each with its own test.

Over test images: every result has bootstrap replicates; all configurations are measured on the same ones, so their
differences are tested pairwise (`statistics.paired`). Over categories: Friedman's test, Nemenyi's critical difference, and
Wilcoxon's signed-rank test against the best with Holm's correction (`statistics.ranks`). Over seeds: the standard deviation.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from adbench.reports import configurations as side_by_side
from adbench.reports.analyses import Question, register
from adbench.reports.configurations import Configurations, configurations, verdict
from adbench.reports.formats import Cell, Section, Table
from adbench.reports.keys import KeyedJob
from adbench.reports.study_data import seed_scatter
from adbench.reports.tables import DASH
from adbench.statistics.paired import interval
from adbench.statistics.ranks import ALPHA, critical_difference, least_categories

TITLE = "Is the difference real?"
MOST = 50  # configurations for which a sentence under the main table or a diagram is still readable


@register("significance")
def section(jobs: Sequence[KeyedJob], question: Question) -> Section:
    """Return per metric a table of configurations, one of categories, the diagram, and the verdicts in words."""
    found = [side_by_side.with_replicates(compared, question) for compared in configurations(jobs, question)]
    if not found:
        return Section(TITLE, notes=["nothing to compare: no two configurations have a value in the same category"])
    return Section(
        TITLE,
        tables=[table for compared in found for table in (_configurations(compared), *_categories(compared))],
        figures=[side_by_side.critical_difference_diagram(c) for c in found if c.testable and 2 < len(c.rows) <= MOST],
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
    columns |= _over_seeds(compared) | _over_images(compared)
    if compared.testable:
        columns["p (categories)"] = _others(compared, [f"{p:.2g}" for p in compared.by_categories])
    rows = zip(compared.names, *columns.values(), strict=True)
    return Table(
        f"{compared.title}: means over {len(compared.categories)} of {compared.planned} categories",
        ["configuration", *columns],
        [[Cell(text, i == 1 and j == compared.best) for i, text in enumerate(row)] for j, row in enumerate(rows)],
        num_labels=1,
    )


def _over_seeds(compared: Configurations) -> dict[str, list[str]]:
    """Return the column of standard deviations over seeds, if any configuration has enough seeds."""
    found = [seed_scatter(row.jobs, compared.metric).deviation for row in compared.rows]
    texts = [DASH if value is None else f"{value:.4f}" for value in found]
    return {"sd of seeds": texts} if any(value is not None for value in found) else {}


def _over_images(compared: Configurations) -> dict[str, list[str]]:
    """Return the columns that need replicates."""
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
        p_values = side_by_side.p_values_against(best, values, replicates)
        close = [name for j, name in enumerate(compared.names) if p_values[j] >= ALPHA and j != best]
        few = (side_by_side.listed(close) or DASH) if len(close) < 3 else f"{len(close)} of {len(compared.others)} others"
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
        notes.append(side_by_side.verdict_over_images(compared, compared.by_images))
    return notes + side_by_side.identical(compared)


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
