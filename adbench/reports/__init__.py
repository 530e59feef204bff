"""Report formats: each turns the same Report into text; one file each, found by import.

The table is made once, in `pivot`, so that every format for people prints the same digits; formats for programs
(csv, json) write the records themselves, lossless.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from adbench.registry import Registry
from adbench.results import ResultStore
from adbench.types import Result


@dataclass(frozen=True)
class Cell:
    """One cell of the table as it is printed; `best` = the highest of its column among the complete, comparable ones."""

    text: str
    best: bool = False


@dataclass(frozen=True)
class Report:
    """What a format prints: a caption, the table, notes on what is missing; and the records below the table."""

    caption: str
    headers: Sequence[str]
    table: Sequence[Sequence[Cell]]
    num_labels: int  # leading columns that name a row; the rest are values
    notes: Sequence[str] = ()
    results: Sequence[Result] = field(default=(), repr=False)
    bold: bool = False  # whether the reader's terminal shows bold, for formats made for one


Format = Callable[[Report], str]
FORMATS: Registry[Format] = Registry("format", __name__)
register = FORMATS.register


def render(
    folder: Path,
    name: str,
    rows: Sequence[str] = (),
    columns: str | None = None,
    metric: str | None = None,
    bold: bool = False,
) -> str:
    """Return the report on a results folder in the format `name`; `rows`, `columns`, `metric` as in `pivot.build`."""
    from adbench.reports.pivot import build  # which needs this module

    write = FORMATS.get(name)
    store = ResultStore(folder)
    return write(replace(build(store.all(), store.planned(), rows, columns, metric, folder), bold=bold))


def alignment(report: Report) -> list[str]:
    """Return "left" for each label column and "right" for each value column."""
    return ["left" if i < report.num_labels else "right" for i in range(len(report.headers))]
