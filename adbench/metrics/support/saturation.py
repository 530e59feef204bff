"""Saturated defects of MVTec LOCO AD: their saturation areas, and the curves on which AU-sPRO is integrated.

With a saturation area of s pixels, min(found / s, 1) rises by 1 / s with each of the s highest pixels of a defect and stays
then. So sPRO is a per-region overlap in which these pixels weigh 1 / s and the others nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from adbench.core.errors import DataError
from adbench.metrics.support.curves import Curves, Ranking
from adbench.types import Maps, Saturated, Truth


class Saturation(NamedTuple):
    """The saturation area of the defects with one gray value: a share of their area if `relative`, else pixels of the image."""

    threshold: float
    relative: bool

    def area(self, pixels: int, scale: float = 1) -> float:
        """Return the area in pixels of a defect of so many; scale: pixels of the grid by those of the image."""
        if self.relative:
            return max(1, int(self.threshold * pixels))
        return min(max(self.threshold * scale, 1), pixels)


def read_config(path: Path) -> dict[int, Saturation]:
    """Return the saturation by gray value of a defects_config.json; raise DataError if it does not say what it should."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return {int(entry["pixel_value"]): _saturation(entry) for entry in entries}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"cannot read {path}: {type(error).__name__} {error}; get it again from the dataset's publisher"
        ) from error


def _saturation(entry: Mapping[str, object]) -> Saturation:
    threshold, relative = float(str(entry["saturation_threshold"])), bool(entry["relative_saturation"])
    if not 0 < threshold <= (1 if relative else float("inf")):
        raise ValueError(f"saturation_threshold {threshold:g} of pixel_value {entry['pixel_value']} is out of range")
    return Saturation(threshold, relative)


def saturated_curves(ranking: Ranking | None, maps: Maps, truth: Truth) -> dict[str, Curves]:
    """Return the curves of saturated overlap of each kind of defect, against the good images and its own ones.

    `ranking` has the groups of `kind_groups`. Empty without saturation areas; a kind without a defective pixel is absent.
    """
    if ranking is None or truth.defects is None or truth.masks is None:
        return {}
    kinds, groups = kind_groups(truth)
    weights = np.concatenate(list(overlap_weights(maps, truth)))
    owners = np.repeat(groups, [np.count_nonzero(mask) for mask in truth.masks])
    numbers = np.arange(len(kinds) + 1)
    found = {
        kind: ranking.curves(owners == number, np.isin(numbers, (0, number)), weights)
        for number, kind in enumerate(kinds, start=1)
    }
    return {kind: curves for kind, curves in found.items() if curves}


def kind_groups(truth: Truth) -> tuple[list[str], NDArray[np.int64]]:
    """Return the kinds of defect, sorted, and each image's: 0 for a good one, else the place of its kind from 1 on."""
    kinds = truth.kinds if truth.kinds is not None else ["defect"] * len(truth.anomalous)
    names = sorted({kind for kind, anomalous in zip(kinds, truth.anomalous, strict=True) if anomalous})
    pairs = zip(kinds, truth.anomalous, strict=True)
    return names, np.array([1 + names.index(kind) if anomalous else 0 for kind, anomalous in pairs], dtype=np.int64)


def overlap_weights(maps: Maps, truth: Truth) -> Iterator[NDArray[np.float64]]:
    """Yield the weights of each image's defective pixels, in the order of `mask[mask]`; each defect's sum to 1."""
    if truth.masks is None or truth.defects is None:
        return
    for anomaly_map, mask, defects in zip(maps, truth.masks, truth.defects, strict=True):
        yield _weights(np.asarray(anomaly_map).ravel(), np.asarray(mask, dtype=bool).ravel(), defects)


def _weights(scores: NDArray[np.float32], mask: NDArray[np.bool_], defects: Sequence[Saturated]) -> NDArray[np.float64]:
    inside = np.flatnonzero(mask)
    weights = np.zeros(inside.size)
    for pixels, area in defects:
        ranked = pixels[np.argsort(-scores[pixels], kind="stable")][: int(np.ceil(area))]
        shares = np.full(ranked.size, 1 / area)
        shares[-1] -= (ranked.size - area) / area  # the last pixel completes an area that is no whole number
        np.add.at(weights, np.searchsorted(inside, ranked), shares)
    return weights
