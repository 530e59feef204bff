"""The cells of a table: means over categories, never bare while something is missing, and the best of each column.

Seeds are averaged first, within a category. A category without a value (not run, failed, undefined) does not count, and
the cell then says how many of the planned ones its mean is over.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import Any

from adbench.reports import Cell
from adbench.reports.keys import Entry
from adbench.types import Result

DASH = "-"
Scope = frozenset[tuple[Any, ...]]


def every(entry: Entry) -> bool:
    """Take any entry."""
    return True


@dataclass(frozen=True)
class Column:
    """One column of values: which entries of a row it takes, and which number of a result."""

    header: str
    value: Callable[[Result], float | None]
    takes: Callable[[Entry], bool] = every
    digits: int = 3
    ranked: bool = True


@dataclass(frozen=True)
class Mean:
    """A cell before the best of its column is known; `scope` = what it must share with those it is compared to."""

    number: str  # as printed, or a dash
    share: str  # what part of the planned jobs the number is over, empty if all
    scope: Scope

    @property
    def text(self) -> str:
        return f"{self.number} ({self.share})" if self.share and self.number != DASH else self.number

    @property
    def complete(self) -> bool:
        return self.number != DASH and not self.share


def metric_value(name: str) -> Callable[[Result], float | None]:
    """Return the function that looks up a metric of a result."""
    return lambda result: result.metrics.get(name)


@dataclass(frozen=True)
class Part:
    """The entries of a row that a column takes."""

    entries: Sequence[Entry]

    @cached_property
    def categories(self) -> int:
        return _categories(self.entries)

    @cached_property
    def scope(self) -> Scope:
        return frozenset((e.job.dataset, e.job.category, e.job.eval_size, e.job.pro_limit) for e in self.entries)


def means_of(row: Sequence[Entry], columns: Sequence[Column]) -> list[Mean]:
    """Return the mean of a row's entries in each column, with what it lacks."""
    parts: dict[Callable[[Entry], bool], Part] = {}
    for column in columns:
        if column.takes not in parts:
            parts[column.takes] = Part([entry for entry in row if column.takes(entry)])
    return [_mean(parts[column.takes], column) for column in columns]


def mean_of(row: Sequence[Entry], column: Column) -> Mean:
    """Return the mean of a row's entries that belong to `column`, with what it lacks."""
    return means_of(row, [column])[0]


def _mean(part: Part, column: Column) -> Mean:
    values: dict[str, list[float]] = defaultdict(list)
    for entry in part.entries:
        if entry.done and (value := column.value(entry.done)) is not None:
            values[entry.job.category].append(value)
    number = f"{fmean(fmean(v) for v in values.values()):.{column.digits}f}" if values else DASH
    share = _share(len(values), part.categories, sum(map(len, values.values())), len(part.entries))
    return Mean(number, share, part.scope)


def count(row: Sequence[Entry]) -> str:
    """Return "done/planned" categories of a row, and its jobs where only seeds are missing."""
    done = [entry for entry in row if entry.done]
    share = _share(_categories(done), _categories(row), len(done), len(row))
    whole = f"{_categories(done)}/{_categories(row)}"
    return f"{whole} ({share})" if share not in ("", whole) else whole


def ranked(means: Sequence[Sequence[Mean]], columns: Sequence[Column]) -> list[list[Cell]]:
    """Return the cells, the highest of each column marked, among complete ones of equal scope; ties as printed."""
    best: dict[tuple[int, Scope], float] = {}
    for row in means:
        for i, mean in enumerate(row):
            if columns[i].ranked and mean.complete:
                best[i, mean.scope] = max(float(mean.number), best.get((i, mean.scope), float("-inf")))
    return [
        [Cell(m.text, m.complete and best.get((i, m.scope)) == float(m.number)) for i, m in enumerate(r)] for r in means
    ]


def _categories(entries: Sequence[Entry]) -> int:
    return len({entry.job.category for entry in entries})


def _share(categories: int, of: int, jobs: int, of_jobs: int) -> str:
    if categories < of:
        return f"{categories}/{of}"
    return f"{jobs}/{of_jobs} jobs" if jobs < of_jobs else ""
