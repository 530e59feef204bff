"""The receptive field of a layer as the paper estimates it: where the image's gradient is not negligible."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from adbench.backbones.receptive_field.fields import EstimatedField
from adbench.core.errors import UsageError
from adbench.core.registry import unknown
from adbench.types import OnStep, ignore_step

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.overrides import TorchFunctionMode

Normalize = Literal["max", "none"]
Image = Literal["noise", "zeros"]
_SEED = 0  # of the noise image and of the signs: the same network gives the same box


def estimated(
    module: nn.Module,
    layer: str,
    *,
    input_size: int = 1024,
    threshold: float = 1e-2,
    normalize: Normalize = "max",
    image: Image = "noise",
    margin: int = 16,
) -> EstimatedField:
    """Return the estimated receptive field of `layer`, a key of the dict of (1, C, h, w) maps that `module` returns.

    After Heckler, König and Bergmann (CVPRW 2023), supplement, section 1. Computed is exactly this: the input is one
    image x of 3 x input_size x input_size in the network's (normalised) input space, f the C values of the map at cell
    (h // 2, w // 2). g = gradient of sum_c s_c f_c with respect to x, s_c = +1 or -1 drawn once with a fixed seed. Each
    pixel's norm is the Euclidean one over the 3 colours of g. Norms (divided by their maximum) below `threshold`
    are clipped to 0, so are `margin` pixels along each border; the box bounds what is left, its longer side is the estimate.

    Where the paper leaves a choice, or where its words would measure nothing:

    - Signs, not a plain sum over channels: a sum cancels (that of a layer normalisation's output is constant); the
      expected square of the norm over such draws is that of the whole gradient of f, a (C, 3) matrix per pixel.
    - normalize="max" divides by the largest norm: at random weights it lies between 1e-12 (EfficientNet-B5) and 50
      (ResNets), and no absolute threshold fits both. "none" compares the norms as they are, as the paper says.
    - image="noise" is standard normal: with the paper's empty image ("zeros") a network of random weights has a gradient
      of 0, and tied maxima of a max pool shrink the box by up to 4 px.

    The estimate is an effective receptive field: it depends on the weights, grows with a smaller threshold and is at most the
    analytic one where no global path passes the threshold. `module` must be in evaluation mode; its parameters are frozen
    meanwhile. Raises UsageError for a layer that is not returned or is no feature map, and for options out of range.
    """
    return estimated_all(module, [layer], input_size=input_size, threshold=threshold, normalize=normalize,
                         image=image, margin=margin)[layer]  # fmt: skip


def estimated_all(
    module: nn.Module,
    layers: list[str] | None = None,
    *,
    input_size: int = 1024,
    threshold: float = 1e-2,
    normalize: Normalize = "max",
    image: Image = "noise",
    margin: int = 16,
    on_step: OnStep = ignore_step,
) -> dict[str, EstimatedField]:
    """Return the estimates of several layers (None: all that `module` returns) from one forward pass, see `estimated`.

    The graph is kept until the last backward pass. `on_step` hears of the forward pass (of 0 layers if `layers` is None, whose
    number is not known before it) and of each layer.
    """
    _check(input_size, threshold, normalize, image, margin)
    fields = {}
    with _frozen(module):
        pixels = _image(module, image, input_size)
        on_step(0, len(layers or ()), f"forward pass at {input_size} px")
        with _lean_norms():
            maps = module(pixels)
        layers = list(maps) if layers is None else layers
        for done, layer in enumerate(layers, 1):
            norms = _norms(_centre(maps, layer), pixels, keep=done < len(layers))
            if normalize == "max":
                norms /= max(norms.max(), np.finfo(np.float64).tiny)
            fields[layer] = EstimatedField(layer, *bounding_box(norms, threshold, margin), norms)
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


def _check(input_size: int, threshold: float, normalize: str, image: str, margin: int) -> None:
    if margin < 0 or input_size <= 2 * margin:
        raise UsageError(f"input size {input_size} leaves nothing between two margins of {margin} px; choose a larger one")
    if not threshold > 0:
        raise UsageError(f"threshold {threshold} keeps every pixel; choose one above 0")
    if normalize not in ("max", "none"):
        raise unknown("normalization", normalize, ["max", "none"])
    if image not in ("noise", "zeros"):
        raise unknown("image", image, ["noise", "zeros"])


def _image(module: nn.Module, kind: str, size: int) -> Tensor:
    import torch

    parameter = next(module.parameters(), torch.empty(0))
    shape = (1, 3, size, size)
    # drawn on the CPU, so that every device sees the same image
    pixels = torch.zeros(shape) if kind == "zeros" else torch.randn(shape, generator=torch.Generator().manual_seed(_SEED))
    return pixels.to(parameter.device, parameter.dtype).requires_grad_()


def _centre(maps: dict[str, Tensor], layer: str) -> Tensor:
    """Return the (C,) values at the centre of a layer's map."""
    if layer not in maps:
        raise unknown("layer", layer, maps, "layers BACKBONE")
    shape = tuple(maps[layer].shape)
    if len(shape) != 4 or shape[2] != shape[3]:
        raise UsageError(f"layer '{layer}' is no feature map (shape {shape}); choose one of (1, C, h, w)")
    return maps[layer][0, :, shape[2] // 2, shape[3] // 2]


def _norms(values: Tensor, pixels: Tensor, *, keep: bool) -> NDArray[np.float64]:
    """Return the (H, W) gradient norms of the pixels; squares of 1e-22 need float64."""
    import torch

    signs = torch.randint(0, 2, values.shape, generator=torch.Generator().manual_seed(_SEED)) * 2 - 1
    (gradient,) = torch.autograd.grad((values * signs.to(values)).sum(), pixels, retain_graph=keep)
    norms: NDArray[np.float64] = gradient[0].cpu().double().norm(dim=0).numpy()
    return norms


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


def _lean_norms() -> TorchFunctionMode:
    """Return a mode in which batch normalisation in evaluation is a multiplication and an addition of constants.

    torch's own keeps its input for the backward pass: 1.7 of EfficientNet-B5's 5.8 GB at 1024 px.
    """
    import torch
    from torch.nn import functional
    from torch.overrides import TorchFunctionMode

    class LeanNorms(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = kwargs or {}
            if func is not functional.batch_norm or len(args) != 3 or kwargs["training"] or kwargs["weight"] is None:
                return func(*args, **kwargs)
            x, mean, variance = args
            scale = kwargs["weight"] * torch.rsqrt(variance + kwargs["eps"])
            shift = kwargs["bias"] - mean * scale
            by_channel = (-1, *[1] * (x.dim() - 2))
            return (x * scale.view(by_channel)).add_(shift.view(by_channel))

    return LeanNorms()
