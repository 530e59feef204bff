"""Pictures of new images: the map laid over the image, with an outline around everything above the threshold.

The colors depend on the model's threshold, not on the other images: an image looks the same alone and among many.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from adbench.pictures.frames import ColorBar, framed
from adbench.pictures.heatmaps import laid_over, outlined, scaled

_LEAST, _MOST = 256, 4096  # px of a picture's longer side
_OPACITY = 0.5  # a defect is to be seen through its heat
_LINES = 300  # outlines are so many times thinner than the picture's longer side
Limits = tuple[float, float]


def at_own_size(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return `image` (H, W, 3), enlarged if too small to see anything, reduced if too large for a picture."""
    longer = max(image.shape[:2])
    if _LEAST <= longer <= _MOST:
        return image
    size = scaled(image.shape, min(max(_LEAST, longer), _MOST) / longer)
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))


def laid_map(picture: NDArray[np.uint8], anomaly_map: NDArray[np.float32], limits: Limits | None) -> NDArray[np.uint8]:
    """Return the picture (H, W, 3) under its smoothed map (h, w), with an outline around what is above the threshold.

    limits: the score of a typical patch of a good image, and the pixel threshold. Colors run from the first (none) to twice
    as far from it as the second. Without limits they run from the map's own median to its maximum, so that two pictures
    cannot be compared.
    """
    low, high, threshold = _range(anomaly_map, limits)
    panel = laid_over(picture, np.clip((anomaly_map - low) / max(high - low, 1e-12), 0, 1), _OPACITY)
    if anomaly_map.max() <= threshold:
        return panel
    size = (picture.shape[1], picture.shape[0])
    values = np.asarray(Image.fromarray(anomaly_map).resize(size, Image.Resampling.BILINEAR))
    return outlined(panel, values > threshold, max(2, round(max(size) / _LINES)))


def draw_overlay(
    image: NDArray[np.uint8], anomaly_map: NDArray[np.float32], title: Sequence[str], limits: Limits | None
) -> Image.Image:
    """Return the overlay of an image (H, W, 3) at its own size, as `laid_map` draws it, below a title and above a color bar."""
    low, high, threshold = _range(anomaly_map, limits)
    marks = [("typical" if limits else "median", low), ("highest here", float(anomaly_map.max()))]
    bar = ColorBar(low, high, high, [*marks, *[("pixel threshold", threshold)] * (limits is not None)])
    return framed(title, [("", laid_map(at_own_size(image), anomaly_map, limits))], bar=bar)


def _range(anomaly_map: NDArray[np.float32], limits: Limits | None) -> tuple[float, float, float]:
    """Return the values of the first color and of the last, and the threshold."""
    if limits:
        return limits[0], 2 * limits[1] - limits[0], limits[1]
    return float(np.median(anomaly_map)), float(anomaly_map.max()), math.inf
