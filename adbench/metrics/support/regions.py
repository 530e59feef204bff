"""Connected defect regions of masks, on which AU-PRO averages (Bergmann et al., IJCV 2021)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adbench.types import Masks


@dataclass(frozen=True)
class Regions:
    """The K regions of N masks. Depends on the masks only, so one serves every detector of a category.

    sizes: (K,) pixels of each region, image by image. weights: (M,) float64, 1 / size of the region of each of the
    M defective pixels, in the order of `mask[mask]`, image by image.
    """

    sizes: NDArray[np.int64]
    weights: NDArray[np.float64]


def label(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int32], int]:
    """Return each pixel's region in an (H, W) mask, 1...K, 0 = none, and K. Pixels that touch at a corner are connected."""
    from scipy import ndimage

    mask = np.asarray(mask, dtype=bool)
    labels = np.zeros(mask.shape, dtype=np.int32)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if rows.size == 0:
        return labels, 0
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    count = ndimage.label(mask[box], structure=np.ones((3, 3)), output=labels[box])
    return labels, int(count)


def components(masks: Masks) -> Regions:
    """Return the 8-connected regions of (N, H, W) masks, or of N masks of differing sizes."""
    sizes, weights = [np.zeros(0, dtype=np.int64)], [np.zeros(0)]
    for mask in masks:
        labels, count = label(mask)
        if count:
            inside = labels[labels > 0]
            sizes.append(np.bincount(inside, minlength=count + 1)[1:])
            weights.append((1 / sizes[-1])[inside - 1])
    return Regions(np.concatenate(sizes), np.concatenate(weights))
