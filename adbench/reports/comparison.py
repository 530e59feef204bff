"""What means are compared over: the cells (category, seed, ...) that every row and column of a comparison has to cover."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from statistics import fmean
from typing import Any

from adbench.reports.keys import KEYS, NEVER_MIXED, ROW_KEYS, VIEW_KEYS, KeyedJob, several, varies, varying
from adbench.types import Result

DASH = "-"
FALSE_POSITIVES = "image_fpr"
APPROXIMATE = "~"  # in front of an analytic receptive field where the estimated one is not known
ENTRY_KEYS = (*ROW_KEYS, *NEVER_MIXED)  # all that names a configuration: its means run over categories and seeds
_APART = ("dataset", "category", "fingerprint", "eval_size", "pro_limit")
# by a key that names a mean, if each has only one
_IMPLIED = {"layer": "backbone", "backbone": "layer", "params": "detector", "smoothing": "detector"}
Key = tuple[Any, ...]


def fraction(value: float | None, digits: int = 2) -> str:
    """Return a number as printed, a dash for None."""
    return DASH if value is None else f"{value:.{digits}f}"


@dataclass(frozen=True)
class Column:
    """A column of numbers: which number of a result it shows, of the jobs with one value of a key (None: of all)."""

    header: str
    value: Callable[[Result], float | None]
    only: tuple[str, Any] | None = None
    digits: int = 3
    ranked: bool = True
    falling: bool = False  # whether less is better
    fixed: bool = False  # whether it is the same in every cell, so that no cell can be missing
    is_approximate: Callable[[Result], bool] = lambda result: False


def metric_column(name: str, header: str = "", only: tuple[str, Any] | None = None) -> Column:
    """Return the column of a metric; a false-positive rate is not ranked, since a detector that finds nothing has the lowest."""
    is_rate = name == FALSE_POSITIVES
    return Column(header or name, lambda result: result.metrics.get(name), only, ranked=not is_rate, falling=is_rate)


@dataclass(frozen=True)
class Mean:
    """A mean over categories, and the part of the cells of its comparison that it covers.

    number: as printed, or a dash. share: "n/N" categories or "n/N jobs", empty if nothing is missing. scope: only means of
    equal scope can be compared, and of these only complete ones, which cover the same cells. mark: `APPROXIMATE`, or empty.
    """

    number: str
    share: str
    scope: Key = ()
    mark: str = ""

    @property
    def text(self) -> str:
        return f"{self.mark}{self.number} ({self.share})" if self.share and self.number != DASH else f"{self.mark}{self.number}"

    @property
    def complete(self) -> bool:
        return self.number != DASH and not self.share


class Comparison:
    """Jobs whose means are compared, if `named` are the keys that tell the means apart.

    A mean runs over cells: the values of the keys that do not name it, such as the category and the seed. All
    means with the same values of dataset, category, evaluation grid and the like have to cover the same cells: the union of the
    cells of all of them, whether planned or run. A mean that lacks one is partial.
    """

    def __init__(self, jobs: Sequence[KeyedJob], named: Iterable[str]) -> None:
        named = varying(jobs, dict.fromkeys(named))
        self.apart = [key for key in _APART if key in named]  # across their values nothing is compared
        self._scope = _getter(self.apart)
        hidden = (*named, "category", *(VIEW_KEYS if "view" in named else ()))
        others = [key for key in KEYS if key not in hidden and several(jobs, key)]
        self._keys = ["category", *(key for key in others if _IMPLIED.get(key) not in named or varies(jobs, key, named))]
        self._cell = _getter(self._keys)
        self._expected: dict[Key, set[Key]] = {}
        for job in jobs:
            self._expected.setdefault(self._scope(job.values), set()).add(self._cell(job.values))

    def cell(self, job: KeyedJob) -> Key:
        """Return the cell of a job; its first value is the category."""
        return self._cell(job.values)

    def scope(self, job: KeyedJob) -> Key:
        """Return the values of a job that its mean shares with all means that it is compared with."""
        return self._scope(job.values)

    def expected(self, jobs: Sequence[KeyedJob]) -> set[Key]:
        """Return the cells that the mean of some jobs has to cover; empty for no jobs."""
        return self._expected[self.scope(jobs[0])] if jobs else set()

    def means(self, jobs: Sequence[KeyedJob], columns: Iterable[Column]) -> list[Mean]:
        """Return the mean of jobs in each column: over the jobs of a category first, then over categories."""
        if not jobs:
            return [Mean(DASH, "") for _ in columns]
        found = [(self.cell(job), job.done) for job in jobs if job.done]
        scope, expected = self.scope(jobs[0]), self.expected(jobs)
        return [_mean(found, column, scope, expected) for column in columns]

    def mean(self, jobs: Sequence[KeyedJob], metric: str) -> Mean:
        """Return the mean of one metric."""
        return self.means(jobs, [metric_column(metric)])[0]

    def coverage(self, jobs: Sequence[KeyedJob]) -> tuple[str, str]:
        """Return "done/expected" categories and, where that does not tell all, jobs of a row; "" for the latter if it does."""
        done, expected = {self.cell(job) for job in jobs if job.done}, self.expected(jobs)
        share = _share(done, expected)
        finished, of = ({category for category, *_ in cells} for cells in (done, expected))
        return f"{len(finished)}/{len(of)}", f"{len(done)}/{len(expected)}" if share.endswith("jobs") else ""

    def shared(self, entries: Iterable[Sequence[KeyedJob]], metric: str) -> list[KeyedJob]:
        """Return the jobs of the cells in which every entry that has any value of a metric has one; all, if none is partial."""
        entries = list(entries)
        common: dict[Key, set[Key]] = {}
        for jobs in entries:
            known = {self.cell(job) for job in jobs if job.done and job.done.metrics.get(metric) is not None}
            if known:
                scope = self.scope(jobs[0])
                common[scope] = common[scope] & known if scope in common else known
        return [job for jobs in entries for job in jobs if self.cell(job) in common.get(self.scope(job), ())]


def _getter(keys: Sequence[str]) -> Callable[[dict[str, Any]], Key]:
    if len(keys) > 1:
        return itemgetter(*keys)
    return (lambda values: (values[keys[0]],)) if keys else (lambda values: ())


def _mean(found: Sequence[tuple[Key, Result]], column: Column, scope: Key, expected: set[Key]) -> Mean:
    values: dict[Any, list[float]] = {}
    covered = set()
    for cell, result in found:
        if (value := column.value(result)) is not None:
            values.setdefault(cell[0], []).append(value)
            covered.add(cell)
    number = fraction(fmean([fmean(of) for of in values.values()]), column.digits) if values else DASH
    mark = APPROXIMATE * bool(values) * any(column.is_approximate(result) for _, result in found)
    return Mean(number, "" if column.fixed and values else _share(covered, expected), scope, mark)


def _share(covered: set[Key], expected: set[Key]) -> str:
    if len(covered) == len(expected):
        return ""
    categories, of = (len({category for category, *_ in cells}) for cells in (covered, expected))
    return f"{categories}/{of}" if categories < of else f"{len(covered)}/{len(expected)} jobs"
