"""Data that studies and analyses share: jobs by layer, receptive fields, scatter over seeds, short names of layers."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from statistics import fmean, stdev

import numpy as np
from numpy.typing import NDArray

from adbench.core.registry import squeeze
from adbench.metrics import ORDER, in_order
from adbench.reports.comparison import APPROXIMATE, DASH, ENTRY_KEYS, Comparison, Mean, fraction
from adbench.reports.formats import Table
from adbench.reports.keys import NEVER_MIXED, VIEW_KEYS, KeyedJob, choose_rows, grouped, groups_by, natural, varying
from adbench.reports.plotting import letters_of_names
from adbench.reports.tables import partial_note, table_of_means
from adbench.statistics.bootstrap import stored_influence
from adbench.statistics.influence import Influence
from adbench.types import Result

MEASURES = {"image_auroc": "classification", "aupro": "localization"}  # the two that the paper shows, side by side
AXIS_NAMES = {"image_auroc": "image AUROC", "aupro": "AU-PRO"}
_NAMED = 5  # categories that a caption names
FEWEST_SEEDS = 3  # the standard deviation of two values is typically off by three quarters


def title(measure: str) -> str:
    """Return the title of a panel: what a measure is for, and its name."""
    return f"{MEASURES[measure]}\n({AXIS_NAMES[measure]})"


def slug(label: str) -> str:
    """Return a label as a part of a file's name."""
    return re.sub(r"[^0-9A-Za-z_.]+", "-", label).strip("-").lower()


def backbone_keys(jobs: Sequence[KeyedJob], others: Sequence[str] = ("weights", *VIEW_KEYS)) -> list[str]:
    """Return the keys within which layers are compared: the backbone, and those of `others` that vary."""
    return ["backbone", *varying(jobs, others)]


def figure_keys(jobs: Sequence[KeyedJob]) -> list[str]:
    """Return the keys whose values have figures of their own: the detector, shots, rotations, and all that cannot be compared."""
    return ["detector", *varying(jobs, ("params", "shots", "rotations", *NEVER_MIXED))]


def measured(jobs: Sequence[KeyedJob]) -> list[str]:
    """Return those of `MEASURES` that any result has a value of."""
    return [m for m in MEASURES if any(job.done and job.done.metrics.get(m) is not None for job in jobs)]


def compared(jobs: Sequence[KeyedJob]) -> Comparison:
    """Return the comparison of all configurations among the jobs of a table or a figure."""
    return Comparison(jobs, ENTRY_KEYS)


def pivot_tables(jobs: Sequence[KeyedJob], key: str, measures: Sequence[str]) -> tuple[list[Table], list[str]]:
    """Return a table per measure with a column per value of `key`, and the notes under them.

    Where the means of a measure do not all cover the same cells, a second table is over those that all of them cover.
    """
    rows, tables, means = choose_rows(jobs, (), key), list[Table](), list[Sequence[Mean]]()
    for measure in measures:
        table, found, _ = table_of_means(jobs, rows, key, [measure])
        tables.append(table)
        means += found
        if any(mean.share for row in found for mean in row) and (shared := shared_table(jobs, rows, key, measure)):
            tables.append(shared)
    return tables, partial_note(means)


def shared_table(jobs: Sequence[KeyedJob], rows: Sequence[str], key: str, measure: str) -> Table | None:
    """Return the table of `pivot_tables` over the cells that all its means cover, or None if there are none."""
    entries = Comparison(jobs, [*rows, key])
    common = entries.shared(grouped(jobs, [*rows, key]).values(), measure)
    if not common:
        return None
    table, _, _ = table_of_means(common, rows, key, [measure])
    names, of = categories_of(common), len(categories_of(jobs))
    over = f"the {len(names)} of {of} categories that all have" if len(names) < of else "the results that all have"
    listed = f": {', '.join(names)}" if len(names) <= _NAMED else ""
    return replace(table, caption=f"{measure} by {key} over {over}{listed}")


def in_words(jobs: Sequence[KeyedJob], keys: Sequence[str], text: Callable[[Sequence[KeyedJob]], str]) -> list[str]:
    """Return "KEYS LAYER: TEXT" for each layer of the groups by `keys`, or "LAYER: TEXT" without keys."""
    return [
        f"{group.label} {layer}: {text(members)}".lstrip()
        for group in groups_by(jobs, keys)
        for layer, members in by_layer(group.jobs).items()
    ]


def by_value(comparison: Comparison, jobs: Sequence[KeyedJob], key: str, form: str, measures: Sequence[str]) -> str:
    """Return each measure's name with its means per value of `key`; `form` has places for the value and its mean."""
    means = {
        AXIS_NAMES[m]: [form.format(group.label, comparison.mean(group.jobs, m).text) for group in groups_by(jobs, [key])]
        for m in measures
    }
    return "; ".join(f"{name} {', '.join(texts)}" for name, texts in means.items())


def categories_of(jobs: Sequence[KeyedJob]) -> list[str]:
    """Return the categories of jobs, sorted as people count."""
    return sorted({job.job.category for job in jobs}, key=natural)


def by_layer(jobs: Sequence[KeyedJob]) -> dict[str, list[KeyedJob]]:
    """Return the jobs of each layer, from the smallest receptive field to the largest; unknown ones last."""
    return {layer: members for (layer,), members in grouped(jobs, ["layer"]).items()}


def receptive_field(jobs: Sequence[KeyedJob]) -> int | None:
    """Return the receptive field (px) of the one layer of these jobs, if a result has it: an estimated one if there is one."""
    return next((field for _, field in _fields(jobs)), None)


def _fields(jobs: Sequence[KeyedJob]) -> list[tuple[bool, int]]:
    """Return whether it is analytic, and the receptive field (px) of each result that has one, the estimated ones first."""
    known = ((job.done.field_is_analytic, job.done.receptive_field) for job in jobs if job.done)
    return sorted([(analytic, field) for analytic, field in known if field], key=itemgetter(0))


def relative_field(jobs: Sequence[KeyedJob]) -> float | None:
    """Return receptive field / image size of jobs of one layer and one image size."""
    return next((share for job in jobs if job.done and (share := job.done.relative_field)), None)


def field_texts(jobs: Sequence[KeyedJob]) -> tuple[str, str]:
    """Return the receptive field (px) of the one layer of these jobs and its share of the image, as printed."""
    mark = APPROXIMATE * all(analytic for analytic, _ in _fields(jobs))
    px, share = fraction(receptive_field(jobs), 0), fraction(relative_field(jobs))
    return (px, share) if px == DASH else (mark + px, mark + share)


def short_names(layers: Sequence[str]) -> dict[str, str]:
    """Return each layer's stage (`layer2` for `layer2.3.relu_2`), or its whole name if two layers share a stage.

    The stage is the first part of a node's name that has a number, with its module.
    """
    stage = re.compile(r"(?:^|\.)([A-Za-z_]+\.?\d+)")
    stages = {name: "+".join(found[1] if (found := stage.search(part)) else part for part in name.split("+")) for name in layers}
    unique = len({squeeze(stage) for stage in stages.values()}) == len(stages)
    return stages if unique else {layer: layer for layer in layers}


def names_in_figure(layers: Sequence[str], joined_in_lines: bool = False) -> dict[str, str]:
    """Return each layer's name for the figure that is drawn now: the whole name if there is room, else the short one.

    joined_in_lines: of joined layers each has a line of its own.
    """
    names = {name: name.replace("+", "+\n") if joined_in_lines else name for name in layers}
    longest = max(len(line) for name in names.values() for line in name.split("\n"))
    return names if longest <= letters_of_names() else short_names(layers)


@dataclass(frozen=True)
class SeedScatter:
    """A metric over seeds: its mean over all jobs, and the mean over categories of each seed that is complete."""

    mean: Mean
    values: Sequence[float]

    @property
    def deviation(self) -> float | None:
        """The sample standard deviation, of a complete mean over enough seeds."""
        return stdev(self.values) if self.mean.complete and len(self.values) >= FEWEST_SEEDS else None

    @property
    def text(self) -> str:
        return self.mean.text if self.deviation is None else f"{self.mean.number} ± {self.deviation:.4f}"


def seed_scatter(comparison: Comparison, jobs: Sequence[KeyedJob], metric: str) -> SeedScatter:
    """Return how a metric's mean over categories varies with the seed; a seed counts if it has all of them."""
    seeds: dict[int, dict[str, float]] = defaultdict(dict)
    for job in jobs:
        if job.done and (value := job.done.metrics.get(metric)) is not None:
            seeds[job.job.seed][job.job.category] = value
    every = {category for category, *_ in comparison.expected(jobs)}
    complete = [fmean(values.values()) for values in seeds.values() if len(values) == len(every)]
    return SeedScatter(comparison.mean(jobs, metric), complete)


Read = Callable[[Result], NDArray[np.float32] | None]


def replicates_of(metric: str, result: Result, read: Read) -> NDArray[np.float32] | None:
    """Return a metric's bootstrap replicates (R,) of a result, or None; `read` returns those of all metrics, (metrics, R).

    Rows are the package's own metrics, then those of plug-ins that the result has, by name.
    """
    found, row = read(result), in_order([*ORDER, *result.metrics]).index(metric)
    return found[row] if found is not None and row < len(found) else None


def influence_of(metrics: Sequence[str], results: Sequence[Result], read: Read) -> Influence | None:
    """Return the influence values, one row, on the mean of some metrics over results of the same test images.

    None if one of them has none, or the images are not the same. `read` returns those of all metrics, (metrics + 1, U).
    """
    rows, strata = [], None
    for result in results:
        found = read(result)
        if found is None or not (strata is None or np.array_equal(found[-1], strata)):
            return None
        strata, names = found[-1], in_order([*ORDER, *result.metrics])
        indices = [names.index(metric) for metric in metrics]
        if max(indices) >= len(found) - 1 or np.isnan(found[indices]).any():
            return None
        rows.append(found[indices].mean(axis=0))
    return None if strata is None else stored_influence(np.mean(rows, axis=0)[None], strata)
