"""Decode the content of an image file to the values stored in it: by Pillow, or by tifffile where Pillow refuses a TIFF file."""

from __future__ import annotations

import io
import logging
import threading
import warnings
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from adbench.core.environment import memory_bytes

if TYPE_CHECKING:
    import tifffile

FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "PPM")  # no others: some of Pillow's readers start other programs
_BYTES_PER_PIXEL = 24  # of memory, while an image of three colors is decoded
MOST_PIXELS = max(1 << 27, memory_bytes() // _BYTES_PER_PIXEL)  # what the memory of this machine takes, at least 134 million
_SUSPECT, _DENSEST = 1 << 27, 500  # an image of more pixels must not have more of them in a byte of its file: it is a bomb
_TIFF_HEADS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_BITS_PER_SAMPLE, _SUBFILE_TYPE, _REDUCED = 258, 254, 1  # tags of TIFF files; a reduced page is a preview
_ALPHA_BANDS = ("LA", "PA", "RGBA", "RGBa")

Image.MAX_IMAGE_PIXELS = None  # `_check_size` refuses what is too large

for name in ("PIL", "tifffile"):
    logging.getLogger(name).addHandler(logging.NullHandler())  # or Python itself prints their errors on stderr


@dataclass(frozen=True)
class Raster:
    """The first picture of a file, rotated upright by its EXIF tag.

    values: (H, W), or (H, W, 3) RGB. alpha: (H, W) if the file has it. white: the value of white. deep: more than 8 bits per
    channel. lossy: compression has changed the values. unread: further pages or channels that are not in `values`, in words.
    """

    values: NDArray[Any]
    alpha: NDArray[Any] | None = None
    white: float = 255
    deep: bool = False
    lossy: bool = False
    unread: str = ""

    @property
    def rounded_off(self) -> bool:
        """Whether Pillow has cut 16-bit colors to 8 bits."""
        return self.deep and self.white == 255 and self.values.dtype == np.uint8


def decode(data: bytes) -> Raster:
    """Return what is stored in a file of this content; raise errors of many kinds, among them ValueError, if it is damaged."""
    if not data:
        raise ValueError("the file is empty")
    try:
        with _quiet, Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check_size(*image.size, len(data))
            image.load()
            upright, deep, lossy = ImageOps.exif_transpose(image), _is_deep(image, data), _is_lossy(image, data)
            unread = _unread(image)
            values, alpha = _values(upright)
    except UnidentifiedImageError:
        if not data.startswith(_TIFF_HEADS):
            raise ValueError("no PNG, JPEG, BMP, TIFF, WEBP or PPM content") from None
        return _decode_tiff(data)
    if deep and values.dtype == np.uint8 and data.startswith(_TIFF_HEADS):  # Pillow has cut its colors to 8 bits
        return _decode_tiff(data)
    return Raster(values, alpha, _white(values), deep, lossy, unread)


def _check_size(width: int, height: int, size: int, channels: int = 1) -> None:
    """Raise ValueError for a picture that is none, that the memory does not take, or that a file of `size` bytes cannot hold."""
    what, pixels = f"{width} x {height} pixels", width * height * channels
    what += f" of {channels} channels" if channels > 1 else ""
    if pixels > MOST_PIXELS:
        raise ValueError(
            f"{what} are more than the {MOST_PIXELS // 10**6} million that this machine's memory takes; cut the image"
        )
    if pixels > max(_SUSPECT, _DENSEST * size):
        raise ValueError(f"{what} in a file of {size:,} bytes are a decompression bomb; remove it")
    if min(width, height) < 2:
        raise ValueError(f"{width} x {height} pixels are no picture")


def _values(image: Image.Image) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Return the values of a Pillow image, gray or RGB, and its alpha."""
    if image.mode.startswith(("I", "F")):
        return np.asarray(image), None
    if image.mode in ("1", "L"):
        return np.array(image.convert("L")), None
    if image.mode == "La":
        image = image.convert("LA")
    if "transparency" in image.info and image.mode == "P":
        image = image.convert("RGBA")  # or Pillow would blend the transparent color
    alpha = np.array(image.getchannel(image.getbands()[-1])) if image.mode in _ALPHA_BANDS else None
    return np.array(image.convert("RGB")), alpha


def _white(values: NDArray[Any]) -> float:
    """Return the value of white: floats are in [0, 1] if all are, else in [0, 255]; integers of more than 8 bits have 16."""
    if values.dtype.kind == "f":
        return 1 if values.max() <= 1 else 255
    return 255 if values.dtype == np.uint8 else 65535


def _is_deep(image: Image.Image, data: bytes) -> bool:
    if image.format == "TIFF":
        return bool(max(image.tag_v2.get(_BITS_PER_SAMPLE, (1,))) > 8)  # type: ignore[attr-defined]
    return image.format == "PNG" and data[24] > 8  # the depth in its header


def _is_lossy(image: Image.Image, data: bytes) -> bool:
    if image.format == "WEBP":
        return b"VP8 " in data
    return image.format in ("JPEG", "MPO") or image.info.get("compression") == "jpeg"


def _unread(image: Image.Image) -> str:
    """Return what the file holds beside the picture: "pages", "frames", "channels" or nothing."""
    if image.format == "TIFF":
        if len(image.tag_v2.get(_BITS_PER_SAMPLE, ())) > len(image.getbands()):  # type: ignore[attr-defined]
            return "channels"
        return "pages" if _has_second_page(image) else ""
    # a camera's JPEG (MPO) has a preview behind the picture
    return "frames" if getattr(image, "is_animated", False) and image.format != "MPO" else ""


def _has_second_page(image: Any) -> bool:
    if image.is_animated:
        try:
            for page in count(1):
                image.seek(page)
                if not image.tag_v2.get(_SUBFILE_TYPE, 0) & _REDUCED:
                    return True
        except EOFError:
            return False
        except Exception:  # a page that Pillow cannot read is a page, too
            return True
    return False


def _decode_tiff(data: bytes) -> Raster:
    """Return the first picture of a TIFF file that Pillow refuses: gray or RGB of any integers or floats."""
    import tifffile  # slow to import

    with _quiet, tifffile.TiffFile(io.BytesIO(data)) as file:
        page: Any = file.pages[0]
        _check_size(page.imagewidth, page.imagelength, len(data), page.samplesperpixel)
        samples, kind = page.samplesperpixel, f"a TIFF of {page.samplesperpixel} x {page.dtype}"
        colors, extra = _colors(page, kind), page.extrasamples
        if page.dtype is None or page.dtype.kind not in "buif":
            raise ValueError(f"{kind} per pixel has no gray levels; save it as integers or floats")
        if page.tags.valueof("Orientation", default=1) != 1:
            raise ValueError(f"{kind} per pixel is read upright only, not by its orientation tag; save it upright")
        values, several = page.asarray(), len(file.pages) > 1
    if samples > 1 and page.planarconfig == tifffile.PLANARCONFIG.SEPARATE:
        values = np.moveaxis(values, 0, -1)
    values = values.reshape(page.imagelength, page.imagewidth, samples)
    alpha = values[..., colors] if extra and extra[0] in (1, 2) else None
    unread = "channels" if samples > colors + (alpha is not None) else "pages" if several else ""
    values = values[..., 0] if colors == 1 else values[..., :3]
    values = values.astype(np.float32) if values.dtype.kind == "f" else values
    return Raster(values, alpha, _white(values), page.bitspersample > 8, unread=unread)


def _colors(page: tifffile.TiffPage, kind: str) -> int:
    """Return the number of colors of a page, 1 or 3; raise ValueError if it is neither gray nor RGB."""
    if page.photometric == 2 and page.samplesperpixel >= 3:
        return 3
    if page.photometric == 1 and page.samplesperpixel == 1 + (page.extrasamples[:1] in ((1,), (2,))):
        return 1
    name = getattr(page.photometric, "name", page.photometric)
    raise ValueError(f"{kind} per pixel ({name}) is neither gray nor RGB; save it as one of them")


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
