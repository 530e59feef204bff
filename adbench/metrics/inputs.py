"""Checks of what is to be evaluated, and the split of its pixels into good and defective ones."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adbench.types import Maps, Masks, Scores, Truth

Floats = NDArray[np.floating[Any]]


def check(scores: Scores, truth: Truth) -> None:
    """Raise ValueError, one line, if lengths or shapes do not match or a score is not a number."""
    image, anomalous = np.asarray(scores.image), np.asarray(truth.anomalous)
    if image.ndim != 1 or image.shape != anomalous.shape:
        raise ValueError(f"image scores {image.shape} and labels {anomalous.shape} must both have the shape (N,)")
    if len(scores.maps) != image.size:
        raise ValueError(f"{len(scores.maps)} anomaly maps for {image.size} images")
    if np.isnan(image).any():
        raise ValueError(f"the score of image {np.flatnonzero(np.isnan(image))[0]} is NaN")
    for number, anomaly_map in enumerate(scores.maps):
        if np.isnan(anomaly_map).any():
            raise ValueError(f"the anomaly map of image {number} has NaN in it")
    if truth.masks is not None:
        _check_masks(scores.maps, truth.masks)


def _check_masks(maps: Maps, masks: Masks) -> None:
    if len(masks) != len(maps):
        raise ValueError(f"{len(masks)} masks for {len(maps)} anomaly maps")
    for number, (anomaly_map, mask) in enumerate(zip(maps, masks, strict=True)):
        if np.ndim(mask) != 2 or np.shape(mask) != np.shape(anomaly_map):
            shapes = f"anomaly map {np.shape(anomaly_map)} and mask {np.shape(mask)}"
            raise ValueError(f"{shapes} of image {number} must have the same shape (H, W)")


def good_pixels(maps: Maps, masks: Masks, dtype: np.dtype[Any]) -> tuple[Iterator[Floats], int]:
    """Return the scores of all good pixels, image by image, each in turn in memory; and their number."""
    total = sum(np.size(mask) - int(np.count_nonzero(mask)) for mask in masks)
    parts = (np.asarray(m)[~np.asarray(k, dtype=bool)] for m, k in zip(maps, masks, strict=True))
    return (part.astype(dtype, copy=False) for part in parts), total


def defective_pixels(maps: Maps, masks: Masks) -> Floats:
    """Return the scores of all defective pixels, image by image; at least float32, like every map."""
    parts, dtypes = [], {np.dtype(np.float32)}
    for anomaly_map, mask in zip(maps, masks, strict=True):
        values = np.asarray(anomaly_map)
        dtypes.add(values.dtype)
        parts.append(values[np.asarray(mask, dtype=bool)])
    return np.concatenate(parts).astype(np.result_type(*dtypes), copy=False)
