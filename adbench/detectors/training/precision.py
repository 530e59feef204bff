"""The precision of training. `bfloat16` computes the convolutions of subnets in it, and everything around them in float32.

A coupling is a density for any output of its subnet, so that rounding there costs fit, not exactness. Rounding elsewhere costs
both: parameters, Adam's state, the flow's z, log-determinants, losses, batch-norm parameters and statistics, and scores stay
float32. Hence no autocast around a whole step, whose list of float32 operations also differs between CPU and GPU.
"""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from adbench.detectors.search.bounds import has_bfloat16_tiles

PRECISIONS = ("float32", "bfloat16", "auto")
_FAST_SINCE = (8, 0)  # compute capability of the first NVIDIA GPUs that multiply bfloat16 (Ampere)


def chosen_precision(name: str, device: torch.device) -> torch.dtype:
    """Return the type that a precision means on a device; auto: bfloat16 where the hardware has units for its products."""
    if name != "auto":
        return torch.bfloat16 if name == "bfloat16" else torch.float32
    if device.type == "cuda":
        fast = torch.version.hip is not None or torch.cuda.get_device_capability(device) >= _FAST_SINCE
    else:
        fast = device.type == "cpu" and has_bfloat16_tiles()
    return torch.bfloat16 if fast else torch.float32


class Mixed(nn.Module):
    """A network of convolutions, (batch norms,) and activations that computes in `compute` and returns float32.

    Subclasses write `answer`; its maps (B, C, h, w) come in `compute`, channels last in memory if that is not float32. Inputs and
    outputs may be lists or tuples of tensors.
    """

    compute = torch.float32

    def answer(self, *inputs: Any) -> Any:
        """Return the output."""
        raise NotImplementedError

    def forward(self, *inputs: Any) -> Any:
        if self.compute == torch.float32:
            return self.answer(*inputs)
        lower = partial(_moved, kind=self.compute, layout=torch.channels_last)
        with torch.autocast(_first(inputs).device.type, self.compute):
            output = self.answer(*_each(lower, inputs))
        return _each(partial(_moved, kind=torch.float32, layout=torch.contiguous_format), output)


def _each(change: Callable[[Tensor], Tensor], values: Any) -> Any:
    """Return a tensor, or a list or tuple of them, changed; anything else as it is."""
    if isinstance(values, list | tuple):
        return type(values)(_each(change, value) for value in values)
    return change(values) if isinstance(values, Tensor) else values


def _moved(value: Tensor, kind: torch.dtype, layout: torch.memory_format) -> Tensor:
    if value.dim() == 4:
        return value.to(kind, memory_format=layout)
    return value.to(kind) if kind == torch.float32 else value  # factors stay as they are


def _first(values: Any) -> Tensor:
    """Return the first tensor."""
    return values if isinstance(values, Tensor) else _first(values[0])


def in_float32(network: nn.Module, x: Tensor) -> Tensor:
    """Return a network's output computed in float32, inside `answer`: of a last layer whose rounding would make scores tie."""
    without = nullcontext() if x.is_meta else torch.autocast(x.device.type, enabled=False)  # there is none on "meta"
    with without:
        return cast(Tensor, network(x.float()))


def set_precision(networks: nn.Module, compute: torch.dtype) -> None:
    """Let all `Mixed` parts compute in a type. Their parameters stay float32, channels last in memory below that."""
    for network in networks.modules():
        if isinstance(network, Mixed):
            network.compute = compute
            network.to(memory_format=torch.contiguous_format if compute == torch.float32 else torch.channels_last)
