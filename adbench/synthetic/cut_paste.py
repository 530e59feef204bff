"""CutPaste (Li et al., CVPR 2021): a piece of a good part in the wrong place.

Deviations: the outline is rounded, turned and slightly feathered, and the piece stands in the light of its new place,
so that a person does not see a pasted rectangle; its tone is shifted by the contrast in place of colour jitter.
"""

import numpy as np

from adbench.synthetic import Canvas, Picture, Rng, register
from adbench.synthetic.shapes import bar, blend, levelled


@register("cut_paste")
def cut_paste(canvas: Canvas, rng: Rng) -> Picture:
    """Paste a piece of another good image, turned by a multiple of 90 degrees."""
    piece = another_piece(canvas, rng) + canvas.contrast * rng.uniform(0.2, 0.6) * rng.choice([-1, 1])
    return blend(canvas.image, np.asarray(piece), bar(canvas, rng, shortest=1.0, longest=3.0, softness=0.8))


def another_piece(canvas: Canvas, rng: Rng) -> Picture:
    """Return a piece of another good image, of the canvas's shape and in its light, turned and perhaps mirrored."""
    turns = int(rng.integers(4))
    shape = canvas.shape if turns % 2 == 0 else canvas.shape[::-1]
    piece = np.rot90(canvas.texture(rng, shape), turns)
    return levelled(piece[:, ::-1] if rng.random() < 0.5 else piece, canvas, rng.uniform(0.5, 1))
