"""The foreground of images: an object in front of a plain background, or a texture that fills the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_closing, binary_erosion, binary_opening, gaussian_filter

from adbench.data.images import White, read_image
from adbench.data.regions import Mask, large_regions
from adbench.types import OnStep, Sample, ignore_step

_SIDE = 256  # px of the longer side at which foregrounds are estimated
_SMOOTHED = 0.006  # of the longer side
_PLANE_WORTH = 0.5  # a plane must reduce the error of the median to this share
_RING = 8  # px at that size: width of the border that is taken for background
_LOOKED_AT = 12  # images that decide between object and texture
_MOST_ON_BORDER, _LEAST_DISTANCE = 0.3, 2.5  # share of the border that an object may cover; distance in spreads of the background
_SHARES = (0.02, 0.95)  # of the image that an object covers
_CLOSED, _SMALL_HOLE, _SMALL_REGION = 6, 0.01, 0.05  # px; share of the image; share of the largest region
_FOUR = None  # scipy's default: 4-connected regions


@dataclass(frozen=True)
class Foreground:
    """The foreground that good images of a category have in common: `typical` (SIDE, SIDE), None for a texture."""

    typical: NDArray[np.float32] | None

    def of(self, image: NDArray[np.uint8]) -> Mask:
        """Return the foreground of `image` (H, W, 3), as (H, W) bool.

        An estimate whose area is atypical of the category is replaced by the foreground that the category's images share.
        """
        if self.typical is None:
            return np.ones(image.shape[:2], bool)
        own = estimate(image)
        common = _resized(self.typical, image.shape[:2])
        return own if own is not None and 0.6 < own.mean() / common.mean() < 1.6 else common

    @property
    def object(self) -> bool:
        """Whether the category shows an object; false for a texture."""
        return self.typical is not None


def learn_foreground(samples: Sequence[Sample], on_step: OnStep = ignore_step, white: White = 1.0) -> Foreground:
    """Return the foreground of good images, from up to 12 of them.

    They show an object if one of about the same size is found in at least two thirds of them.
    """
    chosen = [samples[k] for k in np.unique(np.linspace(0, len(samples) - 1, _LOOKED_AT).astype(int))]
    found = []
    for done, sample in enumerate(chosen):
        mask = estimate(read_image(sample.path, white))
        found += [] if mask is None else [mask]
        on_step(done + 1, len(chosen), "looking for the part")
    shares = np.array([mask.mean() for mask in found])
    agreeing = [m for m, share in zip(found, shares, strict=True) if 0.6 < share / np.median(shares) < 1.6]
    if 3 * len(agreeing) < 2 * len(chosen):
        return Foreground(None)
    return Foreground(np.mean([_resized(m.astype(np.float32), (_SIDE, _SIDE)) for m in agreeing], 0, np.float32))


def estimate(image: NDArray[np.uint8]) -> Mask | None:
    """Return the mask (H, W) of the object in `image` (H, W, 3), or None if no object differs from the border.

    Each pixel's distance from the background's color is measured in spreads of the border (median absolute deviation), and
    Otsu's threshold is applied to its logarithm. In a texture, the border exceeds the threshold as often as the middle.
    """
    height, width = image.shape[:2]
    scale = min(1.0, _SIDE / max(height, width))
    size = (max(2 * _RING + 2, round(width * scale)), max(2 * _RING + 2, round(height * scale)))
    shrunk = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX), dtype=np.float32)
    sigma = _SMOOTHED * max(size)
    small = gaussian_filter(shrunk, (sigma, sigma, 0))
    ring = np.ones(small.shape[:2], bool)
    ring[_RING:-_RING, _RING:-_RING] = False
    difference = np.abs(small - _background(small, ring))
    spread = np.maximum(1.4826 * np.median(difference[ring], axis=0), 2)
    distance = np.log1p(np.sqrt(((difference / spread) ** 2).sum(axis=2)))
    threshold = _otsu(distance)
    mask = distance > threshold
    middle = mask[tuple(slice(n // 4, n - n // 4) for n in mask.shape)]
    if threshold < np.log1p(_LEAST_DISTANCE) or mask[ring].mean() > min(_MOST_ON_BORDER, middle.mean() / 2):
        return None
    mask = _tidy(mask)
    return _resized(mask.astype(np.float32), image.shape[:2]) if _SHARES[0] < mask.mean() < _SHARES[1] else None


def _background(image: NDArray[np.float32], ring: Mask) -> NDArray[np.float64]:
    """Return the background's color (H, W, 3), estimated from the border: its median or, under uneven light, a plane.

    The plane is fitted repeatedly without outliers, because an object may touch the border.
    """
    rows, columns = np.mgrid[-1 : 1 : 1j * ring.shape[0], -1 : 1 : 1j * ring.shape[1]]
    basis = np.stack([np.ones_like(rows), rows, columns], axis=-1)
    flat = plane = np.array([np.median(image[ring], axis=0), np.zeros(3), np.zeros(3)])
    error = flat_error = np.abs(image[ring] - basis[ring] @ flat).max(axis=1)
    for _ in range(3):
        fits = error <= 2.5 * np.median(error)
        plane = np.linalg.lstsq(basis[ring][fits], image[ring][fits], rcond=None)[0]
        error = np.abs(image[ring] - basis[ring] @ plane).max(axis=1)
    better = np.median(error) < _PLANE_WORTH * np.median(flat_error)
    return np.asarray(basis @ (plane if better else flat))


def _otsu(values: NDArray[Any]) -> float:
    """Return the threshold with the largest variance between the two classes (Otsu, IEEE SMC 1979)."""
    counts, edges = np.histogram(values, 128)
    below = np.cumsum(counts)
    sums = np.cumsum(counts * (edges[1:] + edges[:-1]) / 2)
    between = (sums[-1] * below / below[-1] - sums) ** 2 / np.maximum(below * (below[-1] - below), 1)
    return float(edges[between.argmax() + 1])


def _tidy(mask: Mask) -> Mask:
    """Return the mask without gaps, small holes (dark places of the part) and small regions (dust).

    Specks of a noisy background are removed first, or closing would join them to the part.
    """
    padded = np.pad(binary_opening(mask, np.ones((3, 3))), _CLOSED)
    closed = binary_closing(padded, np.ones((3, 3)), _CLOSED)[_CLOSED:-_CLOSED, _CLOSED:-_CLOSED]
    filled = ~large_regions(~closed, _SMALL_HOLE * mask.size, neighbors=_FOUR)
    kept = large_regions(filled, share=_SMALL_REGION, neighbors=_FOUR)
    return np.asarray(binary_erosion(kept, border_value=1))  # smoothing has widened it


def _resized(field: NDArray[np.float32], shape: tuple[int, ...]) -> Mask:
    size = (shape[1], shape[0])
    soft = gaussian_filter(field, 1.0, mode="nearest")  # hides the steps of upsampled pixels
    return np.asarray(Image.fromarray(soft).resize(size, Image.Resampling.BICUBIC)) > 0.5
