"""What the studies share: results cut into parts, means with what they lack, names short enough for a figure. No study."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from adbench.core.registry import squeeze
from adbench.reports.keys import NEVER_MIXED, Entry, grouped, receptive_field, varies
from adbench.reports.tables import Column, Mean, mean_of, metric_value

MEASURES = {"image_auroc": "classification", "aupro": "localisation"}  # what the paper shows, side by side
AXIS_NAMES = {"image_auroc": "image AUROC", "aupro": "AU-PRO"}
WITHIN = NEVER_MIXED | {"params": ("detector",)}
BLOCK_KEYS = ("backbone", "weights", "image_size")  # layers are compared within one value of these
FEWEST_SEEDS = 3  # the deviation of two is itself off by three quarters, typically
BARE = ("dataset", "backbone", "weights", "layer", "detector", "params")  # keys whose values speak for themselves


@dataclass(frozen=True)
class Slice:
    """Entries that agree in some keys, and their values in words."""

    label: str
    entries: Sequence[Entry]


def slug(label: str) -> str:
    """Return a label as a part of a file's name."""
    return re.sub(r"[^0-9A-Za-z_.]+", "-", label).strip("-").lower()


def varying(found: Sequence[Entry], keys: Sequence[str]) -> list[str]:
    """Return those keys in which comparable entries differ."""
    return [key for key in keys if varies(found, key, WITHIN.get(key, ()))]


def cut(found: Sequence[Entry], keys: Sequence[str]) -> list[Slice]:
    """Return the entries by their values of `keys`, in the order of the main table."""
    return [Slice(_label(keys, values), entries) for values, entries in grouped(found, keys).items()]


def blocks(found: Sequence[Entry], apart: Sequence[str] = BLOCK_KEYS) -> list[str]:
    """Return the keys that name what layers are compared within: the backbone, and those of the others that vary."""
    return ["backbone", *varying(found, [key for key in apart if key != "backbone"])]


def figure_keys(found: Sequence[Entry]) -> list[str]:
    """Return the keys of which each value has figures of its own: the detector, and what cannot be compared."""
    return ["detector", *varying(found, ("params", *NEVER_MIXED))]


def _label(keys: Sequence[str], values: Sequence[Any]) -> str:
    words = [_word(key, value) for key, value in zip(keys, values, strict=True)]
    return ", ".join(word for word in words if word)


def _word(key: str, value: Any) -> str:
    if key == "image_size":
        return f"{value} px"
    return str(value) if key in BARE else f"{key} {value}"


def mean(entries: Sequence[Entry], name: str) -> Mean:
    """Return the mean of a metric over categories, with what it lacks, as the main table prints it."""
    return mean_of(entries, Column(name, metric_value(name)))


@dataclass(frozen=True)
class Spread:
    """A metric over seeds: its mean with what it lacks, and the value of each seed that lacks nothing."""

    mean: Mean
    values: Sequence[float]

    @property
    def deviation(self) -> float | None:
        return stdev(self.values) if self.mean.complete and len(self.values) >= FEWEST_SEEDS else None

    @property
    def text(self) -> str:
        return self.mean.text if self.deviation is None else f"{self.mean.number} ± {self.deviation:.4f}"


def spread(entries: Sequence[Entry], name: str) -> Spread:
    """Return how a metric's mean over categories varies with the seed."""
    look_up, seeds = metric_value(name), defaultdict(list)
    for entry in entries:
        seeds[entry.job.seed].append(look_up(entry.done) if entry.done else None)
    whole = [[v for v in values if v is not None] for values in seeds.values() if None not in values]
    return Spread(mean(entries, name), [fmean(values) for values in whole])


def measured(found: Sequence[Entry]) -> list[str]:
    """Return the measures that any result has a value of."""
    return [m for m in MEASURES if any(e.done and e.done.metrics.get(m) is not None for e in found)]


def layers(entries: Sequence[Entry]) -> dict[str, list[Entry]]:
    """Return the entries by layer, from the smallest receptive field to the largest; unknown ones last."""
    return {name: found for (name,), found in grouped(entries, ["layer"]).items()}


def field_of(entries: Sequence[Entry]) -> int | None:
    """Return the analytic receptive field (px) of the one layer of these entries, if a result knows it."""
    return next((field for entry in entries if (field := receptive_field(entry))), None)


def relative_field(entries: Sequence[Entry]) -> float | None:
    """Return receptive field / image size of entries of one layer and one image size."""
    field = field_of(entries)
    return field / entries[0].job.image_size if field else None


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Return each layer's stage (`layer2.3.relu_2`: `layer2`), or its whole name if two layers would share it."""
    stages = {name: "+".join(_stage(part) for part in name.split("+")) for name in names}
    unique = len({squeeze(stage) for stage in stages.values()}) == len(stages)
    return stages if unique else {name: name for name in names}


def _stage(layer: str) -> str:
    """The first part of a node's name with a number, without module names in front of it that have none."""
    found = re.search(r"(?:^|\.)([A-Za-z_]+\.?\d+)", layer)
    return found[1] if found else layer


def fraction(value: float | None, digits: int = 2) -> str:
    """Return a number as printed, a dash for None."""
    return "-" if value is None else f"{value:.{digits}f}"
