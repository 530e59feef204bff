"""Sizes of defects: drawn from a range, or distributed like the sizes of known defects.

The size of a defect is the square root of its area. Relative sizes are fractions of the square root of the image's area.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from adbench.core.errors import DataError, UsageError
from adbench.data.image_lists import images_below
from adbench.data.images import read_mask
from adbench.data.regions import region_areas
from adbench.data.synthetic.kinds import Rng
from adbench.types import OnStep, ignore_step

_QUANTILES = 101  # that describe the sizes of known defects


@dataclass(frozen=True)
class Sizes:
    """A distribution of relative sizes, given by evenly spaced quantiles in ascending order; log-uniform between two of them."""

    quantiles: tuple[float, ...]

    def __post_init__(self) -> None:
        low, high = self.quantiles[0], self.quantiles[-1]
        if not 0 < low <= high <= 0.7:
            raise UsageError(f"--sizes {low:g},{high:g}: give fractions of the image's side above 0, up to 0.7")

    def draw(self, rng: Rng) -> float:
        """Return one relative size."""
        place = np.linspace(0, 1, len(self.quantiles))
        return float(np.exp(np.interp(rng.uniform(), place, np.log(self.quantiles))))


DEFAULT_SIZES = Sizes((0.03, 0.2))


def sizes_of_masks(folder: Path, min_size_px: float = 0, on_step: OnStep = ignore_step) -> Sizes:
    """Return the sizes of the defects (8-connected regions) in a folder of masks and its subfolders.

    Regions smaller than `min_size_px` are skipped. Raises DataError if the folder is missing or no region is left.
    """
    if not folder.is_dir():
        raise DataError(f"masks {folder}: no such folder; give one of masks, white where the defect is")
    files = list(images_below(folder))
    found: list[float] = []
    for done, path in enumerate(files):
        mask = read_mask(path)
        found += [float(np.sqrt(a / mask.size)) for a in region_areas(mask) if a >= min_size_px**2]
        on_step(done + 1, len(files), "measuring masks")
    if not found:
        what = f"no defect of {min_size_px:g} px or more in {len(files)} masks" if files else "no image file in it"
        raise DataError(f"masks {folder}: {what}; give a folder of masks, white where the defect is")
    quantiles = np.quantile(np.minimum(found, 0.7), np.linspace(0, 1, min(len(found), _QUANTILES)))
    return Sizes(tuple(quantiles.tolist()))
