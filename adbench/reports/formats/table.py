"""Plain text for a terminal."""

from tabulate import tabulate

from adbench.reports.formats import Cell, Report, Section, Table, register


@register("table")
def table(report: Report) -> str:
    """Return each table in columns of text; the best of a column is *marked*, or bold where the terminal can do that."""
    blocks = _blocks(report.table, report.bold)
    text = "\n".join([*blocks, *report.notes]).rstrip() + "\n"
    return text + "".join(_section(section, report.bold) for section in report.sections)


def _section(section: Section, bold: bool) -> str:
    title = f"\033[1m{section.title}\033[0m" if bold else section.title
    tables = ["\n".join(_blocks(table, bold)).rstrip() for table in section.tables]
    return "\n" + "\n\n".join([title, *tables, "\n".join(section.notes)]).rstrip() + "\n"


def _blocks(table: Table, bold: bool) -> list[str]:
    body = tabulate(
        [[_mark(cell, bold) for cell in row] for row in table.rows],
        headers=table.headers,
        tablefmt="simple",
        colalign=table.alignment,
        disable_numparse=True,
    )
    legend = [f"{_mark(Cell('best', best=True), bold)} of a column among complete rows"] if table.has_best else []
    return [table.caption, "", body, "", *legend]


def _mark(cell: Cell, bold: bool) -> str:
    if not cell.best:
        return cell.text
    return f"\033[1m{cell.text}\033[0m" if bold else f"*{cell.text}*"
