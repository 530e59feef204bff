"""One metric of the jobs of two folders: differences, their intervals over test images, and tests over all jobs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from adbench.comparison.pairs import Pair
from adbench.metrics import ORDER
from adbench.statistics.paired import interval, p_values
from adbench.statistics.ranks import ALPHA, least_categories, wilcoxon
from adbench.types import Result

Replicates = NDArray[np.float32]
Find = Callable[[Result], Replicates | None]


_ROUNDING = 1e-6


@dataclass(frozen=True)
class Differences:
    """A metric of m jobs that have it in both folders. The second less the first."""

    metric: str
    pairs: Sequence[Pair]
    first: NDArray[np.float64]
    second: NDArray[np.float64]
    replicates: dict[int, NDArray[np.float64]]  # (R,) of the differences that can be had, by index

    @cached_property
    def values(self) -> NDArray[np.float64]:
        """(m,); what only rounding may have made is no difference."""
        return _rounded(self.second - self.first)

    @cached_property
    def intervals(self) -> dict[int, tuple[float, float]]:
        """95 % over test images, by index of the job."""
        return {i: interval(drawn) for i, drawn in self.replicates.items()}

    @cached_property
    def p_values(self) -> dict[int, float]:
        """That the test images explain the difference, corrected for all jobs, by index of the job."""
        if not self.replicates:
            return {}
        chosen = list(self.replicates)
        return dict(
            zip(chosen, p_values(self.values[chosen], np.array(list(self.replicates.values()))).tolist(), strict=True)
        )

    @property
    def significant(self) -> list[int]:
        return [i for i, p in self.p_values.items() if p < ALPHA]


def differences(pairs: Sequence[Pair], metric: str, find: tuple[Find, Find]) -> Differences:
    """Return the differences of a metric; `find` gives the replicates (7, R) of a result of either folder."""
    known = [p for p in pairs if p.first.metrics.get(metric) is not None and p.second.metrics.get(metric) is not None]
    first, second = (np.array([r.metrics[metric] for r in side], dtype=float)
                     for side in ([p.first for p in known], [p.second for p in known]))  # fmt: skip
    drawn = {i: found for i, pair in enumerate(known) if (found := _drawn(pair, metric, find)) is not None}
    return Differences(metric, known, first, second, drawn)


def _drawn(pair: Pair, metric: str, find: tuple[Find, Find]) -> NDArray[np.float64] | None:
    """Return the replicates of a difference, if both were drawn from the same test images."""
    names = [result.details.get("resamples") for result in (pair.first, pair.second)]
    if None in names or names[0] != names[1] or metric not in ORDER:
        return None
    first, second = find[0](pair.first), find[1](pair.second)
    if first is None or second is None or first.shape != second.shape:
        return None
    row = ORDER.index(metric)
    return np.array(second[row] - first[row], dtype=float)


def verdicts(found: Differences) -> list[str]:
    """Return what the differences of all jobs say together, in sentences."""
    values, jobs = found.values, len(found.pairs)
    if not values.any():
        return [f"{found.metric}: A and B do not differ: equal in {count_jobs(jobs)}"]
    higher, lower, equal = (int(which.sum()) for which in (values > 0, values < 0, values == 0))
    counts = f"B is higher in {higher}, lower in {lower}, equal in {equal} of {count_jobs(jobs)}"
    told = [f"{found.metric}: {counts}; mean difference {values.mean():+.3f}; {_over(values, 'jobs')}"]
    by_category = _by_category(found)
    if len(by_category) < jobs:
        told[0] += "; jobs of one category share their test images, which makes that p too small"
        told.append(f"{found.metric}: means of each category: {_over(by_category, 'categories')}")
    if found.p_values:
        number, of = len(found.significant), count_jobs(len(found.p_values))
        told.append(
            f"{found.metric}: {number} of {of} with common replicates differ significantly over their test images"
        )
    return told


def count_jobs(count: int) -> str:
    """Return a number of jobs in words."""
    return "1 job" if count == 1 else f"{count} jobs"


def _over(values: NDArray[np.float64], what: str) -> str:
    if len(values) < least_categories(1):
        return f"too few {what} for a test, {least_categories(1)} are the least"
    return f"Wilcoxon's test over {len(values)} {what}: p = {wilcoxon(values, np.zeros(len(values))):.2g}"


def _by_category(found: Differences) -> NDArray[np.float64]:
    """Return the mean difference of each category."""
    values: dict[tuple[str, str], list[float]] = defaultdict(list)
    for pair, value in zip(found.pairs, found.values, strict=True):
        values[pair.entry.job.dataset, pair.entry.job.category].append(float(value))
    return _rounded(np.array([np.mean(own) for own in values.values()]))


def _rounded(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(np.abs(values) < _ROUNDING, 0.0, values)
