"""Kinds of synthetic defects: one file per kind or group of kinds, found by import.

A kind paints one defect on a `Canvas` and returns the picture. It paints around `canvas.center`, about `canvas.size` large,
with soft edges, and keeps the shading and grain of the material. It may paint beyond the foreground and out of range: both
are cut off. The mask is measured from the picture (see `generation.visible_change`), and an invisible defect is tried again
at another place.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adbench.core.registry import Registry

REVISION = 5  # increase it with every change that alters the pixels of a seed
Picture = NDArray[np.float32]  # (H, W, 3), gray levels from 0 to 255
Field = NDArray[np.float32]  # (H, W)
Rng = np.random.Generator
Texture = Callable[[Rng, tuple[int, int]], Picture]


@dataclass(frozen=True)
class Canvas:
    """The window of a good image that a kind paints on.

    image: (H, W, 3), gray levels 0 to 255; read only.
    foreground: (H, W) bool, where the part is; true everywhere for a texture.
    center: (row, column) of a pixel of the foreground.
    size: side in px of the square that has the wanted area of the defect.
    contrast: wanted difference from the covered material, in gray levels.
    texture: (rng, (h, w)) -> a piece (h, w, 3) of a good image of the category.
    """

    image: Picture
    foreground: NDArray[np.bool_]
    center: tuple[int, int]
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
