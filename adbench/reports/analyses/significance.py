"""Is the difference real? Chance in the choice of test images, of categories and of seeds, each by its own means.

Over test images: the bootstrap replicates that every result keeps; all configurations are measured on the same ones, so
their differences are tested pairwise (`statistics.paired`). Over categories: Friedman's test, Nemenyi's critical difference,
and Wilcoxon's signed-rank test against the best with Holm's correction (`statistics.ranks`). Over seeds: the standard deviation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from adbench.reports.analyses import Question, register
from adbench.reports.comparisons import (
    Comparison,
    against_best,
    comparisons,
    critical_difference_diagram,
    enough_categories,
    identical,
    listed,
    over_images,
    resampled,
    verdict,
)
from adbench.reports.formats import Cell, Figure, Section, Table
from adbench.reports.grid import spread
from adbench.reports.keys import Entry
from adbench.reports.tables import DASH
from adbench.statistics.paired import interval, p_values
from adbench.statistics.ranks import ALPHA, critical_difference, least_categories

TITLE = "Is the difference real?"
MOST = 50  # configurations that the main table's sentence and a diagram still make sense of


@register("significance")
def section(found: Sequence[Entry], question: Question) -> Section:
    """Return per metric a table of the configurations, one of the categories, the diagram, and what they say in words."""
    made = [_Judged(contest, resampled(contest, question)) for contest in comparisons(found, question)]
    if not made:
        return Section(TITLE, notes=["nothing to compare: no two configurations have a value in the same category"])
    return Section(
        TITLE,
        tables=[table for judged in made for table in judged.tables()],
        figures=[figure for judged in made for figure in judged.figures()],
        notes=[*(note for judged in made for note in judged.notes()), *_legend(made)],
    )


def sentences(found: Sequence[Entry], question: Question) -> list[str]:
    """Return one sentence per metric for the main table; none where there are too few categories or too many rows."""
    rows: set[tuple[object, ...]] = set()
    for entry in found:
        rows.add(tuple(entry.values[key] for key in question.rows))
        if len(rows) > MOST:
            return []
    if len({entry.job.category for entry in found}) < least_categories(1):
        return []
    return [verdict(contest) for contest in comparisons(found, question) if enough_categories(contest)]


@dataclass(frozen=True)
class _Judged:
    """A contest, and replicates (k, n, R) of its values if all of them are there."""

    contest: Comparison
    replicates: NDArray[np.float64] | None

    @cached_property
    def by_images(self) -> NDArray[np.float64] | None:
        """P-values (k,) of the difference to the best mean, over test images; 1 for the best."""
        if self.replicates is None:
            return None
        return _against(self.contest.best, self.contest.means, self.replicates.mean(axis=1))

    @cached_property
    def by_categories(self) -> NDArray[np.float64] | None:
        """P-values (k,) of the difference to the best, over categories; 1 for the best."""
        return against_best(self.contest) if enough_categories(self.contest) else None

    def tables(self) -> list[Table]:
        return [self._configurations()] if self.replicates is None else [self._configurations(), self._categories()]

    def _configurations(self) -> Table:
        contest = self.contest
        columns = {"mean": [f"{value:.3f}" for value in contest.means], "mean rank": [f"{r:.2f}" for r in contest.ranks]}
        columns |= self._deviations() | self._over_images()
        if self.by_categories is not None:
            columns["p (categories)"] = self._others([f"{p:.2g}" for p in self.by_categories])
        rows = zip(contest.names, *columns.values(), strict=True)
        return Table(
            f"{contest.title}: means over {len(contest.categories)} of {contest.planned} categories",
            ["configuration", *columns],
            [[Cell(text, i == 1 and j == contest.best) for i, text in enumerate(row)] for j, row in enumerate(rows)],
            num_labels=1,
        )

    def _deviations(self) -> dict[str, list[str]]:
        """The column of standard deviations over seeds, if any configuration has enough seeds."""
        found = [spread(entries, self.contest.metric).deviation for entries in self.contest.entries]
        texts = [DASH if value is None else f"{value:.4f}" for value in found]
        return {"sd of seeds": texts} if any(value is not None for value in found) else {}

    def _over_images(self) -> dict[str, list[str]]:
        """The columns that come from replicates, if there are any."""
        if self.replicates is None or self.by_images is None:
            return {}
        means, best = self.replicates.mean(axis=1), self.contest.best
        return {
            "95 % interval": [_interval(row) for row in means],
            "minus best": self._others([f"{value:+.3f}" for value in self.contest.means - self.contest.means[best]]),
            "95 % interval of that": self._others([_interval(row - means[best], "+.3f") for row in means]),
            "p (images)": self._others([f"{p:.2g}" for p in self.by_images]),
        }

    def _others(self, texts: Sequence[str]) -> list[str]:
        """The best is not compared with itself."""
        return [DASH if j == self.contest.best else text for j, text in enumerate(texts)]

    def _categories(self) -> Table:
        """Which configuration is best in each category, and which are not significantly different there."""
        assert self.replicates is not None  # noqa: S101  asked before
        rows = []
        for i, category in enumerate(self.contest.categories):
            values, drawn = self.contest.values[i], self.replicates[:, i]
            best = int(np.argmax(values))
            close = [j for j, p in enumerate(_against(best, values, drawn)) if p >= ALPHA and j != best]
            names = self._few([self.contest.names[j] for j in close])
            texts = (category, self.contest.names[best], names, f"{values[best]:.3f}", _interval(drawn[best]))
            rows.append([Cell(text) for text in texts])
        headers = ["category", "best", "not significantly different", "value of the best", "95 % interval"]
        return Table(f"{self.contest.title}: the best of each category, by its test images", headers, rows, num_labels=3)

    def _few(self, names: Sequence[str]) -> str:
        return (listed(names) or DASH) if len(names) < 3 else f"{len(names)} of {len(self.contest.others)} others"

    def notes(self) -> list[str]:
        sure = [] if self.by_images is None else [over_images(self.contest, self.by_images)]
        return [verdict(self.contest), *self._ranks(), *sure, *identical(self.contest)]

    def _ranks(self) -> list[str]:
        if self.by_categories is None or len(self.contest.names) < 3:
            return []
        difference = critical_difference(len(self.contest.categories), len(self.contest.names))
        words = f"mean ranks that are less than {difference:.2f} apart are not significantly different (Nemenyi)"
        return [f"{self.contest.title}: {words}"]

    def figures(self) -> list[Figure]:
        contest = self.contest
        small = 2 < len(contest.names) <= MOST
        return [critical_difference_diagram(contest)] if small and self.by_categories is not None else []


def _against(best: int, estimates: NDArray[np.float64], replicates: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return p-values (k,) of the differences of estimates (k,) with replicates (k, R) to the one of `best`."""
    others = np.arange(len(estimates)) != best
    found = np.ones(len(estimates))
    found[others] = p_values((estimates - estimates[best])[others], (replicates - replicates[best])[others])
    return found


def _interval(replicates: NDArray[np.float64], form: str = ".3f") -> str:
    low, high = interval(replicates)
    return f"{low:{form}} to {high:{form}}"


def _legend(made: Sequence[_Judged]) -> list[str]:
    """What the columns mean, and what is missing."""
    notes = []
    if any(judged.replicates is not None for judged in made):
        notes.append(
            "intervals and p (images): bootstrap over test images, the same replicates for all, p corrected for all comparisons "
            "(max T); chance in seeds and in training images is not in them"
        )
    if lacking := [judged.contest.title for judged in made if judged.replicates is None]:
        notes.append(
            f"no intervals for {', '.join(lacking)}: not every result has its replicates (RESULTS/replicates), drawn from the "
            "same test images"
        )
    if any(judged.by_categories is not None for judged in made):
        notes.append("p (categories): Wilcoxon's signed-rank test against the best, Holm's correction")
    return notes
