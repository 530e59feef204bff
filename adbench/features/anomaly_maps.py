"""From a detector's grid to the evaluation grid: maps are enlarged and smoothed, masks resized.

h x w feature grid, H x W evaluation grid. Numpy only: importing this module loads neither torch nor scipy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from adbench.types import SMOOTHING_GRID, Maps, Size

SIGMA_GRID = SMOOTHING_GRID
_PER_CELL = 2  # pixels of a finer grid per cell
_ALONE = 1 << 18  # multiplications up to which numpy's BLAS uses one thread
_FEWEST = 16  # rows of a block: with fewer, the blocks would take longer than the whole product


@dataclass(frozen=True)
class Smoothing:
    """The Gaussian that smooths maps. sigma: in pixels of a 256 grid, for a square image that is one input of the network.

    spread: scales it to an image of several tiles or another shape, see `Tiling.spread`: a tile is smoothed as if it were alone.
    """

    sigma: float
    spread: tuple[float, float] = (1.0, 1.0)

    @staticmethod
    def of(value: float | Smoothing) -> Smoothing:
        """Return the smoothing itself, or that of a sigma."""
        return value if isinstance(value, Smoothing) else Smoothing(value)

    def pixels(self, size: tuple[int, int]) -> tuple[float, float]:
        """Return sigma in pixels, down and across, on a grid of `size` = (H, W) that covers the image."""
        height, width = size
        return self.sigma * self.spread[0] * height / SIGMA_GRID, self.sigma * self.spread[1] * width / SIGMA_GRID

    def grid(self, cells: Sequence[int]) -> tuple[int, int]:
        """Return the grid (H, W) on which smoothed maps of (h, w) cells are searched for their maximum: 256, finer for tiles."""
        if self.spread == (1.0, 1.0):
            return SIGMA_GRID, SIGMA_GRID
        return max(SIGMA_GRID, _PER_CELL * cells[0]), max(SIGMA_GRID, _PER_CELL * cells[1])


@lru_cache(maxsize=64)
def resizer(inputs: int, outputs: int, sigma: float) -> NDArray[np.float32]:
    """Return the (outputs, inputs) matrix that interpolates along one axis, then smooths by `sigma` output pixels.

    Made in float64. Linear as torch's with align_corners=False. The Gaussian is scipy's: mode "reflect", cut off at 4 sigma.
    """
    source = np.maximum((np.arange(outputs) + 0.5) * inputs / outputs - 0.5, 0)
    low = np.minimum(source.astype(int), inputs - 1)
    matrix, rows = np.zeros((outputs, inputs)), np.arange(outputs)
    np.add.at(matrix, (rows, low), 1 - (source - low))
    np.add.at(matrix, (rows, np.minimum(low + 1, inputs - 1)), source - low)
    if sigma > 0:
        from scipy.ndimage import gaussian_filter1d

        matrix = gaussian_filter1d(matrix, sigma, axis=0, mode="reflect", truncate=4.0)
    return matrix.astype(np.float32)


def resize_maps(maps: NDArray[np.float32], size: tuple[int, int], sigma: float | Smoothing) -> NDArray[np.float32]:
    """Return (N, h, w) maps bilinearly resized to `size` = (H, W), then smoothed by a Gaussian, as (N, H, W) float32.

    `sigma` is in pixels of a 256 grid and grows with the evaluation grid: sigma * H / 256 down, sigma * W / 256 across;
    a `Smoothing` scales it further. 0 = no smoothing. Both steps are linear and separable, so
    together they are one small matrix per axis. An image's result does not depend on the others.
    """
    sigma_down, sigma_across = Smoothing.of(sigma).pixels(size)
    down = resizer(maps.shape[1], size[0], sigma_down)
    across = resizer(maps.shape[2], size[1], sigma_across)
    return _product(down, _product(maps.astype(np.float32, copy=False), across.T))


def searched(maps: NDArray[np.float32], sigma: float | Smoothing) -> NDArray[np.float32]:
    """Return N maps (h, w) smoothed, on the grid on which their maxima and the regions above a threshold are found."""
    return resize_maps(maps, Smoothing.of(sigma).grid(maps.shape[1:]), sigma)


def maxima(maps: NDArray[np.float32], sigma: float | Smoothing) -> NDArray[np.float32]:
    """Return the largest value (N,) of each of the maps (N, h, w), resized to a 256 grid (of tiles: finer) and smoothed."""
    largest: NDArray[np.float32] = searched(maps, sigma).max(axis=(1, 2))
    return largest


def _product(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the product of one matrix with a stack, by blocks of rows so small that BLAS uses one thread for them.

    On a busy machine, waiting for another thread takes a hundred times as long as such a block.
    """
    height, (inner, width) = left.shape[-2], right.shape[-2:]
    product = np.empty((*left.shape[:-2], *right.shape[:-2], height, width), np.float32)
    most = _ALONE // (inner * width)
    rows = math.ceil(height / math.ceil(height / most)) if most >= _FEWEST else height
    for first in range(0, height, rows):
        part = slice(first, first + rows)
        np.matmul(left[..., part, :], right, out=product[..., part, :])
    return product


def upsample(maps: Maps, size: Size, native_sizes: Sequence[tuple[int, int]], sigma: float | Smoothing = 0.0) -> Maps:
    """Return N maps (h, w) on the evaluation grid: (N, size, size), or for "native" a list of maps (H_i, W_i).

    `native_sizes` are the N images' original (H_i, W_i); only "native" reads them. `sigma` as in `resize_maps`.
    """
    if size != "native":
        return resize_maps(np.asarray(maps), (size, size), sigma)
    return [resize_maps(m[None], hw, sigma)[0] for m, hw in zip(maps, native_sizes, strict=True)]
