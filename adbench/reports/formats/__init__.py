"""Report formats: each turns the same Report into text; one file each, found by import.

Formats for people print the tables of the report, so that all of them show the same digits. Formats for programs (csv, json)
write the records themselves, lossless.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adbench.core.registry import Registry
from adbench.types import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing


@dataclass(frozen=True)
class Cell:
    """The text of one cell; `best` marks the highest of its column among the complete, comparable ones."""

    text: str
    best: bool = False


@dataclass(frozen=True)
class Table:
    """A caption, headers, and rows of cells, of which the first `num_labels` name the row."""

    caption: str
    headers: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    num_labels: int

    @staticmethod
    def of_texts(caption: str, headers: Sequence[str], rows: Iterable[Iterable[str]], num_labels: int) -> Table:
        """Return a table of texts, none of them marked as best."""
        return Table(caption, headers, [[Cell(text) for text in row] for row in rows], num_labels)

    @property
    def alignment(self) -> list[str]:
        """ "left" for each label column and "right" for each value column."""
        return ["left" if i < self.num_labels else "right" for i in range(len(self.headers))]


@dataclass(frozen=True)
class Figure:
    """A picture: its file name without suffix, its caption, a description for readers who cannot see it, how to draw it."""

    name: str
    caption: str
    description: str
    draw: Callable[[], Drawing]


@dataclass(frozen=True)
class Section:
    """The findings of a study or an analysis: tables, figures, and sentences below them."""

    title: str
    tables: Sequence[Table] = ()
    figures: Sequence[Figure] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Report:
    """The main table with notes under it, further sections, and the records behind them."""

    table: Table
    notes: Sequence[str] = ()
    sections: Sequence[Section] = ()
    results: Sequence[Result] = field(default=(), repr=False)
    folder: Path | None = None  # of the results and their kept pictures
    commands: Sequence[str] = ()  # that made the results
    documents: Sequence[dict[str, Any]] = field(default=(), repr=False)  # written instead of the results' records, if any
    answers: int = 0  # so many of the last notes answer the question: a page shows them first
    waiting: int = 0  # planned jobs that have not run yet
    bold: bool = False  # whether the reader's terminal shows bold
    width: int | None = None  # the number of columns of the reader's terminal; None: as wide as the text is

    @property
    def records(self) -> list[dict[str, Any]]:
        """The records that formats for programs write."""
        return list(self.documents) or [result.record() for result in self.results]


ANSWER = "Which row is best?"  # the title of the section that a page shows first
Format = Callable[[Report], str]
FORMATS: Registry[Format] = Registry("format", __name__)
register = FORMATS.register
