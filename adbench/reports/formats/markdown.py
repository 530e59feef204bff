"""Pipe tables as code-hosting sites render them."""

import re
from collections.abc import Sequence

from tabulate import tabulate

from adbench.reports.formats import Cell, Report, Section, Table, register


@register("markdown")
def markdown(report: Report) -> str:
    """Return captions, tables with the best of each column in bold, and notes as lists; sections under headings."""
    return _table(report.table) + _notes(report.notes) + "".join(_section(section) for section in report.sections)


def _section(section: Section) -> str:
    tables = "".join(f"\n{_table(table)}" for table in section.tables)
    return f"\n## {_escaped(section.title)}\n{tables}{_notes(section.notes)}"


def _table(table: Table) -> str:
    body = tabulate(
        [[_cell(cell) for cell in row] for row in table.rows],
        headers=[_escaped(header) for header in table.headers],
        tablefmt="pipe",
        colalign=table.alignment,
        disable_numparse=True,
    )
    return f"{_escaped(table.caption)}\n\n{body}\n"


def _notes(notes: Sequence[str]) -> str:
    lines = "".join(f"- {_escaped(note)}\n" for note in notes)
    return f"\n{lines}" if lines else ""


def _cell(cell: Cell) -> str:
    return f"**{_escaped(cell.text)}**" if cell.best else _escaped(cell.text)


def _escaped(text: str) -> str:
    """Keep text from being read as markup; an underscore inside a word is none."""
    return re.sub(r"([\\`*~&<>|\[\]]|(?<![^\W_])_|_(?![^\W_]))", r"\\\1", " ".join(text.split()))
