"""The good images that defects are painted on, with what the painters need to know of them. It registers nothing."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from adbench.data.images import read_image
from adbench.data.synthetic.foreground import Foreground
from adbench.data.synthetic.kinds import Picture, Rng
from adbench.types import Sample

_KEPT = 8  # images in memory


@dataclass(frozen=True)
class Part:
    """A good image (H, W, 3) and where the part is in it (H, W)."""

    image: NDArray[np.uint8]
    foreground: NDArray[np.bool_]

    @cached_property
    def grey(self) -> bool:
        """Whether the image has no colour, so that a defect must have none."""
        return int(np.ptp(self.image[::3, ::3], axis=2).max()) <= 2

    def place(self, rng: Rng) -> tuple[int, int]:
        """Return a random (row, column) of the foreground."""
        flat = np.flatnonzero(self.foreground)
        row, column = divmod(int(flat[rng.integers(len(flat))]), self.foreground.shape[1])
        return row, column


@dataclass
class Parts:
    """The good images of a category, read when they are needed; the last few are kept."""

    samples: Sequence[Sample]
    foreground: Foreground
    _kept: OrderedDict[int, Part] = field(default_factory=OrderedDict)

    def __getitem__(self, index: int) -> Part:
        if index not in self._kept:
            image = read_image(self.samples[index].path)
            self._kept[index] = Part(image, self.foreground.of(image))
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(index)
        return self._kept[index]

    def texture(self, rng: Rng, shape: tuple[int, int]) -> Picture:
        """Return a piece of a random image around a random place of its part; mirrored where the image ends."""
        part = self[int(rng.integers(len(self.samples)))]
        rows, columns = (
            _mirrored(np.arange(length) + middle - length // 2, limit)
            for length, middle, limit in zip(shape, part.place(rng), part.foreground.shape, strict=True)
        )
        return part.image[rows[:, None], columns].astype(np.float32)


def _mirrored(index: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """Return indices below `length` for indices that run over its ends, as in a mirror."""
    folded = np.mod(index, 2 * length)
    return np.asarray(np.minimum(folded, 2 * length - 1 - folded))
