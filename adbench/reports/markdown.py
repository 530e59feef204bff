"""A pipe table as code-hosting sites render it."""

import re

from tabulate import tabulate

from adbench.reports import Report, alignment, register


@register("markdown")
def markdown(report: Report) -> str:
    """Return the caption, the table with the best of each column in bold, and the notes as a list."""
    body = tabulate(
        [[f"**{_escaped(cell.text)}**" if cell.best else _escaped(cell.text) for cell in row] for row in report.table],
        headers=[_escaped(header) for header in report.headers],
        tablefmt="pipe",
        colalign=alignment(report),
        disable_numparse=True,
    )
    notes = "".join(f"- {_escaped(note)}\n" for note in report.notes)
    return f"{_escaped(report.caption)}\n\n{body}\n" + (f"\n{notes}" if notes else "")


def _escaped(text: str) -> str:
    """Keep text from being read as markup; an underscore inside a word is none."""
    return re.sub(r"([\\`*~&<>|\[\]]|(?<![^\W_])_|_(?![^\W_]))", r"\\\1", " ".join(text.split()))
