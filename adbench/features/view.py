"""How an image file becomes the inputs of a network. Importing this module loads no torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from adbench.backbones.families import Size
from adbench.core.errors import UsageError
from adbench.types import ImageSize, Job


@dataclass(frozen=True)
class View:
    """How an image file becomes network inputs; part of the cache key, and the same fields as in a Job.

    image_size: the side of a square. tile: side of the tiles in pixels, 0 = the image is one input. overlap: the share of a tile
    that its neighbor also covers. rotations: number of copies of each training image, turned by 360 degrees / rotations each,
    of which the first is the image itself; 0 = the image alone. crop: side of the middle
    square that is resized, as a share of the image's shorter side; 1 = the whole image, whatever its shape. Resizing the shorter
    side to 256 px and cropping the middle 224 px is crop 0.875 with image_size 224.
    """

    image_size: ImageSize = 256
    tile: int = Job.tile
    overlap: float = Job.overlap
    rotations: int = Job.rotations
    crop: float = Job.crop

    def __post_init__(self) -> None:
        if not 0 < self.crop <= 1:
            raise UsageError(f"crop {self.crop:g} must be above 0 and at most 1, e.g. 0.875")

    @staticmethod
    def of(job: Job) -> View:
        """Return the view of a job."""
        return View(**{field.name: getattr(job, field.name) for field in fields(View)})

    @property
    def size(self) -> Size:
        """(height, width) of the resized image in pixels."""
        side = int(self.image_size)
        return side, side

    @property
    def copies(self) -> int:
        """How many copies of a training image the network sees."""
        return max(1, self.rotations)

    def of_split(self, split: str) -> View:
        """Return the view of the images of a split: only training images are turned."""
        return self if split == "train" else replace(self, rotations=Job.rotations)

    def record(self) -> dict[str, Any]:
        """Return the fields by name; of those added after version 0.1.0, only the ones that are not at their default."""
        values = asdict(self)
        return {f.name: values[f.name] for f in fields(self) if f.name == "image_size" or values[f.name] != f.default}

    def __str__(self) -> str:
        return f"{self.image_size} px{f', {self.rotations} rotations' if self.rotations else ''}"
