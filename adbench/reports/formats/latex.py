"""A complete LaTeX document with booktabs tables; each tabular can be copied into a paper."""

from collections.abc import Iterable

from adbench.reports.formats import Cell, Report, Section, Table, register

SPECIAL = {c: f"\\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}",
    "[": "{[}", "]": "{]}",  # bare, a bracket would be an argument of the line break before it
}  # fmt: skip
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
    parts: list[str] = []
    for section in (Section("", [report.table], notes=report.notes), *report.sections):
        parts += ["", rf"\section*{{{_escaped(section.title)}}}"] if section.title else []
        parts += [page for table in section.tables for page in _tables(table)]
        parts += [rf"\noindent {_escaped(note)}\par" for note in section.notes]
    return DOCUMENT % "\n".join(parts)


def _tables(table: Table) -> list[str]:
    """Return a table, as several where it is too long for a page; a wide one is scaled down."""
    return [
        TABLE
        % {
            "caption": _escaped(table.caption) + (" (continued)" if start else ""),
            "columns": "".join(side[0] for side in table.alignment),
            "head": _line(map(_escaped, table.headers)),
            "body": "\n".join(_line(map(_cell, row)) for row in table.rows[start : start + PAGE_ROWS]),
        }
        for start in range(0, max(len(table.rows), 1), PAGE_ROWS)
    ]


def _line(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"


def _cell(cell: Cell) -> str:
    return rf"\textbf{{{_escaped(cell.text)}}}" if cell.best else _escaped(cell.text)


def _escaped(text: str) -> str:
    plain = " ".join("".join(SPECIAL.get(c, c) for c in text).split())
    return plain.replace("--", "-{}-")  # else the two hyphens of an option become a dash
