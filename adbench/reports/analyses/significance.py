"""Is the difference real? Chance in the choice of test images, of categories and of seeds, each with its own test.

Over test images: every result has bootstrap replicates; all configurations are measured on the same ones, so their
differences are tested pairwise (`statistics.paired`). Over categories: Friedman's test, Nemenyi's critical difference, and
Wilcoxon's signed-rank test against the best with Holm's correction (`statistics.ranks`). Over seeds: the standard deviation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from adbench.reports.analyses import Question, register
from adbench.reports.configurations import (
    Configurations,
    common_replicates,
    configurations,
    critical_difference_diagram,
    identical,
    listed,
    verdict,
    verdict_over_images,
)
from adbench.reports.formats import Cell, Figure, Section, Table
from adbench.reports.keys import KeyedJob
from adbench.reports.study_data import seed_scatter
from adbench.reports.tables import DASH
from adbench.statistics.paired import interval, p_values
from adbench.statistics.ranks import ALPHA, critical_difference, least_categories

TITLE = "Is the difference real?"
MOST = 50  # configurations for which a sentence under the main table or a diagram is still readable


@register("significance")
def section(jobs: Sequence[KeyedJob], question: Question) -> Section:
    """Return per metric a table of configurations, one of categories, the diagram, and the verdicts in words."""
    tests = [Tests(compared, common_replicates(compared, question)) for compared in configurations(jobs, question)]
    if not tests:
        return Section(TITLE, notes=["nothing to compare: no two configurations have a value in the same category"])
    return Section(
        TITLE,
        tables=[table for test in tests for table in test.tables()],
        figures=[figure for test in tests for figure in test.figures()],
        notes=[*(note for test in tests for note in test.notes()), *_legend(tests)],
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


@dataclass(frozen=True)
class Tests:
    """Configurations with the tests of their differences; `replicates` (k, n, R) of their values, if all have them."""

    compared: Configurations
    replicates: NDArray[np.float64] | None

    @cached_property
    def by_images(self) -> NDArray[np.float64] | None:
        """(k,): p-values of the difference to the best mean, over test images; 1 for the best."""
        if self.replicates is None:
            return None
        return _against(self.compared.best, self.compared.means, self.replicates.mean(axis=1))

    def tables(self) -> list[Table]:
        return [self._configurations(), *self._categories()]

    def _configurations(self) -> Table:
        compared = self.compared
        columns = {"mean": [f"{value:.3f}" for value in compared.means], "mean rank": [f"{r:.2f}" for r in compared.ranks]}
        columns |= self._seeds() | self._images()
        if compared.testable:
            columns["p (categories)"] = self._others([f"{p:.2g}" for p in compared.by_categories])
        rows = zip(compared.names, *columns.values(), strict=True)
        return Table(
            f"{compared.title}: means over {len(compared.categories)} of {compared.planned} categories",
            ["configuration", *columns],
            [[Cell(text, i == 1 and j == compared.best) for i, text in enumerate(row)] for j, row in enumerate(rows)],
            num_labels=1,
        )

    def _seeds(self) -> dict[str, list[str]]:
        """Return the column of standard deviations over seeds, if any configuration has enough seeds."""
        found = [seed_scatter(row.jobs, self.compared.metric).deviation for row in self.compared.rows]
        texts = [DASH if value is None else f"{value:.4f}" for value in found]
        return {"sd of seeds": texts} if any(value is not None for value in found) else {}

    def _images(self) -> dict[str, list[str]]:
        """Return the columns that need replicates."""
        if self.replicates is None or self.by_images is None:
            return {}
        replicates, means, best = self.replicates.mean(axis=1), self.compared.means, self.compared.best
        return {
            "95 % interval": [_interval(row) for row in replicates],
            "minus best": self._others([f"{value:+.3f}" for value in means - means[best]]),
            "95 % interval of that": self._others([_interval(row - replicates[best], "+.3f") for row in replicates]),
            "p (images)": self._others([f"{p:.2g}" for p in self.by_images]),
        }

    def _others(self, texts: Sequence[str]) -> list[str]:
        """Return the texts with a dash for the best, which is not compared with itself."""
        return [DASH if j == self.compared.best else text for j, text in enumerate(texts)]

    def _categories(self) -> list[Table]:
        """Return a table of the best configurations in each category, where there are replicates."""
        if self.replicates is None:
            return []
        rows = []
        for i, category in enumerate(self.compared.categories):
            values, replicates = self.compared.values[i], self.replicates[:, i]
            best = int(np.argmax(values))
            close = [j for j, p in enumerate(_against(best, values, replicates)) if p >= ALPHA and j != best]
            names = self._few([self.compared.names[j] for j in close])
            texts = (category, self.compared.names[best], names, f"{values[best]:.3f}", _interval(replicates[best]))
            rows.append([Cell(text) for text in texts])
        headers = ["category", "best", "not significantly different", "value of the best", "95 % interval"]
        return [Table(f"{self.compared.title}: the best of each category, by its test images", headers, rows, num_labels=3)]

    def _few(self, names: Sequence[str]) -> str:
        return (listed(names) or DASH) if len(names) < 3 else f"{len(names)} of {len(self.compared.others)} others"

    def notes(self) -> list[str]:
        over_images = [] if self.by_images is None else [verdict_over_images(self.compared, self.by_images)]
        return [verdict(self.compared), *self._ranks(), *over_images, *identical(self.compared)]

    def _ranks(self) -> list[str]:
        compared = self.compared
        if not compared.testable or len(compared.rows) < 3:
            return []
        difference = critical_difference(len(compared.categories), len(compared.rows))
        return [
            f"{compared.title}: mean ranks that are less than {difference:.2f} apart are not significantly different (Nemenyi)"
        ]

    def figures(self) -> list[Figure]:
        readable = 2 < len(self.compared.rows) <= MOST
        return [critical_difference_diagram(self.compared)] if readable and self.compared.testable else []


def _against(best: int, estimates: NDArray[np.float64], replicates: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return p-values (k,) of the differences of estimates (k,) with replicates (k, R) to the one of `best`."""
    others = np.arange(len(estimates)) != best
    found = np.ones(len(estimates))
    found[others] = p_values((estimates - estimates[best])[others], (replicates - replicates[best])[others])
    return found


def _interval(replicates: NDArray[np.float64], form: str = ".3f") -> str:
    low, high = interval(replicates)
    return f"{low:{form}} to {high:{form}}"


def _legend(tests: Sequence[Tests]) -> list[str]:
    """Return what the columns mean, and for which metrics they are missing."""
    notes = []
    if any(test.replicates is not None for test in tests):
        notes.append(
            "intervals and p (images): bootstrap over test images, the same replicates for all, p corrected for all comparisons "
            "(max T); chance in seeds and in training images is not in them"
        )
    if lacking := [test.compared.title for test in tests if test.replicates is None]:
        notes.append(
            f"no intervals for {', '.join(lacking)}: not every result has its replicates (RESULTS/replicates), drawn from the "
            "same test images"
        )
    if any(test.compared.testable for test in tests):
        notes.append("p (categories): Wilcoxon's signed-rank test against the best, Holm's correction")
    return notes
