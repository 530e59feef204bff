"""Figure 1 of the paper's supplement: gradients of several layers side by side, each with the box of its receptive field."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from adbench.core.errors import DataError, UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from adbench.backbones.receptive_field.graph import AnalyticField
    from adbench.backbones.receptive_field.measure import EstimatedField

_SUFFIXES = (".png", ".svg", ".pdf")
_DECADES = 4  # of gradient norm between white and black


def figure(fields: Sequence[tuple[EstimatedField, AnalyticField | None]], path: Path, title: str = "") -> None:
    """Draw the fields from left to right at one scale and write a PNG, SVG or PDF, according to the suffix of `path`.

    Each panel is the whole input image. Black is the panel's largest gradient norm, white is 10^-4 of it or less, and the
    scale is logarithmic (the paper does not state its scale; a linear one shows the innermost pixels only). Solid: the
    estimated box. Dashed: the analytic one, if it is known.

    Raises UsageError for another suffix or no fields, DataError if the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not fields or path.suffix.lower() not in _SUFFIXES:
        raise UsageError(f"figure '{path}': needs a layer and one of the suffixes {', '.join(_SUFFIXES)}")
    sheet = Figure(figsize=(3.1 * len(fields), 3.7 if title else 3.4), layout="constrained")
    FigureCanvasAgg(sheet)
    for axes, (field, exact) in zip(sheet.subplots(1, len(fields), squeeze=False)[0], fields, strict=True):
        _panel(axes, field, exact)
    if title:
        sheet.suptitle(title)
    try:
        sheet.savefig(path, dpi=150)
    except OSError as error:
        raise DataError(f"figure '{path}' cannot be written ({error.strerror}); choose another path") from error


def _panel(axes: Axes, field: EstimatedField, exact: AnalyticField | None) -> None:
    height, width = field.gradient.shape
    extent = (0, width, height, 0)
    axes.imshow(_darkness(field.gradient), cmap="gray_r", vmin=0, vmax=1, extent=extent, interpolation="antialiased")
    if exact is not None:
        x, y = (size // exact.stride // 2 * exact.stride + exact.offset + 0.5 for size in (width, height))  # the central cell's
        _rectangle(axes, x - exact.width / 2, y - exact.height / 2, exact.width, exact.height, "--")
    x0, y0, x1, y1 = field.bbox
    _rectangle(axes, x0, y0, x1 - x0, y1 - y0, "-")
    axes.set(xlim=(0, width), ylim=(height, 0), xticks=(0, width), yticks=(0, height))
    known = f", analytic {exact.size} px" if exact is not None else ""
    estimate = f"{'≥ ' if field.saturated else ''}{field.px} px"
    axes.tick_params(labelsize=7)
    axes.set_title(f"{field.layer}\nRF {estimate}{known}", fontsize=9)


def _darkness(gradient: NDArray[np.float64]) -> NDArray[np.float64]:
    largest = max(float(gradient.max()), np.finfo(np.float64).tiny)
    return np.asarray(1 + np.log10(np.maximum(gradient / largest, 10.0**-_DECADES)) / _DECADES)


def _rectangle(axes: Axes, x: float, y: float, width: float, height: float, style: str) -> None:
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle((x, y), width, height, fill=False, edgecolor="#d62728", linewidth=1.2, linestyle=style))
