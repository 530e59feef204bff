"""Read images and masks as arrays, in every mode and bit depth; errors name the file in one line.

Large plain PNG files are decoded here, because Pillow takes longer; all others by Pillow.
"""

import io
import logging
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from adbench.core.errors import DataError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm", ".pnm"})
_FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "PPM")  # no others: some of Pillow's readers start other programs
MOST_PIXELS = 1 << 27  # 134 million: a file that claims more may be a decompression bomb
SMALLEST = 1 << 17  # pixels: smaller PNG files are left to Pillow, since loading the compiled code takes longer
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 6: 4}  # gray, RGB, RGBA, by color type
_HARMLESS = {b"pHYs", b"gAMA", b"sRGB", b"cHRM", b"tIME", b"bKGD", b"iCCP", b"sBIT", b"tEXt"}  # chunks that change no pixel
_MAY_ROTATE = (b"Raw profile type", b"XML:com")  # texts that may hold EXIF data, and so an orientation

logging.getLogger("PIL").addHandler(logging.NullHandler())  # or Python itself prints Pillow's errors on stderr


def read_image(path: Path, data: bytes | None = None) -> NDArray[np.uint8]:
    """Return the image as (H, W, 3) uint8 RGB, rotated upright by its EXIF tag, without alpha.

    16-bit values are divided by 257 and rounded. Float values are read as [0, 1] if all lie in that range, else as [0, 255].
    `data`: the file's content, if it has been read already. Raises DataError if it cannot be decoded.
    """
    with _named(path, "image"):
        data = path.read_bytes() if data is None else data
        plain = plain_png(data)
        return _rgb(_decoded(path, data)) if plain is None else plain


def read_mask(path: Path, data: bytes | None = None) -> NDArray[np.bool_]:
    """Return the mask as (H, W) bool, true where any color value is above 0, rotated upright by its EXIF tag.

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


def has_image_signature(path: Path) -> bool:
    """Return whether the file begins like a PNG, JPEG or WebP. A TIFF's beginning says nothing: raw photos have it, too."""
    try:
        with path.open("rb") as file:
            start = file.read(12)
    except OSError:  # it is passed over, and counted
        return False
    return start.startswith((_SIGNATURE, b"\xff\xd8\xff")) or (start[:4] == b"RIFF" and start[8:] == b"WEBP")


def _decoded(path: Path, data: bytes | None) -> Image.Image:
    """Return the fully decoded, upright image."""
    data = path.read_bytes() if data is None else data
    if not data:
        raise ValueError("the file is empty")
    with _quiet, Image.open(io.BytesIO(data), formats=_FORMATS) as image:
        width, height = image.size
        if width * height > MOST_PIXELS:
            raise ValueError(f"{width} x {height} pixels are more than {MOST_PIXELS >> 20} million")
        if min(width, height) < 2:
            raise ValueError(f"{width} x {height} pixels are no picture")
        image.load()
        return ImageOps.exif_transpose(image)


def _rgb(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode.startswith("I"):
        return _gray(np.asarray(image), 65535, 257)
    if image.mode == "F":
        values = np.asarray(image)
        return _gray(values, 255, 1 / 255 if values.max() <= 1 else 1)
    with _quiet:
        if "transparency" in image.info and image.mode == "P":
            image = image.convert("RGBA")  # or Pillow would blend the transparent color
        return np.array(image.convert("RGB"))  # a copy: writable


def _gray(values: NDArray[Any], highest: int, divisor: float) -> NDArray[np.uint8]:
    values = values.astype(np.float64)
    if not (values.min() >= 0 and values.max() <= highest):  # so that NaN fails too
        raise ValueError(f"values from {values.min():g} to {values.max():g} do not fit 0 to {highest}")
    return np.repeat(np.floor(values / divisor + 0.5).astype(np.uint8)[..., None], 3, axis=2)


@contextmanager
def _named(path: Path, kind: str) -> Iterator[None]:
    """Convert any error of a decoder to a DataError that names the file."""
    try:
        yield
    except UnidentifiedImageError as error:
        raise unreadable(path, kind, "no PNG, JPEG, BMP, TIFF, WEBP or PPM content") from error
    except OSError as error:
        raise unreadable(path, kind, error.strerror or str(error)) from error
    except Exception as error:  # Pillow's readers raise SyntaxError, struct.error, IndexError, ... for damaged files
        raise unreadable(path, kind, str(error) or type(error).__name__) from error


def unreadable(path: Path, kind: str, reason: str) -> DataError:
    """Return the one-line error for a file that cannot be decoded."""
    return DataError(f"cannot read {kind} {path}: {' '.join(reason.split())}; replace or remove it")


class _Quiet:
    """Silence Pillow's warnings while at least one thread is inside; `catch_warnings` alone is not thread-safe."""

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


def plain_png(data: bytes) -> NDArray[np.uint8] | None:
    """Return the (H, W, 3) uint8 RGB pixels of a plain PNG file's content without alpha, or None if Pillow must read it.

    Plain: undamaged, 8 bits per channel, not interlaced, without a palette, a transparent color or a text that might rotate
    the image, with at least SMALLEST and at most MOST_PIXELS pixels.
    """
    found = _chunks(data)
    if found is None:
        return None
    header, stream = found
    width, height, depth, color, compression, filters, interlace = struct.unpack(">IIBBBBB", header)
    channels = _CHANNELS.get(color, 0)
    plain = channels and depth == 8 and not (compression or filters or interlace)
    if not plain or not SMALLEST <= width * height <= MOST_PIXELS or min(width, height) < 2:
        return None
    return _pixels(width, height, channels, stream)


def _chunks(data: bytes) -> tuple[bytes, bytes] | None:
    """Return the header and the compressed pixels; None if a chunk is damaged or may change the meaning of the pixels."""
    if not data.startswith(_SIGNATURE):
        return None
    header, parts, offset, view = None, list[memoryview](), len(_SIGNATURE), memoryview(data)
    while offset + 12 <= len(data):
        size, name = struct.unpack_from(">I4s", data, offset)
        content, offset = view[offset + 8 : offset + 8 + size], offset + 12 + size
        if offset > len(data) or zlib.crc32(content, zlib.crc32(name)) != struct.unpack_from(">I", data, offset - 4)[0]:
            return None
        if header is None:
            if name != b"IHDR" or size != 13:
                return None
            header = bytes(content)
        elif name == b"IDAT":
            parts.append(content)
        elif name == b"IEND":
            return header, b"".join(parts)
        elif name not in _HARMLESS or bytes(content[:32]).startswith(_MAY_ROTATE):
            return None
    return None


def _pixels(width: int, height: int, channels: int, stream: bytes) -> NDArray[np.uint8] | None:
    from isal import isal_zlib

    from adbench.data.kernels import unfilter  # slow to import

    size = height * (width * channels + 1)
    inflate = isal_zlib.decompressobj()
    try:
        filtered = inflate.decompress(stream, size + 1)
    except isal_zlib.error:  # type: ignore[misc]  # its stub calls it a function
        return None
    if len(filtered) != size or not inflate.eof:
        return None
    lines = np.empty((height, width * channels), np.uint8)
    if not unfilter(np.frombuffer(filtered, np.uint8), lines, channels):
        return None
    pixels = lines.reshape(height, width, channels)
    if channels == 3:
        return pixels
    return np.repeat(pixels, 3, axis=2) if channels == 1 else np.ascontiguousarray(pixels[..., :3])
