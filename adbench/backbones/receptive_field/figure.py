"""The figure of receptive fields: the gradient of each layer's central cell, with the estimated and the analytic box."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from adbench.backbones.receptive_field.graph import AnalyticField
from adbench.backbones.receptive_field.measure import EstimatedField
from adbench.core.errors import DataError, UsageError
from adbench.core.plots import load_matplotlib
from adbench.data.writing import MARK

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

_FIGURES = (".png", ".svg", ".pdf")
_DECADES = 4  # of gradient norm between white and black
_TINY = np.finfo(np.float64).tiny
_BOX: dict[str, Any] = {"fill": False, "edgecolor": "#d62728", "linewidth": 1.2}
_PER_ROW = 6  # panels
_SMALL = 8  # a field below the image's side over this gets an inset
_MARGIN = 2.5  # side of an inset over that of the estimated box


def figure(fields: Sequence[tuple[EstimatedField, AnalyticField | None]], path: Path, title: str) -> None:
    """Draw the fields at one scale, shallow first, and write a PNG, SVG or PDF, according to the suffix of `path`.

    Each panel is the whole input image. Black is the panel's largest gradient norm, white is 10^-4 of it or less, and the
    scale is logarithmic (the paper does not state its scale; a linear one shows the innermost pixels only). Solid: the
    estimated box. Dashed: the analytic one, if it is known. An inset enlarges the middle of a panel with a small field.

    Raises UsageError for another suffix or no fields, DataError if the file cannot be written.
    """
    load_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    if path.suffix.lower() not in _FIGURES:
        raise UsageError(f"figure '{path}': its suffix must be one of {', '.join(_FIGURES)}")
    if not fields:
        raise UsageError(f"figure '{path}': no layer to draw; name one")
    rows, columns = -(-len(fields) // _PER_ROW), min(len(fields), _PER_ROW)
    sheet = Figure(figsize=(max(3.1 * columns, 4), 3.5 * rows + 0.7), layout="constrained")
    FigureCanvasAgg(sheet)
    panels = sheet.subplots(rows, columns, squeeze=False).ravel()
    for axes, (found, exact) in zip(panels, fields, strict=False):
        _panel(axes, found, exact)
    for axes in panels[len(fields) :]:
        axes.axis("off")
    sheet.suptitle(title)
    shown = [Patch(**_BOX, label="estimated")]
    shown += [Patch(**_BOX, linestyle="--", label="analytic")] if any(exact for _, exact in fields) else []
    sheet.legend(handles=shown, loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    try:
        sheet.savefig(path, dpi=150, metadata={"Software": MARK} if path.suffix.lower() == ".png" else None)
    except OSError as error:
        raise DataError(f"figure '{path}' cannot be written ({error.strerror}); choose another path") from error


def _panel(axes: Axes, found: EstimatedField, exact: AnalyticField | None) -> None:
    height, width = found.gradient.shape
    shares = found.gradient / max(float(found.gradient.max()), _TINY)
    darkness = 1 + np.log10(np.maximum(shares, 10.0**-_DECADES)) / _DECADES
    _draw(axes, darkness, found, exact)
    axes.set(xlim=(0, width), ylim=(height, 0), xticks=(0, width), yticks=(0, height))
    if 0 < found.px < width / _SMALL:
        _inset(axes, darkness, found, exact)
    known = f", analytic {exact.size} px" if exact else ""
    estimate = f"{'≥ ' if found.saturated else ''}{found.px} px"
    axes.tick_params(labelsize=7)
    axes.set_title(f"{found.layer}\nRF {estimate}{known}", fontsize=9)


def _inset(axes: Axes, darkness: NDArray[np.float64], found: EstimatedField, exact: AnalyticField | None) -> None:
    """Enlarge the surroundings of the boxes in a corner of the panel, with the side of the cutout in pixels."""
    x0, y0, x1, y1 = found.bbox
    half = round(_MARGIN * max(found.px, min(exact.size, 2 * found.px) if exact else 0) / 2)
    x, y = (x0 + x1) // 2, (y0 + y1) // 2
    inset = axes.inset_axes((0.6, 0.02, 0.38, 0.38))
    _draw(inset, darkness, found, exact)
    inset.set(xlim=(x - half, x + half), ylim=(y + half, y - half), xticks=(), yticks=())
    axes.indicate_inset_zoom(inset, edgecolor="#444444", alpha=1, linewidth=0.8)
    inset.set_title(f"{2 * half} px", fontsize=7, pad=2)


def _draw(axes: Axes, darkness: NDArray[np.float64], found: EstimatedField, exact: AnalyticField | None) -> None:
    from matplotlib.patches import Rectangle

    height, width = darkness.shape
    axes.imshow(darkness, cmap="gray_r", vmin=0, vmax=1, extent=(0, width, height, 0), interpolation="antialiased")
    if exact:
        x, y = (size // exact.stride // 2 * exact.stride + exact.offset + 0.5 for size in (width, height))  # the central cell's
        corner = x - exact.width / 2, y - exact.height / 2
        axes.add_patch(Rectangle(corner, exact.width, exact.height, linestyle="--", **_BOX))
    x0, y0, x1, y1 = found.bbox
    axes.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, **_BOX))
