"""Tables of the HTML page: those of the report, every job, the environment. The page's script sorts and filters them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from typing import Any

from adbench.metrics import ORDER
from adbench.reports import Cell, Table
from adbench.reports.keys import entries, varies
from adbench.types import Result

MOST_JOBS = 5000  # rows that a browser still sorts at once
KEYS = ("dataset", "category", "backbone", "weights", "layer", "image_size", "eval_size", "detector", "params", "seed")
ALWAYS = ("category", "layer")  # of the keys, the others where they vary
COSTS = {"fit_s": "fit s", "images_per_second": "images/s", "state_mb": "state MB", "peak_memory_mb": "peak MB"}
_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?(?= |$)")


def element(name: str, content: str, **attributes: str) -> str:
    """Return one element; `content` is markup already, attributes (a trailing underscore dropped) are text."""
    given = "".join(f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"' for key, value in attributes.items())
    return f"<{name}{given}>{content}</{name}>"


def listing(lines: Sequence[str]) -> str:
    """Return lines of text as a list, nothing if there are none."""
    return element("ul", "".join(element("li", escape(line)) for line in lines)) if lines else ""


def table(given: Table, choose: Sequence[str] = ()) -> str:
    """Return a table in a box that scrolls; columns whose header is in `choose` get a menu of their values."""
    head = "".join(_header(header, i >= given.num_labels, header in choose) for i, header in enumerate(given.headers))
    body = "".join(element("tr", _row(row, given.num_labels)) for row in given.rows)
    caption = element("caption", escape(given.caption))
    content = caption + element("thead", element("tr", head)) + element("tbody", body)
    markup = element("table", content, class_="sortable")
    return element("div", markup, class_="scroll", role="region", tabindex="0", aria_label=given.caption)


def _header(header: str, number: bool, choose: bool) -> str:
    chosen = {"data_choose": ""} if choose else {}
    return element("th", escape(header), scope="col", class_="number" if number else "text", **chosen)


def _row(row: Sequence[Cell], num_labels: int) -> str:
    labels = [element("th" if i == 0 else "td", escape(c.text), **_scope(i)) for i, c in enumerate(row[:num_labels])]
    return "".join([*labels, *(_value(cell) for cell in row[num_labels:])])


def _scope(index: int) -> dict[str, str]:
    return {"scope": "row"} if index == 0 else {}


def _value(cell: Cell) -> str:
    """A cell that starts with a number is sorted by it: "0.850 (2/3)" by 0.85."""
    found = _NUMBER.match(cell.text)
    value = {"data_value": found.group()} if found else {}
    return element("td", escape(cell.text), class_="number best" if cell.best else "number", **value)


def jobs_table(results: Sequence[Result]) -> str:
    """Return one row per job with its metrics and costs; the first 5,000 if there are more, which the caption says."""
    found = entries([(result.job, result) for result in results])
    labels = [key for key in KEYS if key in ALWAYS or varies(found, key)]
    names = [name for name in ORDER if any(name in result.metrics for result in results)]
    rows = [[*(Cell(str(e.values[key])) for key in labels), *_outcome(e.result, names)] for e in found[:MOST_JOBS]]
    cut = len(results) > MOST_JOBS
    more = f", the first {MOST_JOBS} of {len(results)}; the formats csv and json have all" if cut else ""
    headers = [*labels, "status", *names, *COSTS.values(), "reason"]
    return table(Table(f"Every job{more}", headers, rows, len(labels) + 1), choose=[*KEYS, "status"])


def _outcome(result: Result | None, names: Sequence[str]) -> list[Cell]:
    if result is None:
        return [Cell("not run"), *(Cell("-") for _ in (*names, *COSTS, "reason"))]
    metrics = [_number(result.metrics.get(name), 3) for name in names]
    costs = [_number(result.cost.get(name), 1) for name in COSTS]
    return [Cell(result.status), *metrics, *costs, Cell(result.reason or "-")]


def _number(value: float | None, digits: int) -> Cell:
    return Cell("-" if value is None else f"{value:.{digits}f}")


def environment_table(results: Sequence[Result]) -> str:
    """Return what the results were made with; several values where they differ."""
    values: dict[str, dict[str, None]] = {}
    for result in results:
        for key, value in result.environment.items():
            values.setdefault(key, {})[_plain(value)] = None
    rows = [[Cell(key), Cell(", ".join(found))] for key, found in values.items()]
    return table(Table("Versions and machine of the results", ["what", "value"], rows, 2)) if rows else ""


def _plain(value: Any) -> str:
    return "none" if value is None else str(value)
