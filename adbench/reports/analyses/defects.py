"""Which defects does a layer find: metrics by kind and by size of defect, and how many are found with few false alarms.

The numbers come from `adbench.metrics.support.breakdown`, which documents how they are computed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import Any

from adbench.metrics.support.breakdown import LIMITS, SIZES
from adbench.reports.analyses import Question, register
from adbench.reports.comparison import Column, Comparison
from adbench.reports.formats import Section, Table
from adbench.reports.keys import KeyedJob, grouped, groups_by, natural
from adbench.reports.study_data import by_layer
from adbench.types import Result

FOUND = "found"
SATURATED = "au_spro"  # of MVTec LOCO AD, whose final values are means over kinds of defect
MEAN = "mean of the kinds"
_CAPTIONS = {FOUND: "share of images found at a threshold for 1 % false alarms"}


@dataclass(frozen=True)
class Breakdown:
    """A table of a result's details: its name there, what it is by, in the caption, and what it counts."""

    table: str
    caption: str
    count: str
    labels: Callable[[KeyedJob, str, float | None], dict[str, str]]  # of a row, by header: of a job, a name, mm per pixel
    order: Callable[[str], Any]

    def of(self, result: Result) -> dict[str, dict[str, Any]]:
        """Return {kind or size: {"images", "regions", metric: value}}, with the means of kinds that have saturation areas."""
        found = dict(result.details.get(self.table, {}))
        return found | ({MEAN: _means(found)} if sum(part.get(SATURATED) is not None for part in found.values()) > 1 else {})


def _means(parts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return each metric's mean over kinds, where all have it, and the number of their images."""
    shared = [name for name in next(iter(parts.values())) if all(part.get(name) is not None for part in parts.values())]
    return {name: fmean(part[name] for part in parts.values()) for name in shared} | {
        "images": sum(part["images"] for part in parts.values())
    }


def _size_labels(job: KeyedJob, name: str, mm_per_px: float | None) -> dict[str, str]:
    """Return the range of a size's class in pixels of the images, and in millimeters if a pixel's are known."""
    side = job.done.details.get("image_px", 0) if job.done else 0
    labels = {"size px": _range(name, side, ".0f")}
    return labels | ({"size mm": _range(name, side * mm_per_px, ".3g")} if mm_per_px else {})


def _range(name: str, side: float, form: str) -> str:
    """Return the limits of the class `name` of images with this side."""
    index = SIZES.index(name)
    low, high = (f"{limit * side:{form}}" for limit in (LIMITS[max(index - 1, 0)], LIMITS[min(index, len(LIMITS) - 1)]))
    return f"below {high}" if index == 0 else f"{low} or more" if index == len(LIMITS) else f"{low} to {high}"


def _kind_order(name: str) -> tuple[Any, ...]:
    return name == MEAN, natural(name)


BREAKDOWNS = (
    Breakdown("by_defect", "kind of defect", "images", lambda job, name, mm_per_px: {"defect": name}, _kind_order),
    Breakdown("by_side", "size of defect, sqrt(area)", "regions", _size_labels, SIZES.index),
)


@register("defects")
def section(jobs: Sequence[KeyedJob], question: Question) -> Section:
    """Return per metric a table of kinds of defect by layer, and one of sizes; means over seeds."""
    done = [job for job in jobs if job.done]
    known = {breakdown: [job for job in done if job.done and breakdown.of(job.done)] for breakdown in BREAKDOWNS}
    saturated = [SATURATED] * any(job.done.metrics.get(SATURATED) is not None for job in done if job.done)
    tables = [
        _table(own, question, breakdown, metric)
        for metric in dict.fromkeys((*question.metrics, *saturated, FOUND))
        for breakdown, own in known.items()
        if any(part.get(metric) is not None for job in own if job.done for part in breakdown.of(job.done).values())
    ]
    notes = _notes(done, known, question.mm_per_px)
    if saturated:
        notes.append(
            f"{MEAN}: logical and structural defects are measured apart, each against all good images; MVTec LOCO AD's final "
            "values are the means of the two"
        )
    return Section("Which defects are found?", tables, notes=notes)


def sizes_table(jobs: Sequence[KeyedJob], rows: Sequence[str], columns: str, metric: str) -> Table | None:
    """Return a metric by size of defect, with a column per value of a key; None if no result has it."""
    sizes = BREAKDOWNS[1]
    known = [job for job in jobs if job.done and any(metric in part for part in sizes.of(job.done).values())]
    return _table(known, Question(rows, ()), sizes, metric, columns) if known else None


def _table(jobs: Sequence[KeyedJob], question: Question, breakdown: Breakdown, metric: str, column_key: str = "layer") -> Table:
    """Return a row per category and kind or size, with a column per layer or value of another key, all over the same seeds."""
    others = [key for key in question.rows if key not in (column_key, "category")]
    counted = "images" if metric == FOUND else breakdown.count
    comparison, columns = Comparison(jobs, [*question.rows, column_key, "category"]), list(_by(jobs, column_key))
    labels: list[str] = []
    rows = []
    for group in groups_by(jobs, others):
        for (category,), members in grouped(group.jobs, ["category"]).items():
            layers = _by(members, column_key)
            names = {name for job in members if job.done for name in breakdown.of(job.done)}
            for name in sorted(names, key=breakdown.order):
                column = Column(name, partial(_value, breakdown, name, metric))
                found = [comparison.means(layers.get(layer, []), [column])[0].text for layer in columns]
                own = breakdown.labels(members[0], name, question.mm_per_px)
                labels = [*(["configuration"] if others else []), "category", *own]
                count = max(breakdown.of(job.done).get(name, {}).get(counted, 0) for job in members if job.done)
                rows.append([*([group.label] if others else []), category, *own.values(), str(count), *found])
    caption = f"{_CAPTIONS.get(metric, metric)} by {breakdown.caption}, and {column_key.replace('_', ' ')}"
    return Table.of_texts(caption, [*labels, counted, *map(str, columns)], rows, num_labels=len(labels))


def _by(jobs: Sequence[KeyedJob], key: str) -> dict[Any, list[KeyedJob]]:
    return by_layer(jobs) if key == "layer" else {value: members for (value,), members in grouped(jobs, [key]).items()}


def _value(breakdown: Breakdown, name: str, metric: str, result: Result) -> float | None:
    value: float | None = breakdown.of(result).get(name, {}).get(metric)
    return value


def _notes(done: Sequence[KeyedJob], known: dict[Breakdown, list[KeyedJob]], mm_per_px: float | None) -> list[str]:
    kinds, sizes = known.values()
    notes = []
    if not len(kinds) == len(done) > 0:
        notes.append(
            f"{len(done) - len(kinds)} of {len(done)} results have no metrics by defect: no defective test image, or an earlier "
            "version's"
        )
    if len(sizes) < len(kinds):
        notes.append(f"{len(kinds) - len(sizes)} of {len(done)} results have none by size: no masks, or an earlier version's")
    if sizes:
        unit = f"; {mm_per_px:g} mm per pixel" if mm_per_px else "; --mm-per-px adds millimeters"
        notes.append(
            f"a size is the side sqrt(area) of a region in pixels of the image files, the same classes for all layers{unit}"
        )
    if kinds:
        notes.append(
            "found: the image's score is above a threshold that at most 1 % of the good test images exceed (none of fewer than "
            "100). The threshold is set on these images themselves: one set on other images finds fewer or raises more alarms"
        )
    return notes
