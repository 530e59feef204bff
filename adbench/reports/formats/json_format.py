"""JSON, lossless: a list of records as the results folder holds them."""

import json

from adbench.reports.formats import Report, register


@register("json")
def json_format(report: Report) -> str:
    """Return one document, a list with a record for every done, failed and skipped job."""
    return json.dumps(report.records, indent=2) + "\n"
