"""Checks of what is to be evaluated, and the split of its pixels into good and defective ones."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
    if truth.masks is not None and len(truth.masks) != len(scores.maps):
        raise ValueError(f"{len(truth.masks)} masks for {len(scores.maps)} anomaly maps")
    for number, anomaly_map in enumerate(scores.maps):
        if np.isnan(anomaly_map).any():
            raise ValueError(f"the anomaly map of image {number} has NaN in it")
        if truth.masks is not None:
            _check_mask(number, np.shape(anomaly_map), np.shape(truth.masks[number]))


def _check_mask(number: int, anomaly_map: tuple[int, ...], mask: tuple[int, ...]) -> None:
    if len(mask) != 2 or mask != anomaly_map:
        shapes = f"anomaly map {anomaly_map} and mask {mask}"
        raise ValueError(f"{shapes} of image {number} must have the same shape (H, W)")


@dataclass(frozen=True)
class Selected(Sequence[Any]):
    """Some of N maps or masks, by index; each comes from `items` when it is asked for."""

    items: Sequence[Any] | NDArray[Any]
    indices: Sequence[int]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: Any) -> Any:
        return self.items[self.indices[index]]


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
