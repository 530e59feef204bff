"""How an image file becomes the inputs of a network. Importing this module loads no torch."""

from __future__ import annotations

import math
import re
from dataclasses import KW_ONLY, asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from adbench.backbones.families import Size
from adbench.core.errors import UsageError
from adbench.types import ImageSize, Job, input_side, view_words

if TYPE_CHECKING:
    from adbench.data.images import Range, White

LEAST, MOST = 32, 4096  # px of a square's side, and of a tile's
_LONGEST = 1 << 15  # px of a side of another size
SIZES = f"pixels from {LEAST} to {MOST}, height x width such as 512x1240, 'native', or a part of it such as native/2"


@dataclass(frozen=True)
class View:
    """How an image file becomes network inputs; part of the cache key, and the same fields as in a Job.

    image_size: see `parse_image_size`. tile: side of the tiles in pixels, 0 = the image is one input. overlap: the share of a
    tile that its neighbor also covers, at least. rotations: number of copies of each training image, turned by 360 / rotations
    degrees each, the first one not; 0 = the image alone. crop: side of the middle square that is resized, as a share of the
    image's shorter side; 1 = the whole image, whatever its shape. Resizing the shorter side to 256 px and cropping the middle
    224 px is crop 0.875 with image_size 224. shift: of the test
    images (`adbench.data.shifts`), empty for none. value_range: the values of black and white in images of more than 8 bits;
    None = as `white` says.
    """

    image_size: ImageSize = 256
    tile: int = Job.tile
    overlap: float = Job.overlap
    rotations: int = Job.rotations
    _: KW_ONLY
    white: float = 1.0  # of the images, not of a job: see `data.images.white_of`
    crop: float = Job.crop
    value_range: Range | None = Job.value_range
    shift: str = Job.shift

    def __post_init__(self) -> None:
        if not 0 < self.crop <= 1:
            raise UsageError(f"crop {self.crop:g} must be above 0 and at most 1, e.g. 0.875")
        if self.value_range and not (all(map(math.isfinite, self.value_range)) and self.value_range[0] < self.value_range[1]):
            low, high = self.value_range
            raise UsageError(
                f"value_range {low:g}, {high:g}: give the values of black and of white, the lower one first, e.g. 0, 4095"
            )

    @staticmethod
    def of(job: Job) -> View:
        """Return the view of a job."""
        return View(**{name: getattr(job, name) for name in VIEW_FIELDS})

    @property
    def unshifted(self) -> View:
        """The view of images as they are: that of training and held-out images, and of every timing."""
        return replace(self, shift="") if self.shift else self

    @property
    def levels(self) -> White:
        """What `data.images.read_levels` takes as white."""
        return self.value_range or self.white

    @property
    def is_native(self) -> bool:
        """Whether the size depends on the images."""
        return isinstance(self.image_size, str) and self.image_size.startswith("native")

    @property
    def size(self) -> Size:
        """(height, width) of the resized image in pixels; of a native view only behind `at`."""
        height, _, width = str(self.image_size).partition("x")
        return int(height), int(width or height)

    def at(self, native: Size) -> View:
        """Return the view with its size in pixels, for images of a `native` (height, width); no tile where the image is one.

        Raise UsageError if that is too small, or smaller than the tile.
        """
        view = self
        if self.is_native:
            native = native if self.crop == 1 else (round(self.crop * min(native)),) * 2
            scale = float(str(self.image_size).partition("/")[2] or 1)
            height, width = (round(side / scale) for side in native)
            if min(height, width) < LEAST:
                raise UsageError(f"image size {self.image_size} is {height} x {width} px; take at least {LEAST} px a side")
            view = replace(self, image_size=_canonical(height, width))
        if view.tile > max(view.size):
            raise UsageError(
                f"tile {view.tile} is larger than the image, {_words(view.size)} px; take a smaller tile, or a larger image size"
            )
        return view.simplest()

    def simplest(self) -> View:
        """Return the same view in its only form: a tile as large as the image is none, and only tiles overlap."""
        whole = not self.tile or (not self.is_native and self.tile == max(self.size))
        return replace(self, tile=Job.tile, overlap=Job.overlap) if whole else self

    def job_fields(self) -> dict[str, Any]:
        """Return the fields that a Job has too, by name."""
        return {name: getattr(self, name) for name in VIEW_FIELDS}

    @property
    def copies(self) -> int:
        """How many copies of a training image the network sees."""
        return max(1, self.rotations)

    def of_split(self, split: str) -> View:
        """Return the view of the images of a split: only training images are turned, only test images are shifted."""
        turned = self if split == "train" else replace(self, rotations=Job.rotations)
        return turned if split == "test" else turned.unshifted

    def record(self) -> dict[str, Any]:
        """Return the fields by name; of those added after version 0.1.0, only the ones that are not at their default."""
        values = asdict(self)
        return {f.name: values[f.name] for f in fields(self) if f.name == "image_size" or values[f.name] != f.default}

    @property
    def side(self) -> float:
        """The side in pixels of the input that a detector's smoothing is given for."""
        return input_side(self.image_size, self.tile)

    def __str__(self) -> str:
        return view_words(self.image_size, self.tile, self.overlap) + f", {self.rotations} rotations" * bool(self.rotations)


VIEW_FIELDS = tuple(field.name for field in fields(View) if field.name != "white")  # that a Job has too


def parse_image_size(text: str | int) -> ImageSize:
    """Return the size that a user wrote, in its only form; raise ValueError if it is none.

    N and NxN become the number, the side of a square. HxW and native stay, native/K becomes the shortest number, K at least 1.
    """
    words = str(text).strip().lower().replace(" ", "")
    if native := re.fullmatch(r"native(?:/(\d{1,3}(?:\.\d{1,3})?))?", words):
        scale = float(native[1] or 1)
        if scale < 1:
            raise ValueError(words)
        return "native" if scale == 1 else f"native/{scale:g}"
    found = re.fullmatch(r"(\d{1,5})(?:x(\d{1,5}))?", words)
    if not found:
        raise ValueError(words)
    height, width = int(found[1]), int(found[2] or found[1])
    if min(height, width) < LEAST or max(height, width) > (MOST if height == width else _LONGEST):
        raise ValueError(words)
    return _canonical(height, width)


def _canonical(height: int, width: int) -> ImageSize:
    return height if height == width else f"{height}x{width}"


def _words(size: Size) -> str:
    return f"{size[0]} x {size[1]}"
