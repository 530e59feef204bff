"""Plain text for a terminal."""

from tabulate import tabulate

from adbench.reports.formats import Cell, Report, Table, register


@register("table")
def table(report: Report) -> str:
    """Return each table in columns of text; the best of a column is *marked*, or bold where the terminal supports it."""
    text = "\n".join([*_lines(report.table, report.bold), *report.notes]).rstrip() + "\n"
    for section in report.sections:
        title = f"\033[1m{section.title}\033[0m" if report.bold else section.title
        tables = ["\n".join(_lines(table, report.bold)).rstrip() for table in section.tables]
        text += "\n" + "\n\n".join([title, *tables, "\n".join(section.notes)]).rstrip() + "\n"
    return text


def _lines(table: Table, bold: bool) -> list[str]:
    rows = [[_mark(cell, bold) for cell in row] for row in table.rows]
    body = tabulate(rows, headers=table.headers, tablefmt="simple", colalign=table.alignment, disable_numparse=True)
    has_best = any(cell.best for row in table.rows for cell in row)
    legend = [f"{_mark(Cell('best', best=True), bold)} of a column among complete rows"] if has_best else []
    return [table.caption, "", body, "", *legend]


def _mark(cell: Cell, bold: bool) -> str:
    if not cell.best:
        return cell.text
    return f"\033[1m{cell.text}\033[0m" if bold else f"*{cell.text}*"
