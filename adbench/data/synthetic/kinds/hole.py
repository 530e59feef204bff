"""Holes and pits: material is gone, the inside lies in shadow, and one side of the edge catches the light."""

import numpy as np
from scipy.ndimage import gaussian_filter

from adbench.data.synthetic.kinds import Canvas, Picture, Rng, register
from adbench.data.synthetic.shapes import blend, blob, smoothed


@register("hole")
def hole(canvas: Canvas, rng: Rng) -> Picture:
    """Darken an irregular spot toward its middle, most on the side the light comes from."""
    cover = blob(canvas, rng, ragged=0.3, softness=0.9, longest=1.8)
    depth = gaussian_filter(cover, 0.2 * canvas.size + 0.5)
    down, right = np.gradient(depth)
    angle = rng.uniform(0, 2 * np.pi)
    slope = 0.25 * canvas.size * (np.sin(angle) * down + np.cos(angle) * right)
    level = float(canvas.image[canvas.foreground].mean())
    dark = np.clip(1.5 * canvas.contrast / max(level, 1), 0.55, 0.92) * (0.4 + 0.6 * depth)
    inside = smoothed(canvas.image, 0.3 * canvas.size) * (1 - dark[..., None]) + 0.3 * canvas.contrast * slope[..., None]
    lit = canvas.image + canvas.contrast * slope[..., None]
    return blend(np.asarray(lit), np.asarray(inside), cover)
