"""The precision of training. `bfloat16` computes the convolutions of subnets in it, and everything around them in float32.

A coupling is a density for any output of its subnet, so that rounding there costs fit, not exactness. Rounding elsewhere costs
both: parameters, Adam's state, the flow's z, log-determinants, losses, batch-norm parameters and statistics, and scores stay
float32. Hence no autocast around a whole step, whose list of float32 operations also differs between CPU and GPU.
"""

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

    Subclasses write `answer`; its maps (B, C, h, w) come in `compute`, channels last in memory if that is not float32.
    """

    compute = torch.float32

    def answer(self, *inputs: Any) -> Tensor:
        """Return the output."""
        raise NotImplementedError

    def forward(self, *inputs: Any) -> Tensor:
        if self.compute == torch.float32:
            return self.answer(*inputs)
        inputs = tuple(self._lower(value) if isinstance(value, Tensor) and value.dim() == 4 else value for value in inputs)
        with torch.autocast(inputs[0].device.type, self.compute):
            output = self.answer(*inputs)
        return output.to(torch.float32, memory_format=torch.contiguous_format)

    def _lower(self, maps: Tensor) -> Tensor:
        return maps.to(self.compute, memory_format=torch.channels_last)


class Chain(Mixed, nn.Sequential):
    """Modules in a row, computed as a `Mixed` network."""

    def answer(self, *inputs: Any) -> Tensor:
        return cast(Tensor, nn.Sequential.forward(self, *inputs))  # type: ignore[no-untyped-call]


def set_precision(networks: nn.Module, compute: torch.dtype) -> None:
    """Let all `Mixed` parts compute in a type. Their parameters stay float32, channels last in memory below that."""
    for network in networks.modules():
        if isinstance(network, Mixed):
            network.compute = compute
            network.to(memory_format=torch.contiguous_format if compute == torch.float32 else torch.channels_last)
