"""The figure of receptive fields: the gradient of each layer's central cell, with the estimated and the analytic box."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from adbench.backbones.receptive_field.graph import AnalyticField
from adbench.backbones.receptive_field.measure import EstimatedField
from adbench.core.errors import DataError, UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FIGURES = (".png", ".svg", ".pdf")
_DECADES = 4  # of gradient norm between white and black
_TINY = np.finfo(np.float64).tiny


def figure(fields: Sequence[tuple[EstimatedField, AnalyticField | None]], path: Path, title: str) -> None:
    """Draw the fields from left to right at one scale and write a PNG, SVG or PDF, according to the suffix of `path`.

    Each panel is the whole input image. Black is the panel's largest gradient norm, white is 10^-4 of it or less, and the
    scale is logarithmic (the paper does not state its scale; a linear one shows the innermost pixels only). Solid: the
    estimated box. Dashed: the analytic one, if it is known.

    Raises UsageError for another suffix or no fields, DataError if the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not fields or path.suffix.lower() not in _FIGURES:
        raise UsageError(f"figure '{path}': needs a layer and one of the suffixes {', '.join(_FIGURES)}")
    sheet = Figure(figsize=(3.1 * len(fields), 3.7), layout="constrained")
    FigureCanvasAgg(sheet)
    for axes, (found, exact) in zip(sheet.subplots(1, len(fields), squeeze=False)[0], fields, strict=True):
        _panel(axes, found, exact)
    sheet.suptitle(title)
    try:
        sheet.savefig(path, dpi=150)
    except OSError as error:
        raise DataError(f"figure '{path}' cannot be written ({error.strerror}); choose another path") from error


def _panel(axes: Axes, found: EstimatedField, exact: AnalyticField | None) -> None:
    from matplotlib.patches import Rectangle

    height, width = found.gradient.shape
    extent = (0, width, height, 0)
    shares = found.gradient / max(float(found.gradient.max()), _TINY)
    darkness = 1 + np.log10(np.maximum(shares, 10.0**-_DECADES)) / _DECADES
    axes.imshow(darkness, cmap="gray_r", vmin=0, vmax=1, extent=extent, interpolation="antialiased")
    box = partial(Rectangle, fill=False, edgecolor="#d62728", linewidth=1.2)
    if exact:
        x, y = (size // exact.stride // 2 * exact.stride + exact.offset + 0.5 for size in (width, height))  # the central cell's
        axes.add_patch(box((x - exact.width / 2, y - exact.height / 2), exact.width, exact.height, linestyle="--"))
    x0, y0, x1, y1 = found.bbox
    axes.add_patch(box((x0, y0), x1 - x0, y1 - y0, linestyle="-"))
    axes.set(xlim=(0, width), ylim=(height, 0), xticks=(0, width), yticks=(0, height))
    known = f", analytic {exact.size} px" if exact else ""
    estimate = f"{'≥ ' if found.saturated else ''}{found.px} px"
    axes.tick_params(labelsize=7)
    axes.set_title(f"{found.layer}\nRF {estimate}{known}", fontsize=9)
