"""Images at the sizes of network inputs, kept in memory: decoded once, for the check of the files and for every pass."""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from adbench.environment import memory_bytes
from adbench.images import read_image, resize

Pixels = NDArray[np.uint8]  # RGB: (size, size, 3) of one image, (B, size, size, 3) of several
_Key = tuple[Path, int, int, int]  # with the file's size and time of change, and the image's size


def read_pixels(path: Path, image_size: int) -> Pixels:
    """Return one image as the network sees it, before normalisation: (image_size, image_size, 3) RGB."""
    return resize(read_image(path), image_size)


class PixelMemory:
    """The first images that fit into `limit` bytes; the others are decoded each time. For many threads."""

    def __init__(self, limit: int) -> None:
        self._left, self._lock = limit, threading.Lock()
        self._kept: dict[_Key, Pixels] = {}

    def read(self, path: Path, image_size: int) -> Pixels:
        """Return what `read_pixels` does, of the file as it is now."""
        key = _key(path, image_size)
        known = self._kept.get(key) if key else None
        if known is not None:
            return known
        pixels = read_pixels(path, image_size)
        self._keep(key, pixels)
        return pixels

    def keeper(self, sizes: Sequence[int]) -> Callable[[Path, Pixels], None]:
        """Return a function that takes a file's decoded image (H, W, 3) and keeps it at `sizes`, for `read`."""

        def keep(path: Path, image: Pixels) -> None:
            for size in dict.fromkeys(sizes):
                if self._left >= 3 * size**2:
                    self._keep(_key(path, size), resize(image, size))

        return keep

    def _keep(self, key: _Key | None, pixels: Pixels) -> None:
        with self._lock:
            if key and key not in self._kept and pixels.nbytes <= self._left:
                self._left -= pixels.nbytes
                self._kept[key] = pixels


def _key(path: Path, image_size: int) -> _Key | None:
    try:
        status = path.stat()
    except OSError:  # reading the file will say what is wrong
        return None
    return (path, status.st_size, status.st_mtime_ns, image_size)


MEMORY = PixelMemory(memory_bytes() // 16)  # this process's
