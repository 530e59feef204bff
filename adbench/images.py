"""Images and masks as arrays: every mode and depth read right, and every file that cannot be read named in one line."""

import io
import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from adbench.errors import DataError
from adbench.png import plain_png

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
_FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")  # no others: some of Pillow's readers start other programs
_MOST_PIXELS = 1 << 27  # 134 million: a file that claims more is taken for a decompression bomb

logging.getLogger("PIL").addHandler(logging.NullHandler())  # or Python itself prints Pillow's errors on stderr


def read_image(path: Path, data: bytes | None = None) -> NDArray[np.uint8]:
    """Return the image as (H, W, 3) uint8 RGB, turned upright by its EXIF tag, alpha dropped.

    16-bit values are divided by 257 and rounded; float values are taken as [0, 1] if they lie there, else as [0, 255].
    `data`: the file's content, where it has been read already. Raises DataError if it cannot be decoded.
    """
    with _named(path, "image"):
        data = path.read_bytes() if data is None else data
        plain = plain_png(data, _MOST_PIXELS)
        return _rgb(_decoded(path, data)) if plain is None else plain


def read_mask(path: Path, data: bytes | None = None) -> NDArray[np.bool_]:
    """Return the mask as (H, W) bool, true where any colour value is above 0, turned upright by its EXIF tag.

    Raises DataError if it cannot be decoded.
    """
    with _named(path, "mask"):
        image = _decoded(path, data)
        if image.mode.startswith(("I", "F")):  # before scaling: a class number such as 1 would vanish
            values = np.asarray(image)
            if np.isnan(values).any():
                raise ValueError("some values are no numbers")
            return values > 0
        return np.asarray(_rgb(image).any(axis=2))


def _decoded(path: Path, data: bytes | None) -> Image.Image:
    """Return the fully decoded, upright image."""
    data = path.read_bytes() if data is None else data
    if not data:
        raise ValueError("the file is empty")
    with _quiet, Image.open(io.BytesIO(data), formats=_FORMATS) as image:
        width, height = image.size
        if width * height > _MOST_PIXELS:
            raise ValueError(f"{width} x {height} pixels are more than {_MOST_PIXELS >> 20} million")
        if min(width, height) < 2:
            raise ValueError(f"{width} x {height} pixels are no picture")
        image.load()
        return ImageOps.exif_transpose(image)


def _rgb(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode.startswith("I"):
        return _gray(_scaled(np.asarray(image), 65535, 257))
    if image.mode == "F":
        values = np.asarray(image)
        return _gray(_scaled(values, 255, 1 / 255 if values.max() <= 1 else 1))
    with _quiet:
        if "transparency" in image.info and image.mode == "P":
            image = image.convert("RGBA")  # or Pillow would blend the transparent colour
        return np.array(image.convert("RGB"))  # a copy: writable


def _scaled(values: NDArray[Any], highest: int, divisor: float) -> NDArray[np.uint8]:
    values = values.astype(np.float64)
    if not (values.min() >= 0 and values.max() <= highest):  # so that NaN fails too
        raise ValueError(f"values from {values.min():g} to {values.max():g} do not fit 0 to {highest}")
    return np.asarray(np.floor(values / divisor + 0.5), dtype=np.uint8)


def _gray(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.repeat(values[..., None], 3, axis=2)


@contextmanager
def _named(path: Path, kind: str) -> Iterator[None]:
    """Turn whatever a decoder raises into one DataError that names the file."""
    try:
        yield
    except UnidentifiedImageError as error:
        raise unreadable(path, kind, "no PNG, JPEG, BMP, TIFF or WEBP content") from error
    except OSError as error:
        raise unreadable(path, kind, error.strerror or str(error)) from error
    except Exception as error:  # Pillow's readers raise SyntaxError, struct.error, IndexError, ... for damaged files
        raise unreadable(path, kind, str(error) or type(error).__name__) from error


def unreadable(path: Path, kind: str, reason: str) -> DataError:
    """Return the one-line error for a file that cannot be decoded."""
    return DataError(f"cannot read {kind} {path}: {' '.join(reason.split())}; replace or remove it")


class _Quiet:
    """Silence Pillow's warnings while at least one thread is inside: `catch_warnings` alone is not safe in threads."""

    def __init__(self) -> None:
        self._lock, self._inside = threading.Lock(), 0
        self._caught = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._caught = warnings.catch_warnings()
                self._caught.__enter__()
                warnings.simplefilter("ignore")

    def __exit__(self, *exception: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._caught.__exit__(None, None, None)


_quiet = _Quiet()
