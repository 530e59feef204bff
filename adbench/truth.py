"""Labels of a test split at the evaluation grid, with what resizing the masks has lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adbench.anomaly_maps import count_components, resize_mask
from adbench.images import read_mask
from adbench.types import Masks, Sample, Size, Truth


@dataclass(frozen=True)
class Labels:
    """The truth of N test images, and remarks on what it lacks, each a sentence for the result's `reason`."""

    truth: Truth
    remarks: list[str]


def read_labels(samples: Sequence[Sample], size: Size, native: Sequence[tuple[int, int]]) -> Labels:
    """Return labels at `size` (pixels of a square grid, or "native": each image's own (height, width) in `native`).

    Masks are resized with nearest neighbour; components (8-connected) that vanish so are counted and said.
    """
    anomalous = np.array([sample.anomalous for sample in samples], dtype=bool)
    remarks = [] if anomalous.any() else ["no defective test images: metrics are undefined"]
    if anomalous.all():
        remarks.append("no good test images: image metrics are undefined")
    if any(sample.masks is None for sample in samples):
        return Labels(Truth(anomalous, None), [*remarks, "no ground_truth masks: pixel metrics are undefined"])
    full = [read_union(sample, shape) for sample, shape in zip(samples, native, strict=True)]
    if size == "native":
        return Labels(Truth(anomalous, full), remarks)
    masks: Masks = np.stack([resize_mask(mask, size) for mask in full])
    return Labels(Truth(anomalous, masks), remarks + _losses(full, masks, size))


def read_union(sample: Sample, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the union (H, W) of a sample's mask files; all False for a nominal image."""
    union = np.zeros(shape, dtype=bool)
    for path in sample.masks or ():
        union |= read_mask(path)
    return union


def _losses(full: Sequence[NDArray[np.bool_]], masks: Masks, size: Size) -> list[str]:
    before = [count_components(mask) for mask in full]
    lost = sum(max(0, n - count_components(mask)) for n, mask in zip(before, masks, strict=True))
    return [f"{lost} of {sum(before)} defect regions vanish or merge at {size} px"] if lost else []
