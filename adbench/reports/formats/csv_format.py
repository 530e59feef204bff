"""Comma-separated values, lossless: one line per record, one column per key, floats with all their digits."""

import csv
import io
import json
from typing import Any

from adbench.reports.formats import Report, register

# Each of their keys becomes a column, e.g. metrics.image_auroc. The last five are in the records of --compare.
FLATTENED = ("metrics", "cost", "environment", "a", "b", "difference", "interval", "p")


@register("csv")
def csv_format(report: Report) -> str:
    """Return a header and one line per record. Null and absent values are empty; lists and maps are JSON."""
    records = [_flat(record) for record in report.records]
    names = dict.fromkeys(name for record in records for name in record)
    out = io.StringIO()
    writer = csv.DictWriter(out, list(names), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _text(value) for name, value in record.items()} for record in records)
    return out.getvalue()


def _flat(record: dict[str, Any]) -> dict[str, Any]:
    nested = {f"{part}.{name}": value for part in FLATTENED for name, value in record.get(part, {}).items()}
    return {name: value for name, value in record.items() if name not in FLATTENED} | nested


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)
