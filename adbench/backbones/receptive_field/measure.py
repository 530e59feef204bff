"""Receptive fields of a backbone's layers: estimated from gradients as in the paper, next to the exact ones; their figure."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.fx import GraphModule
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from adbench.backbones.layers import Description, Layer, parse_layers
from adbench.backbones.network import Network
from adbench.backbones.receptive_field.graph import AnalyticField, analytic
from adbench.core.errors import DataError, UsageError
from adbench.core.plots import load_matplotlib
from adbench.core.registry import unknown
from adbench.data.writing import MARK
from adbench.types import OnStep, ignore_step

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FIGURES = (".png", ".svg", ".pdf")
_DECADES = 4  # of gradient norm between white and black in a figure
_SEED = 0  # of the noise image and of the signs: the same network gives the same box
_TINY = np.finfo(np.float64).tiny


@dataclass(frozen=True)
class Measure:
    """The options of `estimated`. Raises UsageError for a value out of range."""

    input_size: int = 1024
    threshold: float = 1e-2
    normalize: str = "max"
    image: str = "noise"
    margin: int = 16

    def __post_init__(self) -> None:
        if self.margin < 0 or self.input_size <= 2 * self.margin:
            raise UsageError(
                f"input size {self.input_size} leaves nothing between two margins of {self.margin} px; choose a larger one"
            )
        if not self.threshold > 0:
            raise UsageError(f"threshold {self.threshold} keeps every pixel; choose one above 0")
        if self.normalize not in ("max", "none"):
            raise unknown("normalization", self.normalize, ["max", "none"])
        if self.image not in ("noise", "zeros"):
            raise unknown("image", self.image, ["noise", "zeros"])


@dataclass(frozen=True)
class EstimatedField:
    """The box of input pixels whose gradient norm reaches the threshold, see `estimated`; all lengths in input pixels.

    bbox: x0, y0, x1, y1 with x1 and y1 exclusive; (0, 0, 0, 0) if no pixel reaches the threshold.
    saturated: the box touches the ignored margin, so the true field may be larger.
    gradient: (H, W) float64 norms as compared with the threshold, before clipping, margin included.
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


def estimated(module: nn.Module, layer: str, measure: Measure) -> EstimatedField:
    """Return the estimated receptive field of `layer`, a key of the dict of (1, C, h, w) maps that `module` returns.

    `module` is frozen and in evaluation mode: a parameter that requires a gradient would keep its layer's input in memory.

    The method is that of Heckler, König and Bergmann (CVPRW 2023), supplement, section 1. The input is one image x of
    3 x input_size x input_size in the network's (normalized) input space, f the C values of the map at cell (h // 2, w // 2),
    and g the gradient of sum_c s_c f_c with respect to x, where the signs s_c = +1 or -1 are drawn once with a fixed seed.
    The norm of a pixel is the Euclidean norm over the 3 colors of g, divided by the largest norm. Norms below `threshold` and
    `margin` pixels along each border are set to 0. The box bounds the rest, and its longer side is the estimate.

    Where the paper leaves a choice, or where its words would measure nothing:

    - Signs instead of a plain sum over channels: a sum cancels (that of a layer normalization's output is constant). The
      expected squared norm over such draws is that of the whole gradient of f, a (C, 3) matrix per pixel.
    - normalize="max" divides by the largest norm: at random weights it is between 1e-12 (EfficientNet-B5) and 50 (ResNets),
      and no absolute threshold fits both. "none" compares the norms without division, as the paper says.
    - image="noise" is standard normal. With the paper's empty image ("zeros"), a network of random weights has a gradient of
      0, and tied maxima of a max pool shrink the box by up to 4 px.

    The estimate is an effective receptive field: it depends on the weights, grows with a smaller threshold, and is at most
    the analytic field unless a global path passes the threshold.
    """
    shape = (1, 3, measure.input_size, measure.input_size)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(_SEED))
    pixels = (torch.zeros(shape) if measure.image == "zeros" else noise).requires_grad_()
    with LeanNorms():
        maps = module(pixels)[layer]
    values = maps[0, :, maps.shape[2] // 2, maps.shape[3] // 2]
    signs = torch.randint(0, 2, values.shape, generator=torch.Generator().manual_seed(_SEED)) * 2 - 1
    (gradient,) = torch.autograd.grad((values * signs).sum(), pixels)
    norms = cast("NDArray[np.float64]", gradient[0].double().norm(dim=0).numpy())  # squares are as small as 1e-22
    if measure.normalize == "max":
        norms /= max(norms.max(), _TINY)
    return EstimatedField(layer, *bounding_box(norms, measure.threshold, measure.margin), norms)


def bounding_box(norms: NDArray[np.float64], threshold: float, margin: int) -> tuple[tuple[int, int, int, int], bool]:
    """Return the box x0, y0, x1, y1 (exclusive) of norms >= threshold inside the margin, and whether it touches the margin."""
    height, width = norms.shape
    kept = np.zeros(norms.shape, dtype=bool)
    inside = slice(margin, height - margin), slice(margin, width - margin)
    kept[inside] = norms[inside] >= threshold
    if not kept.any():
        return (0, 0, 0, 0), False
    ys, xs = np.flatnonzero(kept.any(axis=1)), np.flatnonzero(kept.any(axis=0))
    x0, y0, x1, y1 = int(xs[0]), int(ys[0]), int(xs[-1]) + 1, int(ys[-1]) + 1
    return (x0, y0, x1, y1), min(x0, y0) == margin or x1 == width - margin or y1 == height - margin


class LeanNorms(TorchFunctionMode):
    """Compute batch normalization in evaluation mode as a multiplication and an addition of constants.

    torch's own keeps its input for the backward pass: 1.7 of EfficientNet-B5's 5.8 GB at 1024 px.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is not functional.batch_norm or len(args) != 3 or kwargs["training"] or kwargs["weight"] is None:
            return func(*args, **kwargs)
        x, mean, variance = args
        scale = kwargs["weight"] * torch.rsqrt(variance + kwargs["eps"])
        shift = kwargs["bias"] - mean * scale
        by_channel = (-1, *[1] * (x.dim() - 2))
        return (x * scale.view(by_channel)).add_(shift.view(by_channel))


def receptive_fields(
    network: Network,
    description: Description,
    layers: Sequence[str],
    sizes: Sequence[int],
    measure: Measure,
    drawn: Path | None = None,
    on_step: OnStep = ignore_step,
) -> dict[str, Any]:
    """Return a record of the receptive fields of `layers` (default: all main stages), shallow first; `drawn`: a figure's path.

    Each layer is cut and measured alone, to save memory. Raises UsageError for an unknown layer.
    """
    names = [name for text in layers for name in parse_layers(text, description)] or list(description.stages)
    fields: list[tuple[EstimatedField, AnalyticField | None]] = []
    for done, name in enumerate(names):
        on_step(done, len(names), f"receptive field of {name}")
        module = network.cut([name])
        exact = None
        with suppress(UsageError):  # an operation without a rule
            exact = analytic(cast("GraphModule", module), [name])[name]
        fields.append((estimated(module, name, measure), exact))
    if drawn:
        figure(fields, drawn, f"{description.backbone}, {network.weights.label} weights")
    facts = {"backbone": description.backbone, "weights": network.weights.label}
    rows = [_record(description.layer(found.layer), found, exact, sizes) for found, exact in fields]
    return facts | {"input_size": measure.input_size, "threshold": measure.threshold, "layers": rows}


def _record(layer: Layer, found: EstimatedField, exact: AnalyticField | None, sizes: Sequence[int]) -> dict[str, Any]:
    return {
        "layer": layer.name,
        "channels": layer.channels,
        "stride": layer.stride,
        "analytic_px": exact.size if exact else None,
        "estimated_px": found.px,
        "bbox": list(found.bbox),
        "saturated": found.saturated,
        "rrf": {str(size): (exact.size if exact else found.px) / size for size in sizes},
    }


def figure(fields: Sequence[tuple[EstimatedField, AnalyticField | None]], path: Path, title: str) -> None:
    """Draw the fields from left to right at one scale and write a PNG, SVG or PDF, according to the suffix of `path`.

    Each panel is the whole input image. Black is the panel's largest gradient norm, white is 10^-4 of it or less, and the
    scale is logarithmic (the paper does not state its scale; a linear one shows the innermost pixels only). Solid: the
    estimated box. Dashed: the analytic one, if it is known.

    Raises UsageError for another suffix or no fields, DataError if the file cannot be written.
    """
    load_matplotlib()
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
        sheet.savefig(path, dpi=150, metadata={"Software": MARK} if path.suffix.lower() == ".png" else None)
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
