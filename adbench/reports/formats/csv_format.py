"""Comma-separated values, lossless: one line per record, one column per key, floats with all their digits."""

import csv
import io
import json
from typing import Any

from adbench.reports.formats import Report, register

FLAT = (
    "metrics",
    "cost",
    "environment",
    "a",
    "b",
    "difference",
    "interval",
    "p",
)  # each of their keys is a column, e.g. metrics.image_auroc


@register("csv")
def csv_format(report: Report) -> str:
    """Return a header and one line per record; a value that is null or not there is empty, lists and maps are JSON."""
    records = [_flat(record) for record in report.records]
    names = dict.fromkeys(name for record in records for name in record)
    out = io.StringIO()
    writer = csv.DictWriter(out, list(names), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _text(value) for name, value in record.items()} for record in records)
    return out.getvalue()


def _flat(record: dict[str, Any]) -> dict[str, Any]:
    nested = {f"{part}.{name}": value for part in FLAT for name, value in record.get(part, {}).items()}
    return {name: value for name, value in record.items() if name not in FLAT} | nested


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)
