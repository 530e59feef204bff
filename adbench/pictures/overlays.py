"""Pictures of new images: the map laid over the image, with an outline around everything above the threshold.

The colors depend on the model's threshold, not on the other images: an image looks the same alone and among many.
"""

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from adbench.features.anomaly_maps import SIGMA_GRID, resize_maps
from adbench.pictures.heatmaps import beside, laid_over, outlined, scaled

_LEAST, _MOST = 256, 512  # px of a picture's longer side
_OPACITY = 0.5  # a defect is to be seen through its heat


def smoothed(maps: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Return N maps (h, w) on the grid on which regions above the threshold are found, (N, 256, 256)."""
    return resize_maps(maps, (SIGMA_GRID, SIGMA_GRID), sigma)


def thumbnail(image: NDArray[np.uint8], image_size: int) -> NDArray[np.uint8]:
    """Return `image` (H, W, 3) at the size of its picture, which shows four pixels for one of the network's at most.

    More would only cost memory: the smaller `image_size`, the more images are decoded ahead.
    """
    height, width = image.shape[:2]
    most = max(_LEAST, min(_MOST, 4 * image_size))
    scale = min(max(_LEAST / max(height, width), 1), most / max(height, width))
    if scale == 1:
        return image
    return np.asarray(Image.fromarray(image).resize(scaled(image.shape, scale), Image.Resampling.BILINEAR))


def draw_overlay(
    picture: NDArray[np.uint8], anomaly_map: NDArray[np.float32], caption: str, limits: tuple[float, float] | None
) -> Image.Image:
    """Return the overlay of a thumbnail (H, W, 3) and its smoothed map (256, 256).

    limits: the score of a typical patch of a good image, and the pixel threshold. Colors run from the first (none) to twice
    as far from it as the second. Without limits they run from the map's own median to its maximum, so that two pictures
    cannot be compared.
    """
    low, threshold = limits or (float(np.median(anomaly_map)), math.inf)
    high = 2 * threshold - low if limits else float(anomaly_map.max())
    size = (picture.shape[1], picture.shape[0])
    values = np.asarray(Image.fromarray(anomaly_map).resize(size, Image.Resampling.BILINEAR))
    panel = laid_over(picture, np.clip((values - low) / max(high - low, 1e-12), 0, 1), _OPACITY)
    if anomaly_map.max() > threshold:
        panel = outlined(panel, values > threshold)
    return beside([(caption, panel)], size)
