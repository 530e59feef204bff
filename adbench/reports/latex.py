"""A complete LaTeX document with one booktabs table; the tabular can be copied into a paper."""

from adbench.reports import Cell, Report, alignment, register

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
DOCUMENT = r"""\documentclass{article}
\usepackage[T1]{fontenc}
\usepackage[landscape,margin=1cm]{geometry}
\usepackage{booktabs}
\begin{document}
\begin{table}[htbp]
\centering\footnotesize
\caption{%(caption)s}
\begin{tabular}{%(columns)s}
\toprule
%(head)s
\midrule
%(body)s
\bottomrule
\end{tabular}
\end{table}
%(notes)s
\end{document}
"""


@register("latex")
def latex(report: Report) -> str:
    """Return a document that compiles as it stands, the best of each column in bold, the notes below the table."""
    return DOCUMENT % {
        "caption": _escaped(report.caption),
        "columns": "".join(side[0] for side in alignment(report)),
        "head": _line([_escaped(header) for header in report.headers]),
        "body": "\n".join(_line([_cell(cell) for cell in row]) for row in report.table),
        "notes": "\n".join(rf"\noindent {_escaped(note)}\par" for note in report.notes),
    }


def _line(cells: list[str]) -> str:
    return " & ".join(cells) + r" \\"


def _cell(cell: Cell) -> str:
    return rf"\textbf{{{_escaped(cell.text)}}}" if cell.best else _escaped(cell.text)


def _escaped(text: str) -> str:
    return " ".join("".join(SPECIAL.get(c, c) for c in text).split())
