"""Stains: a drop that dried, darker or tinted, with a darker rim where its residue gathered."""

import numpy as np

from adbench.data.synthetic.kinds import Canvas, Picture, Rng, register
from adbench.data.synthetic.shapes import WARM, blob, noise

_DARK = 80  # gray levels


@register("stain")
def stain(canvas: Canvas, rng: Rng) -> Picture:
    """Multiply the image by a tint, so that shading and grain show through; dark material is soiled brighter."""
    cover = blob(canvas, rng, ragged=0.35, softness=1 + 0.06 * canvas.size, longest=1.6)
    rim = 4 * cover * (1 - cover)
    density = cover * (0.85 + 0.15 * noise(rng, canvas.shape, 0.3 * canvas.size)) + 0.5 * rim * rng.uniform(0, 1)
    tint = 0.9 - rng.uniform(-0.15, 0.35) * WARM + rng.uniform(-0.06, 0.06, 3)  # share of each color that it removes
    level = float(canvas.image[canvas.foreground].mean())
    if level < min(1.5 * canvas.contrast, _DARK):
        return np.asarray(canvas.image + canvas.contrast * density[..., None] * tint, dtype=np.float32)
    taken = np.clip(canvas.contrast / level * density[..., None] * tint, 0, 0.95)
    return np.asarray(canvas.image * (1 - taken), dtype=np.float32)
