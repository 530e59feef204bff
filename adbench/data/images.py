"""Read images and masks as arrays, in every mode and bit depth; errors name the file in one line.

Large plain PNG files are decoded here, because Pillow takes longer; all others in `decoding`.
"""

import math
import struct
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import reduce
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from adbench.core.errors import DataError
from adbench.data.decoding import MOST_PIXELS, Raster, decode

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm", ".pnm"})
SMALLEST = 1 << 17  # pixels: smaller PNG files are left to Pillow, since loading the compiled code takes longer
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 6: 4}  # gray, RGB, RGBA, by color type
_HARMLESS = {b"pHYs", b"gAMA", b"sRGB", b"cHRM", b"tIME", b"bKGD", b"iCCP", b"sBIT", b"tEXt"}  # chunks that change no pixel
_MAY_ROTATE = (b"Raw profile type", b"XML:com")  # texts that may hold EXIF data, and so an orientation
_MOST_CLASSES = 16  # a mask of more gray levels is drawn with soft edges, not with a number for each class


Range = tuple[float, float]  # the values of black and white
White = float | Range  # a share of the file's own white, or the values of black and white as a user states them


class Decoded(NamedTuple):
    """An image, (H, W, 3) uint8, or a mask, (H, W) bool, and how its file was read.

    remark: "" or a key of `check.REMARKS`: what a user should know. deep: the lowest and the highest value of an image of more
    than 8 bits per channel, and the file's own white.
    """

    pixels: NDArray[Any]
    remark: str = ""
    deep: tuple[float, float, float] | None = None

    @property
    def brightest(self) -> float | None:
        """The highest value of an image of more than 8 bits per channel, as a share of white."""
        return self.deep[1] / self.deep[2] if self.deep else None


def read_image(path: Path, white: White = 1.0) -> NDArray[np.uint8]:
    """Return the image as (H, W, 3) uint8 RGB, rotated upright by its EXIF tag, without alpha.

    Values of more than 8 bits are scaled as `read_levels` does, and rounded. Raises DataError if it cannot be decoded.
    """
    levels = read_levels(path, white)
    return levels if levels.dtype == np.uint8 else np.floor(levels + np.float32(0.5)).astype(np.uint8)


def read_levels(path: Path, white: White = 1.0) -> NDArray[Any]:
    """Return the image as (H, W, 3) RGB levels from 0 to 255: uint8 of a file of 8 bits, else float32 with their fractions.

    white: the share of the file's own white that becomes 255, see `white_of`; what is brighter is 255, too. The white of 16 bits
    is 65535. Float values are read as [0, 1] if all lie in that range, else as [0, 255]. Of a stated range, what is darker is 0.
    Raises DataError as `read_image` does.
    """
    with _named(path, "image"):
        data = path.read_bytes()
        if (plain := plain_png(data)) is not None:
            return plain
        raster = _decoded(data)
        return _levels(raster, white) if raster.deep else _rgb(raster)


def white_of(brightest: Iterable[float | None]) -> float:
    """Return the share of white that the images of a category use, given the brightest value of each: 1, 1/2, 1/4, ..., 1/256.

    None: an image of 8 bits, which does not count. Pictures of 10 or 12 bits in files of 16 use 1/64 or 1/16 of them.
    """
    found = [value for value in brightest if value is not None]
    bits = max([8, *(round(65535 * value).bit_length() for value in found)]) if found else 16
    return float((1 << bits) - 1) / 65535


def read_mask(path: Path) -> NDArray[np.bool_]:
    """Return the mask as (H, W) bool, true where there is a defect, rotated upright by its EXIF tag.

    Up to 16 gray levels, or numbers below a quarter of white, are classes: any value above 0 counts. Otherwise, and after lossy
    compression, the edges are soft: values above half of the mask's maximum count. Of a color, the brightest channel counts.
    Colors count as far as they are opaque; where there is one color, alpha counts. Raises DataError if the file cannot be decoded
    or its meaning is not clear.
    """
    with _named(path, "mask"):
        return decode_mask(path, path.read_bytes()).pixels


def has_image_signature(path: Path) -> bool:
    """Return whether the file begins like a PNG, JPEG or WebP. A TIFF's beginning says nothing: raw photos have it, too."""
    try:
        with path.open("rb") as file:
            start = file.read(12)
    except OSError:  # it is passed over, and counted
        return False
    return start.startswith((_SIGNATURE, b"\xff\xd8\xff")) or (start[:4] == b"RIFF" and start[8:] == b"WEBP")


def decode_image(path: Path, data: bytes) -> Decoded:
    """Return the image of a file's content as `read_image` does, and how it was read."""
    with _named(path, "image"):
        if (plain := plain_png(data)) is not None:
            return Decoded(plain)
        raster = _decoded(data)
        if not raster.deep:
            return Decoded(_rgb(raster), raster.unread)
        pixels = np.floor(_levels(raster, (0, raster.white)) + np.float32(0.5)).astype(np.uint8)
        lowest, highest = float(raster.values.min()), float(raster.values.max())
        return Decoded(pixels, raster.unread, (lowest, highest, raster.white))


def decode_mask(path: Path, data: bytes) -> Decoded:
    """Return the mask of a file's content as `read_mask` does, and how it was read."""
    with _named(path, "mask"):
        raster = decode(data)
        if raster.unread:
            raise ValueError(f"it has further {raster.unread}, and only the first would count; save each mask as a file")
        colors = np.atleast_3d(raster.values)  # max(axis=2) would take 20 times as long
        values = reduce(np.maximum, (colors[..., channel] for channel in range(colors.shape[2])))
        if not values.min() >= 0:  # so that NaN fails too
            raise ValueError("some values are negative or no numbers")
        if raster.alpha is not None and raster.alpha.min() < raster.alpha.max():
            return _in_alpha(values, raster, raster.alpha)
        if raster.rounded_off and not values.any():
            raise ValueError("no value of its 16-bit colors is above 255, but class numbers may be below; save it as gray")
        if raster.alpha is not None and not raster.alpha.any() and values.any() and values.min() == values.max():
            raise ValueError("it has one color and is transparent everywhere; save it in black and white, without alpha")
        return _in_color(values, raster)


def _in_color(values: NDArray[Any], raster: Raster) -> Decoded:
    """Return the defects in a mask's values (H, W): those above 0, or above half of the maximum if the edges are soft."""
    highest, anything = float(values.max()), values > 0
    if (anything == (values == highest)).all() or not highest:  # two levels, the usual mask
        return Decoded(anything)
    if raster.lossy and highest < raster.white / 2:
        raise ValueError(f"values up to {highest:g} of {raster.white:g} may be noise of its compression; save it as PNG")
    bright = values.dtype.kind == "f" or highest >= raster.white / 4
    if raster.lossy or (bright and np.unique(values).size > _MOST_CLASSES):
        defective = values > highest / 2
        return Decoded(defective, "" if (defective == anything).all() else "soft")
    return Decoded(anything, "levels" if highest >= raster.white / 4 else "")


def _in_alpha(values: NDArray[Any], raster: Raster, alpha: NDArray[Any]) -> Decoded:
    """Return the defects in a mask of varying alpha: where alpha is high if there is one color, else where color is visible."""
    in_color, one_color = _in_color(values, raster), values.min() == values.max()
    found = _in_color((raster.white if one_color else values) * (alpha / float(alpha.max())), raster)
    if in_color.pixels.any() and not found.pixels.any():
        raise ValueError("its colors are where alpha hides them; save it in black and white, without alpha")
    return in_color if (found.pixels == in_color.pixels).all() else found._replace(remark="alpha")


def _rgb(raster: Raster) -> NDArray[np.uint8]:
    """Return a raster as (H, W, 3) uint8."""
    values = raster.values
    if values.dtype != np.uint8:
        values = _eight_bits(values, raster.white)
    return values if values.ndim == 3 else np.repeat(values[..., None], 3, axis=2)


def _decoded(data: bytes) -> Raster:
    """Return what `decode` does, but all bits of a PNG's 16-bit colors, which Pillow cuts to 8."""
    deep = deep_png(data)
    return decode(data) if deep is None else Raster(deep, white=65535, deep=True)


def _levels(raster: Raster, white: White) -> NDArray[np.float32]:
    lowest, highest = float(raster.values.min()), float(raster.values.max())
    if not math.isfinite(lowest + highest):
        raise ValueError("some values are no numbers")
    if isinstance(white, tuple):
        low, high = white
        levels = np.clip((raster.values - np.float64(low)) * (255 / (high - low)), 0, 255).astype(np.float32)
    elif problem := unfit(lowest, highest, raster.white):
        raise ValueError(problem)
    else:
        levels = np.minimum(raster.values.astype(np.float32) * np.float32(255 / (raster.white * white)), 255)
    return levels if levels.ndim == 3 else np.repeat(levels[..., None], 3, axis=2)


def unfit(lowest: float, highest: float, white: float) -> str:
    """Return why values from `lowest` to `highest` need a stated range, and how to state it; "" if they fit the file's own."""
    if lowest >= 0 and highest <= white:
        return ""
    return (f"values from {lowest:g} to {highest:g} do not fit 0 to {white:g}; state the values of black and white as "
            f"value_range, e.g. {min(lowest, 0):g},{highest:g}")  # fmt: skip


def _eight_bits(values: NDArray[Any], white: float) -> NDArray[np.uint8]:
    values, highest = values.astype(np.float64), max(white, 255)
    if not (values.min() >= 0 and values.max() <= highest):  # so that NaN fails too
        raise ValueError(f"values from {values.min():g} to {values.max():g} do not fit 0 to {highest:g}")
    return np.floor(values / (white / 255) + 0.5).astype(np.uint8)


@contextmanager
def _named(path: Path, kind: str) -> Iterator[None]:
    """Convert any error of a decoder to a DataError that names the file."""
    try:
        yield
    except DataError:
        raise
    except OSError as error:
        raise unreadable(path, kind, error.strerror or str(error)) from error
    except Exception as error:  # Pillow's readers raise SyntaxError, struct.error, IndexError, ... for damaged files
        raise unreadable(path, kind, str(error) or type(error).__name__) from error


def unreadable(path: Path, kind: str, reason: str) -> DataError:
    """Return the one-line error for a file that cannot be decoded."""
    remedy = "" if "; " in reason else "; replace or remove it"  # a reason may have its own
    return DataError(f"cannot read {kind} {path}: {' '.join(reason.split())}{remedy}")


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


def deep_png(data: bytes) -> NDArray[np.uint16] | None:
    """Return the (H, W, 3) uint16 RGB pixels of a PNG file with 16-bit colors, plain otherwise; None if Pillow must read it."""
    if data[24:26] not in (b"\x10\x02", b"\x10\x06") or (found := _chunks(data)) is None:
        return None
    width, height, _, color, compression, filters, interlace = struct.unpack(">IIBBBBB", found[0])
    if compression or filters or interlace or width * height > MOST_PIXELS or min(width, height) < 2:
        return None
    lines = _lines(height, width, 2 * _CHANNELS[color], found[1])
    return None if lines is None else lines.view(">u2").reshape(height, width, -1)[..., :3].astype(np.uint16)


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


def _lines(height: int, width: int, step: int, stream: bytes) -> NDArray[np.uint8] | None:
    """Return the unfiltered lines (height, width step) of `step` bytes per pixel, None if the stream is damaged."""
    from isal import isal_zlib

    from adbench.data.kernels import unfilter  # slow to import

    size = height * (width * step + 1)
    inflate = isal_zlib.decompressobj()
    try:
        filtered = inflate.decompress(stream, size + 1)
    except isal_zlib.error:  # type: ignore[misc]  # its stub calls it a function
        return None
    if len(filtered) != size or not inflate.eof:
        return None
    lines = np.empty((height, width * step), np.uint8)
    return lines if unfilter(np.frombuffer(filtered, np.uint8), lines, step) else None


def _pixels(width: int, height: int, channels: int, stream: bytes) -> NDArray[np.uint8] | None:
    lines = _lines(height, width, channels, stream)
    if lines is None:
        return None
    pixels = lines.reshape(height, width, channels)
    if channels == 3:
        return pixels
    return np.repeat(pixels, 3, axis=2) if channels == 1 else np.ascontiguousarray(pixels[..., :3])
