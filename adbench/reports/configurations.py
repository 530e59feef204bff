"""Configurations compared over the same cells: their values, ranks and replicates, and tests of their differences.

Over test images: every result has the influence of each image; all configurations are measured on the same images, so their
differences are tested pairwise (`statistics.paired`). Over categories: rank tests (`statistics.ranks`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adbench.reports.analyses import Question
from adbench.reports.comparison import FALSE_POSITIVES, Comparison
from adbench.reports.keys import Group, KeyedJob, groups_by, natural, varying
from adbench.reports.study_data import influence_of, replicates_of
from adbench.statistics.influence import Influence
from adbench.statistics.paired import Findings, compare_with_best
from adbench.statistics.ranks import all_pairs, least_categories, mean_ranks
from adbench.types import Result

MOST = 50  # configurations for which a sentence under the main table or a diagram is still readable
TEST_SET_KEYS = ("dataset", "category", "fingerprint")
SCALE_KEYS = ("eval_size", "pro_limit")  # neither these nor the test set name a configuration
_NAMED = 4  # configurations that a sentence names


@dataclass(frozen=True)
class Configurations:
    """k configurations in n categories by some metrics.

    metrics: one, or several of which the mean counts. title: the metrics, and where results have several, the evaluation grid
    and the like. cells[j][i]: the results of configuration j in category i, one per seed, of the same seeds for all. planned:
    the number of all categories. left_out: rows that are not compared, since they lack results that the others have.
    influence: of the test images on the means; by_category: on the values in each category; None unless they were read and every
    result has them, of the same images.
    """

    metrics: Sequence[str]
    title: str
    rows: Sequence[Group]
    categories: Sequence[str]
    cells: Sequence[Sequence[Sequence[Result]]]
    planned: int
    left_out: int = 0
    influence: Influence | None = None
    by_category: Sequence[Influence] = ()

    @property
    def names(self) -> list[str]:
        return [row.label for row in self.rows]

    @cached_property
    def values(self) -> NDArray[np.float64]:
        """(n, k): means over seeds."""
        rows = [[fmean(value_of(r, self.metrics) or 0 for r in seeds) for seeds in cells] for cells in self.cells]
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
        return len(self.categories) >= least_categories(self.pairs)

    @property
    def pairs(self) -> int:
        """How many pairs of configurations there are."""
        return len(self.rows) * (len(self.rows) - 1) // 2

    @cached_property
    def by_categories(self) -> NDArray[np.float64]:
        """(k,): p-values of the difference to the best over categories, 1 for the best."""
        return all_pairs(self.values, self.best)

    @cached_property
    def by_images(self) -> Findings | None:
        """The tests of the differences to the best mean over test images; None without influence values."""
        return compare_with_best(self.best, self.means, self.influence) if self.influence else None


def configurations(jobs: Sequence[KeyedJob], question: Question) -> list[Configurations]:
    """Return the comparisons by each metric on each scale: of the complete rows, and of all rows over what they share."""
    keys = [key for key in question.rows if key not in (*TEST_SET_KEYS, *SCALE_KEYS)]
    scales = groups_by(jobs, varying(jobs, SCALE_KEYS))
    ranked = [metric for metric in question.metrics if metric != FALSE_POSITIVES]
    return [c for metric in ranked for scale in scales for c in comparisons(scale, keys, [metric], metric)]


def comparisons(scale: Group, keys: Sequence[str], metrics: Sequence[str], name: str) -> list[Configurations]:
    """Return the comparison of the rows with a value in every cell, and where others lack some, that of all in the cells shared.

    A cell is a test set with all that the mean of a row runs over, such as a seed.
    """
    cell = Comparison(scale.jobs, keys).cell
    rows = []
    for row in groups_by(scale.jobs, keys):
        done = [(job, job.done) for job in row.jobs if job.done and value_of(job.done, metrics) is not None]
        rows.append((row, {(_test_set(job), cell(job)): result for job, result in done}))
    rows = [(row, found) for row, found in rows if found]
    every = {(_test_set(job), cell(job)) for job in scale.jobs}
    shared = every.intersection(*(found for _, found in rows))
    title = ", ".join(filter(None, (name, scale.label)))
    complete = [(row, found) for row, found in rows if len(found) == len(every)]
    choices = [(title, complete, every)] if len(complete) > 1 else []
    if len(rows) > max(len(complete), 1) and shared:
        choices.append((f"{title}, what all {len(rows)} share" if choices else title, rows, shared))
    return [_configurations_of(metrics, title, members, cells, every, len(rows)) for title, members, cells in choices]


def _test_set(job: KeyedJob) -> tuple[Any, ...]:
    return tuple(job.values[key] for key in TEST_SET_KEYS)


def value_of(result: Result, metrics: Sequence[str]) -> float | None:
    """Return the mean of some metrics of a result, None where one of them is not defined."""
    values = [value for metric in metrics if (value := result.metrics.get(metric)) is not None]
    return fmean(values) if len(values) == len(metrics) else None


def _configurations_of(
    metrics: Sequence[str],
    title: str,
    rows: Sequence[tuple[Group, dict[Any, Result]]],
    cells: set[Any],
    every: set[Any],
    known: int,
) -> Configurations:
    by_test_set: dict[Any, list[Any]] = defaultdict(list)
    for cell in sorted(cells, key=repr):
        by_test_set[cell[0]].append(cell)
    test_sets = sorted(by_test_set, key=lambda values: [natural(value) for value in values])
    found = [[[of[cell] for cell in by_test_set[name]] for name in test_sets] for _, of in rows]
    planned = len({test_set for test_set, _ in every})
    return Configurations(
        metrics, title, [row for row, _ in rows], [category for _, category, _ in test_sets], found, planned, known - len(rows)
    )


def with_influence(compared: Configurations, question: Question) -> Configurations:
    """Return the configurations with the influence of the test images, if all were measured on the same ones.

    Where a result has no influence values, as those of earlier versions, bootstrap replicates take their place if all have them.
    """
    for cells in zip(*compared.cells, strict=True):
        if len({result.details.get("resamples") for seeds in cells for result in seeds}) > 1:
            return compared
    parts = [
        _influence([cells[i] for cells in compared.cells], compared.metrics, question) for i in range(len(compared.categories))
    ]
    known = [part for part in parts if part]
    if len(known) == len(parts):
        return replace(compared, influence=Influence.mean(known), by_category=known)
    replicates = _replicates(compared, question)
    if replicates is None:
        return compared
    by_category = [Influence.of_replicates(replicates[:, i]) for i in range(len(compared.categories))]
    return replace(compared, influence=Influence.of_replicates(replicates.mean(axis=1)), by_category=by_category)


def _influence(cells: Sequence[Sequence[Result]], metrics: Sequence[str], question: Question) -> Influence | None:
    """Return the influence of the test images of a category on the values of k configurations, if it is known of all."""
    found = [influence_of(metrics, seeds, question.influence) for seeds in cells]
    known = [one for one in found if one and np.array_equal(one.strata, found[0].strata if found[0] else ())]
    return (
        Influence(np.concatenate([one.values for one in known]), known[0].strata) if known and len(known) == len(cells) else None
    )


def _replicates(compared: Configurations, question: Question) -> NDArray[np.float64] | None:
    """Return the replicates (k, n, R), means over seeds, if every result has them."""
    means = []
    for seeds in (seeds for cells in compared.cells for seeds in cells):
        wanted = [(metric, result) for result in seeds for metric in compared.metrics]
        known = [found for metric, r in wanted if (found := replicates_of(metric, r, question.replicates)) is not None]
        if len(known) < len(wanted):
            return None
        means.append(np.mean(known, axis=0))
    return np.array(means, dtype=float).reshape(len(compared.rows), len(compared.categories), -1)


def listed(names: Sequence[str]) -> str:
    """Return names as a list in a sentence, the first few of many."""
    if len(names) > _NAMED + 1:
        return f"{', '.join(names[:_NAMED])} and {len(names) - _NAMED} more"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
