"""What a painted defect has visibly changed: the mask, measured from the picture. It registers nothing."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_closing, binary_fill_holes, gaussian_filter, label

from adbench.synthetic import Picture

VISIBLE = 6  # grey levels of the most changed channel
_CLOSED, _CLOSED_SHARE = 1.5, 0.05  # px, share of its size: gaps up to twice as wide inside a defect belong to it
_LEAST_SHARE = 0.1  # of a defect's largest piece: smaller ones are specks


def visible_change(
    before: NDArray[np.uint8], after: Picture, foreground: NDArray[np.bool_], size: float
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return the changed image (H, W, 3) and the mask (H, W) of all that differs from `before` in it.

    `size`: of the defect, in px.
    Changes below `VISIBLE`, specks, and what lies outside the foreground are taken back. Gaps and holes of the change,
    where the defect happens to look like what it covers, count as defect, as a person would label them.
    """
    inside = foreground if foreground.all() else gaussian_filter(foreground.astype(np.float32), 0.7)
    painted = np.clip(np.rint(before + (after - before) * inside[..., None]), 0, 255).astype(np.uint8)
    change = np.abs(painted.astype(np.int16) - before).max(axis=2) >= VISIBLE
    reach = round(_CLOSED + _CLOSED_SHARE * size)
    closed = binary_closing(np.pad(change & foreground, reach), np.ones((3, 3)), reach)[reach:-reach, reach:-reach]
    regions, count = label(binary_fill_holes(closed) & foreground, np.ones((3, 3)))
    areas = np.bincount(regions.ravel(), minlength=count + 1)
    large = areas >= _LEAST_SHARE * areas[1:].max(initial=1)
    large[0] = False
    mask = large[regions]
    return np.where(mask[..., None], painted, before), mask
