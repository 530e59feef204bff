"""A complete LaTeX document with booktabs tables; each tabular can be copied into a paper."""

from collections.abc import Sequence

from adbench.reports.formats import Cell, Report, Section, Table, register

SPECIAL = {c: f"\\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "[": "{[}",  # or it would be an argument of the line break before it
    "]": "{]}",
}
PAGE_ROWS = 36
DOCUMENT = r"""\documentclass{article}
\usepackage[T1]{fontenc}
\usepackage[landscape,margin=1cm]{geometry}
\usepackage{booktabs,float,graphicx}
\begin{document}
%s
\end{document}
"""
TABLE = r"""\begin{table}[H]
\centering\footnotesize
\caption{%(caption)s}
\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%%
\begin{tabular}{%(columns)s}
\toprule
%(head)s
\midrule
%(body)s
\bottomrule
\end{tabular}}
\end{table}"""


@register("latex")
def latex(report: Report) -> str:
    """Return a document that compiles as it stands, the best of each column in bold, notes below their tables."""
    parts = [_table(report.table), *_notes(report.notes)]
    return DOCUMENT % "\n".join([*parts, *(line for section in report.sections for line in _section(section))])


def _section(section: Section) -> list[str]:
    tables = [_table(table) for table in section.tables]
    return ["", rf"\section*{{{_escaped(section.title)}}}", *tables, *_notes(section.notes)]


def _notes(notes: Sequence[str]) -> list[str]:
    return [rf"\noindent {_escaped(note)}\par" for note in notes]


def _table(table: Table) -> str:
    """Return the table, in several where it is too long for a page; one that is too wide for it is made smaller."""
    starts = range(0, max(len(table.rows), 1), PAGE_ROWS)
    return "\n".join(_page(table, table.rows[start : start + PAGE_ROWS], " (continued)" if start else "") for start in starts)


def _page(table: Table, rows: Sequence[Sequence[Cell]], continued: str) -> str:
    return TABLE % {
        "caption": _escaped(table.caption) + continued,
        "columns": "".join(side[0] for side in table.alignment),
        "head": _line([_escaped(header) for header in table.headers]),
        "body": "\n".join(_line([_cell(cell) for cell in row]) for row in rows),
    }


def _line(cells: list[str]) -> str:
    return " & ".join(cells) + r" \\"


def _cell(cell: Cell) -> str:
    return rf"\textbf{{{_escaped(cell.text)}}}" if cell.best else _escaped(cell.text)


def _escaped(text: str) -> str:
    plain = " ".join("".join(SPECIAL.get(c, c) for c in text).split())
    return plain.replace("--", "-{}-")  # an option's two hyphens would become a dash
