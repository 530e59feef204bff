"""Blur: the surface is worn, polished or smeared in one direction, and its texture is gone."""

import numpy as np

from adbench.data.synthetic.kinds import Canvas, Picture, Rng, register
from adbench.data.synthetic.shapes import blend, blob, smoothed


@register("blur")
def blur(canvas: Canvas, rng: Rng) -> Picture:
    """Blur an irregular region in all directions, or along one."""
    cover = blob(canvas, rng, ragged=0.3, softness=1 + 0.08 * canvas.size, longest=2.0)
    strength = rng.uniform(1.5, 4) + 0.05 * canvas.size
    soft = smoothed(canvas.image, strength) if rng.random() < 0.5 else _smeared(canvas.image, rng, 3 * strength)
    return blend(canvas.image, soft, cover)


def _smeared(image: Picture, rng: Rng, length: float) -> Picture:
    """Return the mean of the image along lines of `length` px in a random direction."""
    angle, half = rng.uniform(0, np.pi), int(np.ceil(length / 2))
    steps = np.arange(-half, half + 1)
    shifts = np.unique(np.rint(np.stack([steps * np.sin(angle), steps * np.cos(angle)], 1)).astype(int) + half, axis=0)
    padded = np.pad(image, ((half, half), (half, half), (0, 0)), mode="edge")
    height, width = image.shape[:2]
    total = np.zeros_like(image)
    for down, right in shifts:
        total += padded[down : down + height, right : right + width]
    return np.asarray(total / len(shifts), dtype=np.float32)
