"""Which defects does a layer find? Metrics by kind of defect, and by its size relative to the layer's receptive field.

The numbers are those of `adbench.breakdown`, which says what counts against what.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import Any

from adbench.metrics.support.breakdown import LIMITS, SIZES
from adbench.reports.analyses import Question, register
from adbench.reports.formats import Cell, Section, Table
from adbench.reports.grid import Slice, cut, field_of, fraction, layers
from adbench.reports.keys import Entry, grouped, natural
from adbench.reports.tables import DASH

TITLE = "Which defects are found?"
Values = dict[str, Any]


@register("defects")
def section(found: Sequence[Entry], question: Question) -> Section:
    """Return per metric a table of kinds of defect by layer, and one of sizes; means over seeds, of sizes over categories too."""
    done = [entry for entry in found if entry.done]
    known = [entry for entry in done if _parts(entry, "by_defect")]
    sized = [entry for entry in done if _parts(entry, "by_size")]
    kinds = [_kinds(known, question.rows, metric) for metric in question.metrics] if known else []
    sizes = [_sizes(sized, question.rows, metric) for metric in question.metrics] if sized else []
    return Section(TITLE, [*kinds, *sizes], notes=[*_missing(len(done), len(known)), *_legend(bool(sizes))])


def _parts(entry: Entry, table: str) -> dict[str, Values]:
    """Return a result's metrics by kind or by size: {name: {"images", "regions", metric: value}}."""
    return entry.done.details.get(table, {}) if entry.done else {}


def _kinds(found: Sequence[Entry], keys: Sequence[str], metric: str) -> Table:
    others = [key for key in keys if key != "layer"]
    columns = list(layers(found))
    rows = [row for part in cut(found, others) for row in _kind_rows(part, columns, metric)]
    heads = ["configuration"] if others else []
    return Table(
        f"{metric} by kind of defect and layer, each kind against all good images",
        [*heads, "category", "defect", "images", *columns],
        [[Cell(text) for text in (row if others else row[1:])] for row in rows],
        num_labels=len(heads) + 2,
    )


def _kind_rows(part: Slice, columns: Sequence[str], metric: str) -> Iterator[list[str]]:
    """Yield configuration, category, kind, images, and the metric at each layer."""
    for (category,), entries in grouped(part.entries, ["category"]).items():
        of_layer = layers(entries)
        for kind in sorted({name for entry in entries for name in _parts(entry, "by_defect")}, key=_naturally):
            images = max(_numbers(entries, "by_defect", kind, "images"))
            values = [_mean(_numbers(of_layer.get(layer, []), "by_defect", kind, metric)) for layer in columns]
            yield [part.label, category, kind, str(images), *(fraction(value, 3) for value in values)]


def _sizes(found: Sequence[Entry], keys: Sequence[str], metric: str) -> Table:
    rows = []
    for part in cut(found, keys):
        field, categories = field_of(part.entries), grouped(part.entries, ["category"]).values()
        texts = [part.label, DASH if field is None else str(field)]
        for size in SIZES:
            means = [_mean(_numbers(entries, "by_size", size, metric)) for entries in categories]
            regions = sum(max(_numbers(entries, "by_size", size, "regions"), default=0) for entries in categories)
            texts += [fraction(_mean([value for value in means if value is not None]), 3), str(regions)]
        rows.append([Cell(text) for text in texts])
    headers = ["configuration", "RF px", *(text for size in SIZES for text in (size, "regions"))]
    return Table(f"{metric} by size of defect relative to the receptive field", headers, rows, num_labels=1)


def _numbers(entries: Sequence[Entry], table: str, name: str, key: str) -> list[Any]:
    found = [_parts(entry, table).get(name, {}).get(key) for entry in entries]
    return [value for value in found if value is not None]


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


def _naturally(kind: str) -> tuple[Any, ...]:
    return natural("defect", kind)


def _missing(done: int, known: int) -> list[str]:
    if known == done > 0:
        return []
    return [f"{done - known} of {done} results have no metrics by defect: no defective test image, or an earlier version's"]


def _legend(sizes: bool) -> list[str]:
    small, large = LIMITS
    words = (
        f"the size of a region is sqrt(area) / receptive field, both on the evaluation grid: small below {small:g}, large above "
        f"{large:g}; a deeper layer counts the same region as smaller; a mean is over the categories that have the size"
    )
    return [words] if sizes else []
