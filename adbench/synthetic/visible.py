"""What a painted defect has visibly changed: the mask, measured from the picture. It registers nothing."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_closing, binary_fill_holes, label

from adbench.synthetic import Picture

VISIBLE = 6  # grey levels of the most changed channel
_CLOSED = 2  # px: gaps up to twice as wide inside a defect belong to it
_LEAST_SHARE = 0.1  # of a defect's largest piece: smaller ones are specks


def visible_change(
    before: NDArray[np.uint8], after: Picture, foreground: NDArray[np.bool_]
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return the changed image (H, W, 3) and the mask (H, W) of all that differs from `before` in it.

    Changes below `VISIBLE`, specks, and what lies outside the foreground are taken back. Gaps and holes of the change,
    where the defect happens to look like what it covers, count as defect, as a person would label them.
    """
    painted = np.clip(np.rint(after), 0, 255).astype(np.uint8)
    change = np.abs(painted.astype(np.int16) - before).max(axis=2) >= VISIBLE
    padded = np.pad(change & foreground, _CLOSED)
    closed = binary_closing(padded, np.ones((3, 3)), _CLOSED)[_CLOSED:-_CLOSED, _CLOSED:-_CLOSED]
    regions, count = label(binary_fill_holes(closed) & foreground, np.ones((3, 3)))
    areas = np.bincount(regions.ravel(), minlength=count + 1)
    large = areas >= _LEAST_SHARE * areas[1:].max(initial=1)
    large[0] = False
    mask = large[regions]
    return np.where(mask[..., None], painted, before), mask
