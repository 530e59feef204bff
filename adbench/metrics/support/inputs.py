"""The scores and labels that metrics are given: checks, why metrics are undefined, and selection of images."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adbench.types import Scores, Truth


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
        if truth.masks is None:
            continue
        shape, mask = np.shape(anomaly_map), np.shape(truth.masks[number])
        if len(mask) != 2 or mask != shape:
            raise ValueError(f"anomaly map {shape} and mask {mask} of image {number} must have the same shape (H, W)")


def reasons(truth: Truth) -> dict[str, str]:
    """Return why metrics are undefined, by family: "image", "pixel". A family that is defined has no entry."""
    anomalous = np.asarray(truth.anomalous, dtype=bool)
    if anomalous.size == 0:
        return dict.fromkeys(("image", "pixel"), "no labeled test images")
    found = {}
    if anomalous.all():
        found["image"] = "no good test images: image metrics are undefined"
    elif not anomalous.any():
        found["image"] = "no anomalous test images: image metrics are undefined"
    if truth.masks is None:
        found["pixel"] = "no masks: pixel metrics are undefined"
    elif not any(np.any(mask) for mask in truth.masks):
        found["pixel"] = "no defective pixel in any mask: pixel metrics are undefined"
    elif all(np.all(mask) for mask in truth.masks):
        found["pixel"] = "no defect-free pixel in any mask: pixel metrics are undefined"
    return found


def reason(truth: Truth) -> str | None:
    """Return `reasons` as one line for a result's record, or None if every metric is defined."""
    return "; ".join(dict.fromkeys(reasons(truth).values())) or None


@dataclass(frozen=True)
class Selected(Sequence[Any]):
    """Some of N maps or masks, by index; each is read from `items` when it is asked for."""

    items: Sequence[Any] | NDArray[Any]
    indices: Sequence[int]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: Any) -> Any:
        return self.items[self.indices[index]]


def select(scores: Scores, truth: Truth, indices: NDArray[np.intp]) -> tuple[Scores, Truth]:
    """Return the scores and labels of the images at `indices` (n,), which may repeat; maps and masks are not copied."""
    chosen = indices.tolist()
    masks, defects, kinds = (
        None if items is None else Selected(items, chosen) for items in (truth.masks, truth.defects, truth.kinds)
    )
    return Scores(scores.image[indices], Selected(scores.maps, chosen)), Truth(truth.anomalous[indices], masks, defects, kinds)
