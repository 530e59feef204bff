"""Synthetic defects on images of good parts; one file per kind, found by import.

A kind paints one defect on a `Canvas` and returns the picture, nothing else: where it has changed visibly is measured
afterwards, from the picture (see `visible`), so that every mask is exact. It may paint beyond the foreground and out of
range, for both are cut off; and it may fail to show anything, for then it is asked again, elsewhere. It paints around
`canvas.centre`, about `canvas.size` large, with soft edges, and keeps the shading and grain of what it covers.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adbench.core.registry import Registry

REVISION = 5  # grows with every change that gives a seed other pixels
Picture = NDArray[np.float32]  # (H, W, 3), grey levels from 0 to 255
Field = NDArray[np.float32]  # (H, W)
Rng = np.random.Generator
Texture = Callable[[Rng, tuple[int, int]], Picture]


@dataclass(frozen=True)
class Canvas:
    """The window of a good image that a kind paints on.

    image: (H, W, 3), grey levels 0 to 255; not to be written to.
    foreground: (H, W) bool, where the part is; true everywhere for a texture.
    centre: (row, column) of a pixel of the foreground.
    size: side in px of the square whose area the defect shall have.
    contrast: grey levels by which it shall differ from what it covers.
    texture: (rng, (h, w)) -> a piece (h, w, 3) of the part in another good image of the category.
    """

    image: Picture
    foreground: NDArray[np.bool_]
    centre: tuple[int, int]
    size: float
    contrast: float
    texture: Texture

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W)."""
        return self.foreground.shape[0], self.foreground.shape[1]

    @property
    def area(self) -> float:
        """Wanted area of the defect, in px."""
        return self.size**2


Kind = Callable[[Canvas, Rng], Picture]
KINDS: Registry[Kind] = Registry("defect", __name__)
register = KINDS.register
