"""Convolutions for inference: with the batch norm behind them folded in, and on a CPU with their activation as well.

Folding: Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference"
(CVPR 2018), section 3.2. It moves features by rounding, some 1e-6 of a layer's largest value.
"""

from __future__ import annotations

import copy
import threading
from typing import TypeGuard

import torch
from torch import Tensor, nn

Activation = tuple[str, list[float]]  # oneDNN's name and constants
NO_ACTIVATION: Activation = ("none", [])
_NAMES: dict[type, str] = {nn.ReLU: "relu", nn.SiLU: "swish", nn.Hardswish: "hardswish"}


def is_plain_norm(module: object) -> TypeGuard[nn.BatchNorm2d]:
    """Return whether a module is a batch norm with fixed statistics, perhaps with an activation behind it (timm's)."""
    known = type(module) is nn.BatchNorm2d or type(module).__name__ == "BatchNormAct2d"
    return known and getattr(module, "running_mean", None) is not None


def is_plain_convolution(module: object) -> TypeGuard[nn.Conv2d]:
    """Return whether a module is a convolution with the weights that it has (not standardised, say), padded with zeros."""
    if type(module) is not nn.Conv2d and type(module).__name__ != "Conv2dSame":
        return False
    return isinstance(module, nn.Conv2d) and module.padding_mode == "zeros" and not isinstance(module.padding, str)


def folded(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    """Return one convolution that does what both do; its weights are computed in float64."""
    assert norm.running_mean is not None and norm.running_var is not None  # noqa: S101  a plain norm
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.affine:
        scale = scale * norm.weight.double()
    shift = -norm.running_mean.double() * scale
    if conv.bias is not None:
        shift = shift + conv.bias.double() * scale
    if norm.affine:
        shift = shift + norm.bias.double()
    result = copy.copy(conv)
    result._parameters = dict(conv._parameters)  # or the new ones would be those of `conv` too
    result.weight = nn.Parameter((conv.weight.double() * scale.view(-1, 1, 1, 1)).float())
    result.bias = nn.Parameter(shift.float())
    return result


def has_fused_convolutions() -> bool:
    """Return whether torch has oneDNN's convolution with an activation behind it, which torch's compiler uses too."""
    here: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return here and hasattr(torch.ops.mkldnn, "_convolution_pointwise")


def activation_of(module: nn.Module | None) -> Activation | None:
    """Return what oneDNN calls an activation, or None if it has none that is the same."""
    if isinstance(module, nn.Hardtanh):  # ReLU6 is one
        return ("hardtanh", [module.min_val, module.max_val])
    name = _NAMES.get(type(module))
    return (name, []) if name else None


class FusedConvolution(nn.Module):
    """A convolution and its activation as one operation, with weights laid out once, for the first input's shape."""

    def __init__(self, conv: nn.Conv2d, activation: Activation) -> None:
        super().__init__()
        self.same = type(conv).__name__ == "Conv2dSame"  # pads by the input's size, as TensorFlow does
        self.kernel = list(conv.kernel_size)
        self.geometry = (list(conv.padding), list(conv.stride), list(conv.dilation), conv.groups)
        self.activation = activation
        self.weight, self.bias = conv.weight.detach(), None if conv.bias is None else conv.bias.detach()
        self._laid_out, self._lock = False, threading.Lock()

    def forward(self, x: Tensor) -> Tensor:
        """Return the activated convolution of (B, C, H, W)."""
        if self.same:
            x = self._padded(x)
        name, constants = self.activation
        result: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x, self._weight(x), self.bias, *self.geometry, name, constants, ""
        )
        return result

    def _padded(self, x: Tensor) -> Tensor:
        from timm.layers.padding import pad_same

        _, stride, dilation, _ = self.geometry
        padded: Tensor = pad_same(x, self.kernel, stride, dilation)
        return padded

    def _weight(self, x: Tensor) -> Tensor:
        with self._lock:  # passes run side by side
            if not self._laid_out:
                self.weight = torch.ops.mkldnn._reorder_convolution_weight(self.weight, *self.geometry, list(x.shape))
                self._laid_out = True
            return self.weight
