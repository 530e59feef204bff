"""A missing part: a region is filled in from its surroundings, or, at the part's edge, with the background."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation

from adbench.data.synthetic.kinds import Canvas, Picture, Rng, register
from adbench.data.synthetic.shapes import blend, blob, filled, smoothed

_BROKEN_OFF = 0.2  # share of a region's surroundings that is background where it lies at the part's edge


@register("missing")
def missing(canvas: Canvas, rng: Rng) -> Picture:
    """Fill an irregular region with the colors around it and the grain of a place nearby."""
    cover = blob(canvas, rng, ragged=0.25, softness=0.8, longest=1.6)
    around = ~binary_dilation(cover > 0, iterations=2)
    ring = binary_dilation(cover > 0.5, iterations=4) & (cover == 0)
    behind = around & ~binary_dilation(canvas.foreground, iterations=2)
    broken_off = behind.any() and (ring & ~canvas.foreground).sum() > _BROKEN_OFF * ring.sum()
    known = behind if broken_off else around & canvas.foreground
    return blend(canvas.image, filled(canvas.image, known) + _grain(canvas.image, known, cover > 0, rng), cover)


def _grain(image: Picture, known: NDArray[np.bool_], region: NDArray[np.bool_], rng: Rng) -> Picture:
    """Return a fine texture (H, W, 3) for the `region`, copied from a `known` place nearby."""
    places = np.argwhere(region)
    shifts = [rng.integers(-n // 2, n // 2 + 1, 32) for n in known.shape]
    moved = [tuple((places + shift).T % np.array(known.shape)[:, None]) for shift in zip(*shifts, strict=True)]
    best = max(moved, key=lambda place: int(known[place].sum()))
    fine = (image - smoothed(image, 1.5)) * known[..., None]
    grain = np.zeros_like(image)
    grain[region] = fine[best]
    return grain
