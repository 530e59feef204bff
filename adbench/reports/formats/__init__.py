"""Report formats: each turns the same Report into text; one file each, found by import.

Tables are made once, in `pivot`, `studies` and `analyses`, so that every format for people prints the same digits; formats
for programs (csv, json) write the records themselves, lossless.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adbench.core.registry import Registry
from adbench.types import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing


@dataclass(frozen=True)
class Cell:
    """One cell of a table as it is printed; `best` = the highest of its column among the complete, comparable ones."""

    text: str
    best: bool = False


@dataclass(frozen=True)
class Table:
    """A caption, headers, and rows of cells, of which the leading `num_labels` name the row."""

    caption: str
    headers: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    num_labels: int

    @property
    def alignment(self) -> list[str]:
        """ "left" for each label column and "right" for each value column."""
        return ["left" if i < self.num_labels else "right" for i in range(len(self.headers))]

    @property
    def has_best(self) -> bool:
        return any(cell.best for row in self.rows for cell in row)


@dataclass(frozen=True)
class Figure:
    """A picture: the name of its file without suffix, its caption, what it shows in words, and how to draw it."""

    name: str
    caption: str
    description: str  # stands in for the picture where it cannot be seen
    draw: Callable[[], Drawing]


@dataclass(frozen=True)
class Section:
    """What a study or an analysis found: tables, figures, and sentences below them."""

    title: str
    tables: Sequence[Table] = ()
    figures: Sequence[Figure] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Report:
    """What a format prints: the table of all results, notes on what is missing, further sections; and the records below."""

    table: Table
    notes: Sequence[str] = ()
    sections: Sequence[Section] = ()
    results: Sequence[Result] = field(default=(), repr=False)
    folder: Path | None = None  # where the results, and pictures that a sweep kept, lie
    commands: Sequence[str] = ()  # what made them
    documents: Sequence[dict[str, Any]] = field(default=(), repr=False)  # stand in for the records where these are not the answer
    bold: bool = False  # whether the reader's terminal shows bold, for formats made for one

    @property
    def records(self) -> list[dict[str, Any]]:
        """What formats for programs write."""
        return list(self.documents) or [result.record() for result in self.results]


Format = Callable[[Report], str]
FORMATS: Registry[Format] = Registry("format", __name__)
register = FORMATS.register
