"""Checks of what is to be evaluated, and the split of its pixels into good and defective ones."""

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


def split(maps: Maps, masks: Masks) -> tuple[Floats, Floats]:
    """Return copies of the scores of all good pixels and of all defective pixels, image by image; at least float32."""
    return good_pixels(maps, masks), defective_pixels(maps, masks)


def good_pixels(maps: Maps, masks: Masks) -> Floats:
    """Return a copy of the scores of all good pixels, image by image; at least float32."""
    good = np.empty(sum(np.size(m) - np.count_nonzero(k) for m, k in zip(maps, masks, strict=True)), dtype=_dtype(maps))
    end = 0
    for anomaly_map, mask in zip(maps, masks, strict=True):
        part = np.asarray(anomaly_map)[~np.asarray(mask, dtype=bool)]
        good[end : end + part.size] = part
        end += part.size
    return good


def defective_pixels(maps: Maps, masks: Masks) -> Floats:
    """Return a copy of the scores of all defective pixels, image by image; at least float32."""
    parts = [np.asarray(m)[np.asarray(k, dtype=bool)] for m, k in zip(maps, masks, strict=True)]
    return np.concatenate(parts).astype(_dtype(maps), copy=False)


def _dtype(maps: Maps) -> np.dtype[Any]:
    return np.result_type(np.float32, *{np.asarray(m).dtype for m in maps})
