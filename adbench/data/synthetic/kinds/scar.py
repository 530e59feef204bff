"""CutPaste-Scar (Li et al., CVPR 2021): a long, thin piece of a good part, pasted at an angle, with its tone shifted."""

import numpy as np

from adbench.data.synthetic.kinds import Canvas, Picture, Rng, register
from adbench.data.synthetic.shapes import another_piece, bar, blend


@register("scar")
def scar(canvas: Canvas, rng: Rng) -> Picture:
    """Paste a strip five to sixteen times as long as wide, darker or brighter by the contrast."""
    tone = canvas.contrast * rng.choice([-0.7, 0.7])
    strip = bar(canvas, rng, shortest=5.0, longest=16.0, softness=0.7)
    return blend(canvas.image, np.asarray(another_piece(canvas, rng) + tone), strip)
