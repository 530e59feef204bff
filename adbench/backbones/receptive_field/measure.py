"""Receptive fields of a backbone's layers: estimated from gradients as in the paper, next to the exact ones of the graph."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from adbench.backbones.layers import Description, parse_layers
from adbench.backbones.network import Network
from adbench.backbones.receptive_field.figure import figure
from adbench.backbones.receptive_field.graph import AnalyticField, analytic
from adbench.core.errors import UsageError
from adbench.core.registry import unknown
from adbench.types import OnStep, ignore_step

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


def estimated(
    module: nn.Module, layers: Sequence[str] | None = None, measure: Measure | None = None, on_step: OnStep = ignore_step
) -> dict[str, EstimatedField]:
    """Return the estimated receptive fields of `layers` (None: all) from one forward pass.

    `module` is in evaluation mode and returns a dict of (1, C, h, w) maps. Its parameters are frozen meanwhile.

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
    the analytic field unless a global path passes the threshold. Raises UsageError for a layer that is not returned or is no
    feature map. `on_step` reports the forward pass (of 0 layers if `layers` is None) and each layer.
    """
    measure = measure or Measure()
    fields = {}
    with _frozen(module):
        pixels = _image(module, measure)
        on_step(0, len(layers or ()), f"forward pass at {measure.input_size} px")
        with LeanNorms():
            maps = module(pixels)
        layers = list(maps) if layers is None else layers
        for done, layer in enumerate(layers, 1):
            norms = _norms(_central_values(maps, layer), pixels, keep=done < len(layers))
            if measure.normalize == "max":
                norms /= max(norms.max(), _TINY)
            fields[layer] = EstimatedField(layer, *bounding_box(norms, measure.threshold, measure.margin), norms)
            on_step(done, len(layers), layer)
    return fields


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


def _image(module: nn.Module, measure: Measure) -> Tensor:
    parameter = next(module.parameters(), torch.empty(0))
    shape = (1, 3, measure.input_size, measure.input_size)
    generator = torch.Generator().manual_seed(_SEED)  # on the CPU, so that the image is the same on every device
    pixels = torch.zeros(shape) if measure.image == "zeros" else torch.randn(shape, generator=generator)
    return pixels.to(parameter.device, parameter.dtype).requires_grad_()


def _central_values(maps: dict[str, Tensor], layer: str) -> Tensor:
    """Return the (C,) values at the center of a layer's map."""
    if layer not in maps:
        raise unknown("layer", layer, maps, "layers BACKBONE")
    shape = tuple(maps[layer].shape)
    if len(shape) != 4 or shape[2] != shape[3]:
        raise UsageError(f"layer '{layer}' is no feature map (shape {shape}); choose one of (1, C, h, w)")
    return maps[layer][0, :, shape[2] // 2, shape[3] // 2]


def _norms(values: Tensor, pixels: Tensor, *, keep: bool) -> NDArray[np.float64]:
    """Return the (H, W) gradient norms of the pixels, in float64 because squares are as small as 1e-22."""
    signs = torch.randint(0, 2, values.shape, generator=torch.Generator().manual_seed(_SEED)) * 2 - 1
    (gradient,) = torch.autograd.grad((values * signs.to(values)).sum(), pixels, retain_graph=keep)
    return cast("NDArray[np.float64]", gradient[0].cpu().double().norm(dim=0).numpy())


@contextmanager
def _frozen(module: nn.Module) -> Iterator[None]:
    """Let no parameter require a gradient: each would keep its layer's input in memory."""
    trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in trainable:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trainable:
            parameter.requires_grad_(True)


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
    exact: dict[str, AnalyticField | None] = {}
    found: dict[str, EstimatedField] = {}
    for done, name in enumerate(names):
        on_step(done, len(names), f"receptive field of {name}")
        module = network.cut([name])
        exact[name] = _analytic(cast("GraphModule", module), name)
        found |= estimated(module, [name], measure)
    if drawn:
        figure([(found[name], exact[name]) for name in names], drawn, f"{description.backbone}, {network.weights.label} weights")
    facts = {"backbone": description.backbone, "weights": network.weights.label}
    rows = [_record(description, exact[name], found[name], sizes) for name in names]
    return facts | {"input_size": measure.input_size, "threshold": measure.threshold, "layers": rows}


def _analytic(module: GraphModule, name: str) -> AnalyticField | None:
    """Return the exact field, or None if the graph has an operation without a rule."""
    try:
        return analytic(module, [name])[name]
    except UsageError:
        return None


def _record(description: Description, exact: AnalyticField | None, found: EstimatedField, sizes: Sequence[int]) -> dict[str, Any]:
    layer, pixels = description.layer(found.layer), exact.size if exact else found.px
    return {
        "layer": found.layer,
        "channels": layer.channels,
        "stride": layer.stride,
        "analytic_px": exact.size if exact else None,
        "estimated_px": found.px,
        "bbox": list(found.bbox),
        "saturated": found.saturated,
        "rrf": {str(size): pixels / size for size in sizes},
    }
