"""A shifted part: the inside of a region has moved, and the material around it is stretched."""

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

from adbench.data.synthetic.kinds import Canvas, Picture, Rng, register
from adbench.data.synthetic.shapes import blob


@register("shifted")
def shifted(canvas: Canvas, rng: Rng) -> Picture:
    """Move the inside of an irregular region by a fifth to a half of its size in one direction."""
    cover = blob(canvas, rng, ragged=0.15, softness=1.0, longest=1.5)
    hold = gaussian_filter(cover, 0.1 * canvas.size + 0.5)
    angle, far = rng.uniform(0, 2 * np.pi), rng.uniform(0.2, 0.5) * canvas.size
    rows, columns = np.mgrid[: canvas.shape[0], : canvas.shape[1]].astype(np.float32)
    places = rows + np.sin(angle) * far * hold, columns + np.cos(angle) * far * hold
    moved = [map_coordinates(canvas.image[..., k], places, order=1, mode="nearest") for k in range(3)]
    return np.stack(moved, axis=-1)
