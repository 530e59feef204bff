"""Connected regions of masks."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label

Mask = NDArray[np.bool_]
EIGHT = np.ones((3, 3))  # neighbors include the diagonal ones


def region_areas(mask: Mask) -> NDArray[np.int64]:
    """Return the areas in pixels of the 8-connected regions of a mask (H, W)."""
    return np.bincount(label(mask, EIGHT)[0].ravel())[1:]


def large_regions(mask: Mask, least: float = 0, share: float = 0, neighbors: Any = EIGHT) -> Mask:
    """Return the part of a mask (H, W) in regions of at least `least` pixels and at least `share` of the largest region."""
    regions, count = label(mask, neighbors)
    areas = np.bincount(regions.ravel(), minlength=count + 1)
    keep = areas >= max(least, share * areas[1:].max(initial=1))
    keep[0] = False
    return np.asarray(keep[regions])
