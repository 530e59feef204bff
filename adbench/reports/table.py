"""Plain text for a terminal."""

from tabulate import tabulate

from adbench.reports import Cell, Report, alignment, register


@register("table")
def table(report: Report) -> str:
    """Return the table in columns of text; the best of a column is *marked*, or bold where the terminal can do that."""
    body = tabulate(
        [[_mark(cell, report.bold) for cell in row] for row in report.table],
        headers=report.headers,
        tablefmt="simple",
        colalign=alignment(report),
        disable_numparse=True,
    )
    legend = (
        [f"{_mark(Cell('best', best=True), report.bold)} of a column among complete rows"] if _any_best(report) else []
    )
    return "\n".join([report.caption, "", body, "", *legend, *report.notes]).rstrip() + "\n"


def _mark(cell: Cell, bold: bool) -> str:
    if not cell.best:
        return cell.text
    return f"\033[1m{cell.text}\033[0m" if bold else f"*{cell.text}*"


def _any_best(report: Report) -> bool:
    return any(cell.best for row in report.table for cell in row)
