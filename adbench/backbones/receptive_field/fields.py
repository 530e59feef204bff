"""What is known of a layer's receptive field: the analytic one, the estimated one, and either relative to an image size."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class AnalyticField:
    """The exact receptive field of a layer, in input pixels.

    Map cell (i, j) can depend on the pixels of a box `height` x `width`, centred at (stride * i + offset, stride * j + offset).
    `global_path`: a path on which position is lost (squeeze-excitation, group normalisation) was left out, see `analytic`.
    """

    layer: str
    height: int
    width: int
    stride: int
    offset: float  # of the horizontal axis; the vertical one differs only behind kernels that are not square
    global_path: bool = False

    @property
    def size(self) -> int:
        """The longer side of the box: the number that tables show."""
        return max(self.height, self.width)


@dataclass(frozen=True)
class EstimatedField:
    """The box of input pixels whose gradient norm reaches the threshold, see `estimated`; all lengths in input pixels.

    bbox: x0, y0, x1, y1 with x1 and y1 exclusive; (0, 0, 0, 0) if no pixel reaches the threshold.
    saturated: the box touches the ignored margin, so that the field may be larger than measured.
    gradient: (H, W) float64 norms as they were compared with the threshold, before clipping, margin included.
    """

    layer: str
    bbox: tuple[int, int, int, int]
    saturated: bool
    gradient: NDArray[np.float64] = field(repr=False, compare=False)

    @property
    def px(self) -> int:
        """The longer side of the box."""
        x0, y0, x1, y1 = self.bbox
        return max(x1 - x0, y1 - y0)

    def record(self) -> dict[str, Any]:
        """Return the JSON form, without the gradient."""
        return {"estimated_px": self.px, "bbox": list(self.bbox), "saturated": self.saturated}


def relative(pixels: int, image_size: int) -> float:
    """Return the relative receptive field, RRF = RF / image size: a fraction, above 1 if the field exceeds the image."""
    return pixels / image_size
