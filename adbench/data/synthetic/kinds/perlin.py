"""Perlin-noise blends, after DRAEM (Zavrtanik et al., ICCV 2021).

Deviations: the texture comes from good images of the same category, rotated and with its tone shifted, not from a
collection of textures; the region is where the noise around one place is highest, so that its area can be chosen.
"""

import numpy as np

from adbench.data.synthetic.kinds import Canvas, Picture, Rng, register
from adbench.data.synthetic.shapes import another_piece, blend, fractal, nearest, offsets


@register("perlin")
def perlin(canvas: Canvas, rng: Rng) -> Picture:
    """Blend another texture into an irregular, branching region."""
    far = np.hypot(*offsets(canvas)) / canvas.size
    ground = canvas.size * (0.45 * far**2 - 0.5 * fractal(rng, canvas.shape, 0.8 * canvas.size))
    cover = nearest(canvas, ground.astype(np.float32), softness=1 + 0.03 * canvas.size) * rng.uniform(0.6, 1)
    tone = canvas.contrast * rng.uniform(0.4, 1.0) * rng.choice([-1, 1])
    return blend(canvas.image, np.asarray(another_piece(canvas, rng) + tone), cover)
