"""Receptive fields of a backbone's layers: estimated from gradients as in the paper, next to the exact ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import checkpoint

from adbench.backbones.families import Size
from adbench.backbones.layers import Description, Layer, parse_layers, size_within
from adbench.backbones.network import Network
from adbench.backbones.receptive_field.graph import AnalyticField, activation_bytes, analytic
from adbench.backbones.stages import Stages
from adbench.core.environment import memory_bytes
from adbench.core.errors import UsageError
from adbench.core.memo import Memo, code_and_libraries
from adbench.core.registry import unknown
from adbench.types import OnStep, digest, ignore_step

OBJECTIVES = ("signs", "sum", "mean")  # over the channels of the central cell
_PAPER_PX = 1024  # side of the paper's image
_MARGIN = 16  # px
_STEP = 64  # px; a multiple of the strides, so that the central cells of images of several sizes see the same pixels
_SURELY = 256  # px; a side whose passes fit into the memory of every machine that runs networks
_SEED = 0  # of the noise image and of the signs: the same network gives the same box
_TINY = np.finfo(np.float64).tiny


@dataclass(frozen=True)
class Measure:
    """The options of `estimated`. Raises UsageError for a value out of range."""

    input_size: int | Size = _PAPER_PX  # of a square, or (height, width)
    threshold: float = 1e-2
    normalize: str = "max"
    image: str = "noise"
    margin: int = _MARGIN
    objective: str = "signs"

    def __post_init__(self) -> None:
        if self.margin < 0 or min(self.size) <= 2 * self.margin:
            raise UsageError(
                f"input size {min(self.size)} leaves nothing between two margins of {self.margin} px; choose a larger one"
            )
        if not self.threshold > 0:
            raise UsageError(f"threshold {self.threshold} keeps every pixel; choose one above 0")
        if self.normalize not in ("max", "none"):
            raise unknown("normalization", self.normalize, ["max", "none"])
        if self.image not in ("noise", "zeros"):
            raise unknown("image", self.image, ["noise", "zeros"])
        if self.objective not in OBJECTIVES:
            raise unknown("objective", self.objective, OBJECTIVES)

    @property
    def size(self) -> Size:
        """(height, width) of the input."""
        return self.input_size if isinstance(self.input_size, tuple) else (self.input_size, self.input_size)


@dataclass(frozen=True)
class EstimatedField:
    """The box of input pixels whose gradient norm reaches the threshold, see `estimated`; all lengths in input pixels.

    bbox: x0, y0, x1, y1 with x1 and y1 exclusive; (0, 0, 0, 0) if no pixel reaches the threshold.
    saturated: the box touches the ignored margin, so the true field may be larger.
    gradient: (H, W) float64 norms as compared with the threshold, before clipping, margin included.
    everywhere: the gradient is above 0 at every pixel, as behind attention over the whole image.
    """

    layer: str
    bbox: tuple[int, int, int, int]
    saturated: bool
    gradient: NDArray[np.float64] = field(repr=False, compare=False)
    everywhere: bool = False

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
    and g the gradient of sum_c s_c f_c with respect to x, where the signs s_c = +1 or -1 are drawn once with a fixed seed
    (objective "signs"), all s_c are 1 ("sum"), or all are 1 / C ("mean").
    The norm of a pixel is the Euclidean norm over the 3 colors of g, divided by the largest norm. Norms below `threshold` and
    `margin` pixels along each border are set to 0. The box bounds the rest, and its longer side is the estimate.

    Where the paper leaves a choice, or where its words would measure nothing:

    - Signs instead of a plain sum over channels: a sum cancels (that of a layer normalization's output is constant). The
      expected squared norm over such draws is that of the whole gradient of f, a (C, 3) matrix per pixel.
      The paper does not state its objective.
    - normalize="max" divides by the largest norm: at random weights it is between 1e-12 (EfficientNet-B5) and 50 (ResNets),
      and no absolute threshold fits both. "none" compares the norms without division, as the paper says.
    - image="noise" is standard normal. With the paper's empty image ("zeros"), a network of random weights has a gradient of
      0, and tied maxima of a max pool shrink the box by up to 4 px.

    The estimate is an effective receptive field: it depends on the weights, grows with a smaller threshold, and is at most
    the analytic field unless a global path passes the threshold.
    """
    return next(_estimates(module, [layer], measure))


def _estimates(module: nn.Module, layers: Sequence[str], measure: Measure) -> Iterator[EstimatedField]:
    """Yield what `estimated` returns for each layer, after one forward pass for all of them."""
    pixels = _image(measure).requires_grad_()
    with LeanNorms(), _recomputed(module):
        maps = module(pixels)
        for layer in layers:
            values = maps[layer][0, :, maps[layer].shape[2] // 2, maps[layer].shape[3] // 2]
            objective = (values * _factors(measure.objective, len(values))).sum()
            (gradient,) = torch.autograd.grad(objective, pixels, retain_graph=layer != layers[-1])
            norms = cast("NDArray[np.float64]", gradient[0].double().norm(dim=0).numpy())  # squares are as small as 1e-22
            everywhere = bool((norms > 0).all())
            if measure.normalize == "max":
                norms /= max(norms.max(), _TINY)
            yield EstimatedField(layer, *bounding_box(norms, measure.threshold, measure.margin), norms, everywhere)


def _image(measure: Measure) -> Tensor:
    """Return the image (1, 3, H, W); noise below the paper's size is the middle of that at the paper's size."""
    size, side = measure.size, max(*measure.size, _PAPER_PX)
    if measure.image == "zeros":
        return torch.zeros(1, 3, *size)
    noise = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(_SEED))
    top, left = ((side - length) // 2 for length in size)
    return noise[..., top : top + size[0], left : left + size[1]].contiguous()


def _factors(objective: str, channels: int) -> Tensor:
    """Return the factor (C,) of each channel's value."""
    if objective == "signs":
        return torch.randint(0, 2, (channels,), generator=torch.Generator().manual_seed(_SEED)) * 2 - 1
    return torch.full((channels,), 1 / channels if objective == "mean" else 1.0)


@contextmanager
def _recomputed(module: nn.Module) -> Iterator[None]:
    """Let the blocks of a transformer keep their input only, and compute the rest again in the backward pass.

    ViT-B at 1024 px then takes 0.4 GB at its first block and 0.03 GB for each further one, and 1.0 GB with patches of 8 px.
    """
    blocks = list(_blocks(module)) if isinstance(module, Stages) else []
    for block in blocks:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False, preserve_rng_state=False)
    try:
        yield
    finally:
        for block in blocks:
            del block.forward  # the one of its class


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the parts that a network repeats: members of its innermost lists and sequences that have parts themselves."""
    members = [part for part in module.children() if isinstance(module, nn.ModuleList | nn.Sequential) and [*part.children()]]
    for part in module.children():
        inner = list(_blocks(part))
        yield from inner or ([part] if part in members else [])


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
    memo: Path | None = None,
    on_step: OnStep = ignore_step,
) -> dict[str, Any]:
    """Return a record of the receptive fields of `layers` (default: all main stages), shallow first; `drawn`: a figure's path.

    The image has the largest size up to that of `measure` that the network takes. memo: the folder that describes backbones.
    Raises UsageError for an unknown layer.
    """
    names = [name for text in layers for name in parse_layers(text, description)] or list(description.stages)
    measure = replace(measure, input_size=size_within(description, measure.size[0], memo))
    fields: list[tuple[EstimatedField, AnalyticField | None]] = []
    for done, (found, module) in enumerate(_each(network, names, measure), 1):
        fields.append((found, _exact(module, found.layer)))
        on_step(done, len(names), f"receptive field of {found.layer}")
    if drawn:
        from adbench.backbones.receptive_field.figure import figure

        figure(fields, drawn, f"{description.backbone}, {network.weights.label} weights, {measure.input_size} px")
    facts = {"backbone": description.backbone, "weights": network.weights.label}
    facts |= {name: getattr(measure, name) for name in ("input_size", "threshold", "objective", "margin")}
    return facts | {"layers": [_record(description.layer(found.layer), found, exact, sizes) for found, exact in fields]}


def _each(network: Network, layers: Sequence[str], measure: Measure) -> Iterator[tuple[EstimatedField, nn.Module]]:
    """Yield the estimate of each layer and the module that computes it; one forward pass serves all layers."""
    module = network.cut(layers, measure.size)
    if isinstance(module, GraphModule):
        _return_copies(module)
    yield from ((found, module) for found in _estimates(module, layers, measure))


def _return_copies(module: GraphModule) -> None:
    """Let a graph return copies of its layers' maps: an operation in place behind a layer would change the map."""
    output = next(node for node in module.graph.nodes if node.op == "output")
    copies = {}
    for layer, node in cast("dict[str, Node]", output.args[0]).items():
        with module.graph.inserting_after(node):
            copies[layer] = module.graph.call_method("clone", (node,))
    output.args = (copies,)
    module.recompile()


def _exact(module: nn.Module, layer: str) -> AnalyticField | None:
    """Return the analytic field; None for what is no graph, has an operation without a rule, or runs at one size only."""
    with suppress(UsageError, RuntimeError, AssertionError):
        return analytic(module, [layer])[layer] if isinstance(module, GraphModule) else None
    return None


def remembered(
    network: Network, layers: Sequence[str], known: Mapping[str, int], size: Size, folder: Path,
    on_step: OnStep = ignore_step,
) -> dict[str, int]:  # fmt: skip
    """Return the estimated receptive field of each layer, as `estimated` does it; `folder` keeps it for later processes.

    known: the analytic fields. A layer that has one is measured for images of 1024 px, as in the paper: its field is the same at
    every image size. The image is only as large as the field needs, up to 1024 px: pixels outside the analytic field have no
    gradient. (Squeeze-excitation, which the analytic field ignores, averages over that smaller image.) If a network would take
    more than half of this machine's memory, the image's side is halved.

    Behind attention over the whole image a field grows with the image, and at 1024 px one layer of ViT-B would take minutes: a
    layer without an analytic field is measured at the input size (height, width) of the job, without a margin.

    One thread, so that the same bits come out in every process of a machine.
    """
    question = digest([network.backbone, network.weights.sha256])
    memo, sides = Memo(folder / f"{question}.json", code_and_libraries()), dict[str, tuple[int | Size, int]]()
    whole: int | Size = size[0] if size[0] == size[1] else size
    for layer in layers:
        sides[layer] = (_side(known[layer]), _MARGIN) if layer in known else (whole, 0)
    missing = [layer for layer, side in sides.items() if memo.get([layer, *side]) is None]
    threads, done = torch.get_num_threads(), 0
    torch.set_num_threads(1)
    try:
        for side, margin in dict.fromkeys(sides[layer] for layer in missing):
            own = [layer for layer in missing if sides[layer] == (side, margin)]
            on_step(done, len(missing), f"receptive fields of {network.backbone}")
            for found, _ in _each(network, own, Measure(_within_memory(network, own, side), margin=margin)):
                memo.put([found.layer, side, margin], found.px)
                on_step(done := done + 1, len(missing), f"receptive fields of {network.backbone}")
    finally:
        torch.set_num_threads(threads)
    memo.write()
    return {layer: memo.get([layer, *side]) for layer, side in sides.items()}


def _side(field: int) -> int:
    """Return the side of an image that an analytic field, wherever its center lies within a cell, fits into."""
    return min(_PAPER_PX, _STEP * -(-(field + 2 * _MARGIN + _STEP) // _STEP))


def _within_memory(network: Network, layers: Sequence[str], side: int | Size) -> int | Size:
    """Return the side of a square, halved until the maps of a pass take less than half of the memory; other sizes as they are."""
    if isinstance(side, tuple) or side <= _SURELY:
        return side
    module = network.cut(layers, (side, side))
    while isinstance(module, GraphModule) and side > 2 * _STEP and activation_bytes(module, side) > memory_bytes() / 2:
        side //= 2
    return side


def _record(layer: Layer, found: EstimatedField, exact: AnalyticField | None, sizes: Sequence[int]) -> dict[str, Any]:
    return {
        "layer": layer.name,
        "channels": layer.channels,
        "stride": layer.stride,
        "analytic_px": exact.size if exact else None,
        "every_pixel": found.everywhere and not exact,
        "estimated_px": found.px,
        "bbox": list(found.bbox),
        "saturated": found.saturated,
        "rrf": {str(size): found.px / size for size in sizes},
    }
