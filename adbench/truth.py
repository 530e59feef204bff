"""Labels of a test split at the evaluation grid, with what resizing the masks has lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adbench.anomaly_maps import count_components, lost_components, resize_mask
from adbench.images import read_mask
from adbench.metrics import Regions, components, reason
from adbench.types import Sample, Size, Truth


@dataclass(frozen=True)
class Labels:
    """The truth of N test images, its defect regions, and remarks on what it lacks (for a result's `reason`)."""

    truth: Truth
    regions: Regions | None
    remarks: list[str]


def read_labels(samples: Sequence[Sample], size: Size, native: Sequence[tuple[int, int]]) -> Labels:
    """Return labels at `size` (pixels of a square grid, or "native": each image's own (height, width) in `native`).

    Masks are resized with nearest neighbour; regions (8-connected) that vanish so are counted and said.
    """
    anomalous = np.array([sample.anomalous for sample in samples], dtype=bool)
    if any(sample.masks is None for sample in samples):
        return _labels(Truth(anomalous, None), [])
    full = [read_union(sample, shape) for sample, shape in zip(samples, native, strict=True)]
    if size == "native":
        return _labels(Truth(anomalous, full), [])
    grid = (size, size)
    lost, total = sum(lost_components(m, grid) for m in full), sum(count_components(m) for m in full)
    remarks = [f"{lost} of {total} defect regions vanish at {size} px"] if lost else []
    return _labels(Truth(anomalous, np.stack([resize_mask(mask, grid) for mask in full])), remarks)


def _labels(truth: Truth, remarks: list[str]) -> Labels:
    undefined = reason(truth)
    regions = None if truth.masks is None else components(truth.masks)
    return Labels(truth, regions, [undefined, *remarks] if undefined else remarks)


def read_union(sample: Sample, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the union (H, W) of a sample's mask files; all False for a nominal image."""
    union = np.zeros(shape, dtype=bool)
    for path in sample.masks or ():
        union |= read_mask(path)
    return union
