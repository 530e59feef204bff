"""How an image file becomes the inputs of a network. Importing this module loads no torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from adbench.backbones.families import Size
from adbench.types import ImageSize, Job


@dataclass(frozen=True)
class View:
    """How an image file becomes network inputs; part of the cache key, and the same fields as in a Job.

    image_size: the side of a square. tile: side of the tiles in pixels, 0 = the image is one input. overlap: the share of a tile
    that its neighbor also covers. rotations: number of turned copies of each training image. shift: of the test images
    (`adbench.data.shifts`), empty for none.
    """

    image_size: ImageSize = 256
    tile: int = Job.tile
    overlap: float = Job.overlap
    rotations: int = Job.rotations
    shift: str = Job.shift

    @staticmethod
    def of(job: Job) -> View:
        """Return the view of a job."""
        return View(**{field.name: getattr(job, field.name) for field in fields(View)})

    @property
    def unshifted(self) -> View:
        """The view of images as they are: that of training and held-out images, and of every timing."""
        return replace(self, shift="") if self.shift else self

    @property
    def size(self) -> Size:
        """(height, width) of the resized image in pixels."""
        side = int(self.image_size)
        return side, side

    def record(self) -> dict[str, Any]:
        """Return the fields by name; of those added after version 0.1.0, only the ones that are not at their default."""
        values = asdict(self)
        return {f.name: values[f.name] for f in fields(self) if f.name == "image_size" or values[f.name] != f.default}

    def __str__(self) -> str:
        return f"{self.image_size} px{f', {self.shift}' if self.shift else ''}"
