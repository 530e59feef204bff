"""Pipe tables as code-hosting sites render them."""

import re
from collections.abc import Sequence

from tabulate import tabulate

from adbench.reports.formats import Report, Table, register


@register("markdown")
def markdown(report: Report) -> str:
    """Return captions, tables with the best of each column in bold, and notes as lists; sections under headings."""
    text = _table(report.table) + _notes(report.notes)
    for section in report.sections:
        tables = "".join(f"\n{_table(table)}" for table in section.tables)
        text += f"\n## {_escaped(section.title)}\n{tables}{_notes(section.notes)}"
    return text


def _table(table: Table) -> str:
    rows = [[f"**{_escaped(cell.text)}**" if cell.best else _escaped(cell.text) for cell in row] for row in table.rows]
    body = tabulate(
        rows, headers=[*map(_escaped, table.headers)], tablefmt="pipe", colalign=table.alignment, disable_numparse=True
    )
    return f"{_escaped(table.caption)}\n\n{body}\n"


def _notes(notes: Sequence[str]) -> str:
    lines = "".join(f"- {_escaped(note)}\n" for note in notes)
    return f"\n{lines}" if lines else ""


def _escaped(text: str) -> str:
    """Return text that is not read as markup; an underscore inside a word needs no escape."""
    return re.sub(r"([\\`*~&<>|\[\]]|(?<![^\W_])_|_(?![^\W_]))", r"\\\1", " ".join(text.split()))
