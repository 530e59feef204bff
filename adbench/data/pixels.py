"""Images at the sizes of network inputs, kept in memory: decoded once for the check of the files and for every forward pass.

Resized pixels keep fractions of a gray level. Image libraries round to whole levels, which shifts pixels by a quarter of a
level on average, and features of low-contrast parts by 5 to 9 % (EfficientNet-Lite0).
"""

import math
import threading
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adbench.core.environment import memory_bytes
from adbench.core.files import stamp
from adbench.data.images import White, read_image, read_levels

STEPS = 128  # per gray level: white is 32,640
Pixels = NDArray[np.int16]  # RGB in such steps: (h, w, 3) of one image, (B, h, w, 3) of several
_Key = tuple[Path | White, ...]  # with the file's stamp, the image's size and the crop


def resize(image: NDArray[Any], size: tuple[int, int]) -> Pixels:
    """Return `image` (H, W, 3) of uint8 or float32 levels as (h, w, 3) for size = (h, w).

    Bilinear with half-pixel centers, antialiased where it shrinks.

    The weights are those of Pillow and torchvision.
    """
    height, width, channels = image.shape
    if (height, width) == size:
        return image.astype(np.int16) * STEPS if image.dtype == np.uint8 else np.rint(image * STEPS).astype(np.int16)
    from adbench.data import kernels  # slow to import

    pixels = np.empty((*size, channels), np.int16)
    lines = np.ascontiguousarray(image).reshape(height, width * channels)
    kernels.resize(lines, *_taps(height, size[0]), *_taps(width, size[1]), STEPS, pixels)
    return pixels


def middle(shape: Sequence[int], crop: float) -> tuple[slice, slice]:
    """Return the rows and columns of the middle square of an image of shape (H, W, ...); all of them for a crop of 1.

    crop: the square's side as a share of the shorter side.
    """
    if crop == 1:
        return slice(None), slice(None)
    side = max(1, round(crop * min(shape[:2])))
    top, left = (round((length - side) / 2) for length in shape[:2])
    return slice(top, top + side), slice(left, left + side)


@lru_cache(maxsize=64)
def _taps(length: int, size: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the first old pixel of each new one (size,) and the weights of the old pixels from there on (size, taps)."""
    scale = length / size
    reach = max(scale, 1.0)  # half width of the triangular filter
    centers = (np.arange(size) + 0.5) * scale
    taps = min(length, 2 * math.ceil(reach) + 1)
    first = np.clip(np.floor(centers - reach + 0.5).astype(np.int64), 0, length - taps)
    places = first[:, None] + np.arange(taps) + 0.5
    weights = np.maximum(0, 1 - np.abs(places - centers[:, None]) / reach)
    return first, (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def read_pixels(path: Path, size: tuple[int, int], crop: float = 1.0, white: White = 1.0) -> Pixels:
    """Return one image as the network sees it, before normalization: (h, w, 3) RGB for size = (h, w).

    crop: see `middle`. white: see `images.read_levels`.
    """
    image = read_levels(path, white)
    return resize(image[middle(image.shape, crop)], size)


def read_turned(path: Path, size: tuple[int, int], crop: float = 1.0, white: White = 1.0, *, degrees: float) -> Pixels:
    """Return `read_pixels` of the image turned counterclockwise."""
    image = turned(read_image(path, white), degrees)
    return resize(image[middle(image.shape, crop)], size)


def turned(image: NDArray[np.uint8], degrees: float) -> NDArray[np.uint8]:
    """Return `image` (H, W, 3) turned counterclockwise about its center, on the same canvas and rounded to gray levels.

    Bilinear; what comes from beyond a border is mirrored without repeating the border's pixels (reflect-101).
    """
    import torch  # slow to import
    from torch.nn import functional as F

    height, width = (side - 1 for side in image.shape[:2])  # from the center of the first pixel to that of the last
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    turn = [[cosine, -sine * height / max(width, 1), 0], [sine * width / max(height, 1), cosine, 0]]
    with torch.inference_mode():
        given = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float()
        grid = F.affine_grid(torch.tensor([turn]), list(given.shape), align_corners=True)
        found = F.grid_sample(given, grid, mode="bilinear", padding_mode="reflection", align_corners=True)
    return np.asarray(found[0].round().byte().permute(1, 2, 0).contiguous().numpy())


class PixelMemory:
    """Keep the first images that fit into `limit` bytes; decode the others each time. Thread-safe."""

    def __init__(self, limit: int) -> None:
        self._left, self._lock = limit, threading.Lock()
        self._kept: dict[_Key, Pixels] = {}

    def read(self, path: Path, size: tuple[int, int], crop: float = 1.0, white: White = 1.0) -> Pixels:
        """Return `read_pixels` of the file in its current state."""
        key = _key(path, size, crop, white)
        known = self._kept.get(key) if key else None
        if known is not None:
            return known
        pixels = read_pixels(path, size, crop, white)
        self._keep(key, pixels)
        return pixels

    def keeper(self, sizes: Sequence[tuple[tuple[int, int], float]]) -> Callable[[Path, NDArray[np.uint8]], None]:
        """Return a function that takes a file's decoded image (H, W, 3) and keeps it at sizes and crops, for `read`."""

        def keep(path: Path, image: NDArray[np.uint8]) -> None:
            for size, crop in dict.fromkeys(sizes):
                if self._left >= 6 * math.prod(size):  # bytes: checked before the work of resizing
                    self._keep(_key(path, size, crop, 1.0), resize(image[middle(image.shape, crop)], size))

        return keep

    def _keep(self, key: _Key | None, pixels: Pixels) -> None:
        with self._lock:
            if key and key not in self._kept and pixels.nbytes <= self._left:
                self._left -= pixels.nbytes
                self._kept[key] = pixels


def _key(path: Path, size: tuple[int, int], crop: float, white: White) -> _Key | None:
    try:
        return (path, *stamp(path), *size, crop, white)
    except OSError:  # reading the file will raise the error
        return None


MEMORY = PixelMemory(memory_bytes() // 16)  # this process's
