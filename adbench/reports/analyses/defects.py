"""Which defects does a layer find: metrics by kind of defect, and by its size relative to the layer's receptive field.

The numbers come from `adbench.metrics.support.breakdown`, which documents how they are computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from adbench.metrics.support.breakdown import LIMITS, SIZES
from adbench.reports.analyses import Question, register
from adbench.reports.formats import Section, Table
from adbench.reports.keys import KeyedJob, grouped, groups_by, natural
from adbench.reports.study_data import by_layer, field_texts
from adbench.reports.tables import fraction


@register("defects")
def section(jobs: Sequence[KeyedJob], question: Question) -> Section:
    """Return per metric a table of kinds of defect by layer, and one of sizes; means over seeds, of sizes over categories too."""
    done = [job for job in jobs if job.done]
    by_kind = [job for job in done if _breakdown(job, "by_defect")]
    by_size = [job for job in done if _breakdown(job, "by_size")]
    kinds = [_kinds(by_kind, question.rows, metric) for metric in question.metrics] if by_kind else []
    sizes = [_sizes(by_size, question.rows, metric) for metric in question.metrics] if by_size else []
    return Section("Which defects are found?", [*kinds, *sizes], notes=_notes(len(done), len(by_kind), bool(sizes)))


def _breakdown(job: KeyedJob, table: str) -> dict[str, dict[str, Any]]:
    """Return a result's metrics by kind or by size: {name: {"images", "regions", metric: value}}."""
    return job.done.details.get(table, {}) if job.done else {}


def _kinds(jobs: Sequence[KeyedJob], keys: Sequence[str], metric: str) -> Table:
    others = [key for key in keys if key != "layer"]
    columns, rows = list(by_layer(jobs)), []
    for group in groups_by(jobs, others):
        for (category,), members in grouped(group.jobs, ["category"]).items():
            layers = by_layer(members)
            for kind in sorted({name for job in members for name in _breakdown(job, "by_defect")}, key=natural):
                images = max(_numbers(members, "by_defect", kind, "images"))
                values = [_mean(_numbers(layers.get(layer, []), "by_defect", kind, metric)) for layer in columns]
                labels = [group.label, category] if others else [category]
                rows.append([*labels, kind, str(images), *(fraction(value, 3) for value in values)])
    headers = [*(["configuration"] if others else []), "category", "defect", "images", *columns]
    caption = f"{metric} by kind of defect and layer, each kind against all good images"
    return Table.of_texts(caption, headers, rows, num_labels=3 if others else 2)


def _sizes(jobs: Sequence[KeyedJob], keys: Sequence[str], metric: str) -> Table:
    rows = []
    for group in groups_by(jobs, keys):
        categories = grouped(group.jobs, ["category"]).values()
        texts = [group.label, field_texts(group.jobs)[0]]
        for size in SIZES:
            means = [_mean(_numbers(members, "by_size", size, metric)) for members in categories]
            regions = sum(max(_numbers(members, "by_size", size, "regions"), default=0) for members in categories)
            texts += [fraction(_mean([value for value in means if value is not None]), 3), str(regions)]
        rows.append(texts)
    headers = ["configuration", "RF px", *(text for size in SIZES for text in (size, "regions"))]
    return Table.of_texts(f"{metric} by size of defect relative to the receptive field", headers, rows, num_labels=1)


def _numbers(jobs: Sequence[KeyedJob], table: str, name: str, key: str) -> list[Any]:
    found = [_breakdown(job, table).get(name, {}).get(key) for job in jobs]
    return [value for value in found if value is not None]


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


def _notes(done: int, known: int, sizes: bool) -> list[str]:
    notes = []
    if not known == done > 0:
        notes.append(
            f"{done - known} of {done} results have no metrics by defect: no defective test image, or an earlier version's"
        )
    if sizes:
        small, large = LIMITS
        notes.append(
            f"the size of a region is sqrt(area) / receptive field, both on the evaluation grid: small below {small:g}, large "
            f"above {large:g}; a deeper layer counts the same region as smaller; a mean is over the categories that have the size"
        )
    return notes
