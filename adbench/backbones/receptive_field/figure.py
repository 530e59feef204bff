"""Figure 1 of the paper's supplement: gradients of several layers side by side, each with the box of its receptive field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from adbench.backbones.receptive_field.fields import AnalyticField, EstimatedField
from adbench.core.errors import DataError, UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SUFFIXES = (".png", ".svg", ".pdf")
_DECADES = 4  # of gradient norm between white and black
_BOX = "#d62728"


def figure(
    fields: Sequence[EstimatedField], path: Path, *, analytic: Mapping[str, AnalyticField] | None = None, title: str = ""
) -> None:
    """Draw the fields from left to right at one scale and write a PNG, SVG or PDF by the suffix of `path`.

    Each panel is the whole input image. Black is the panel's largest gradient norm, white is 10^-4 of it or less, grey is
    logarithmic (the paper does not say how its greys are spread; linear ones show the innermost pixels only). Drawn
    solid: the estimated box; dashed: the analytic one, where it is given and fits the image.

    Raises UsageError for another suffix or no fields, DataError if the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not fields or path.suffix.lower() not in _SUFFIXES:
        raise UsageError(f"figure '{path}': needs a layer and one of the suffixes {', '.join(_SUFFIXES)}")
    sheet = Figure(figsize=(3.1 * len(fields), 3.7 if title else 3.4), layout="constrained")
    FigureCanvasAgg(sheet)
    for axes, field in zip(sheet.subplots(1, len(fields), squeeze=False)[0], fields, strict=True):
        _panel(axes, field, (analytic or {}).get(field.layer))
    if title:
        sheet.suptitle(title)
    try:
        sheet.savefig(path, dpi=150)
    except OSError as error:
        raise DataError(f"figure '{path}' cannot be written ({error.strerror}); choose another path") from error


def _panel(axes: Axes, field: EstimatedField, exact: AnalyticField | None) -> None:
    height, width = field.gradient.shape
    axes.imshow(_greys(field), cmap="gray_r", vmin=0, vmax=1, extent=(0, width, height, 0), interpolation="antialiased")
    if exact is not None:
        x, y = _middle(field, exact)
        _rectangle(axes, x - exact.width / 2, y - exact.height / 2, exact.width, exact.height, "--")
    x0, y0, x1, y1 = field.bbox
    _rectangle(axes, x0, y0, x1 - x0, y1 - y0, "-")
    axes.set(xlim=(0, width), ylim=(height, 0), xticks=(0, width), yticks=(0, height))
    known = f", analytic {exact.size} px" if exact is not None else ""
    estimate = f"{'≥ ' if field.saturated else ''}{field.px} px"
    axes.tick_params(labelsize=7)
    axes.set_title(f"{field.layer}\nRF {estimate}{known}", fontsize=9)


def _greys(field: EstimatedField) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    largest = max(float(field.gradient.max()), np.finfo(np.float64).tiny)
    return 1 + np.log10(np.maximum(field.gradient / largest, 10.0**-_DECADES)) / _DECADES


def _middle(field: EstimatedField, exact: AnalyticField) -> tuple[float, float]:
    """Return the middle x, y in the image of the receptive field of the map's central cell (i = size // stride // 2)."""
    height, width = (size // exact.stride // 2 * exact.stride for size in field.gradient.shape)
    return width + exact.offset + 0.5, height + exact.offset + 0.5


def _rectangle(axes: Axes, x: float, y: float, width: float, height: float, style: str) -> None:
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle((x, y), width, height, fill=False, edgecolor=_BOX, linewidth=1.2, linestyle=style))
