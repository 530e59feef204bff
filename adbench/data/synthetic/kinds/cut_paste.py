"""CutPaste and CutPaste-Scar (Li et al., CVPR 2021): a piece of a good part in the wrong place.

Deviations of `cut_paste`: the outline is rounded, rotated and slightly feathered, and the piece takes on the light of its new
place, so that no pasted rectangle is visible; a shift of its tone by the contrast replaces color jitter.
"""

import numpy as np

from adbench.data.synthetic.kinds import Canvas, Picture, Rng, register
from adbench.data.synthetic.shapes import another_piece, bar, blend


@register("cut_paste")
def cut_paste(canvas: Canvas, rng: Rng) -> Picture:
    """Paste a piece of a good image, rotated by a multiple of 90 degrees."""
    piece = another_piece(canvas, rng) + canvas.contrast * rng.uniform(0.2, 0.6) * rng.choice([-1, 1])
    return blend(canvas.image, np.asarray(piece), bar(canvas, rng, shortest=1.0, longest=3.0, softness=0.8))


@register("scar")
def scar(canvas: Canvas, rng: Rng) -> Picture:
    """Paste a strip five to sixteen times as long as wide, at an angle, darker or brighter by the contrast."""
    tone = canvas.contrast * rng.choice([-0.7, 0.7])
    strip = bar(canvas, rng, shortest=5.0, longest=16.0, softness=0.7)
    return blend(canvas.image, np.asarray(another_piece(canvas, rng) + tone), strip)
