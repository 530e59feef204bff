"""A color shift: the material is discolored or burnt; its texture and shading stay."""

import numpy as np

from adbench.data.synthetic.kinds import Canvas, Picture, Rng, register
from adbench.data.synthetic.shapes import WARM, blob


@register("colour")
def color(canvas: Canvas, rng: Rng) -> Picture:
    """Multiply the channels by factors around 1, some above and some below, with a wide soft edge."""
    cover = blob(canvas, rng, ragged=0.3, softness=1 + 0.15 * canvas.size, longest=2.0)
    hue = rng.uniform(-0.4, 0.4) * WARM + rng.uniform(-0.08, 0.08, 3)
    tint = hue + rng.choice([-1, -1, 0.5]) * rng.uniform(0.4, 1)  # materials darken more often than they bleach
    level = max(float(canvas.image[canvas.foreground].mean()), 1.0)
    gain = np.clip(canvas.contrast / level, 0.1, 0.6) * tint
    return np.asarray(canvas.image * (1 + cover[..., None] * gain), dtype=np.float32)
