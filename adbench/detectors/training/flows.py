"""Invertible networks on feature maps, shared by the detectors that train one.

Every step maps (B, C, h, w) to the same shape and gives log |det J| per location, (B, h, w): all couplings here scale
channel by channel, so that the determinant is a product over locations and the map's sum is the image's total.
"""

import math
from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adbench.detectors.training.precision import Mixed


def position_map(channels: int, height: int, width: int) -> Tensor:
    """Return (channels, h, w): sines and cosines of x in the first half of the channels, of y in the second.

    As AST does it (Vaswani et al., 2017, in two dimensions); base 10000, `channels` a multiple of 4.
    """
    half = channels // 2
    rates = torch.exp(torch.arange(0, half, 2) * -(math.log(10000.0) / half))
    angles = (rates[:, None] * torch.arange(size) for size in (width, height))
    across, down = (torch.stack([angle.sin(), angle.cos()], dim=1).flatten(0, 1) for angle in angles)
    return torch.cat([across[:, None].expand(-1, height, -1), down[:, :, None].expand(-1, -1, width)])


def pad_by_edge(x: Tensor, by: int) -> Tensor:
    """Repeat the edge cells `by` times on every side; unlike F.pad's, its gradient is deterministic on a GPU."""
    if by == 0:
        return x
    if x.is_contiguous():
        return _pad(_pad(x, by, 3), by, 2)
    return _pad(_pad(x.permute(0, 2, 3, 1), by, 2), by, 1).permute(0, 3, 1, 2)  # keeps channels last in memory


def _pad(x: Tensor, by: int, dim: int) -> Tensor:
    size = [-1] * x.dim()
    size[dim] = by
    first, last = x.narrow(dim, 0, 1), x.narrow(dim, x.shape[dim] - 1, 1)
    return torch.cat([first.expand(size), x, last.expand(size)], dim)


class Permutation(nn.Module):
    """A fixed random order of the channels, by index (a C x C matrix would cost 2 x 16.8 MB and a product at C = 2048)."""

    order: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("order", torch.randperm(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x.index_select(1, self.order)


class Subnet(Mixed):
    """k x k convolution, ReLU, k x k convolution, with zeros or repeated edges around."""

    def __init__(self, inputs: int, hidden: int, outputs: int, kernel: int, repeat_edges: bool = False) -> None:
        super().__init__()
        self.repeated, self.zeros = (kernel // 2, 0) if repeat_edges else (0, kernel // 2)
        self.first = nn.Conv2d(inputs, hidden, kernel, padding=self.zeros)
        self.second = nn.Conv2d(hidden, outputs, kernel, padding=self.zeros)

    def answer(self, x: Tensor, factor: Tensor | float) -> Tensor:
        """Return the output times `factor`. The last weights are multiplied by it: they are fewer than the values."""
        hidden = F.relu(self.first(pad_by_edge(x, self.repeated)), inplace=True)
        weight, bias = factor * self.second.weight, factor * cast(Tensor, self.second.bias)
        return F.conv2d(pad_by_edge(hidden, self.repeated), weight, bias, padding=self.zeros)


class _Coupling(torch.autograd.Function):
    """What a one-sided step does with its subnet's output, with gradients by hand: fewer passes over memory, the same bits.

    Each pass costs about as much as a convolution's product in bfloat16.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, a: Tensor, scale: Tensor, offset: Tensor, order: Tensor, clamp: float) -> Any:
        """Return y and the sum over channels of the log scales of x2."""
        half = a.shape[1] // 2
        tanh = torch.tanh(a[:, :half])
        logs = clamp * tanh
        logdet, factor = logs.sum(dim=1), logs.exp_()
        moved = torch.empty_like(x)
        moved[:, :-half] = x[:, :-half]
        torch.addcmul(a[:, half:], x[:, -half:], factor, out=moved[:, -half:])
        y = moved.index_select(1, order)
        torch.addcmul(offset.index_select(1, order), y, scale.index_select(1, order), out=y)
        ctx.save_for_backward(x, tanh, factor, moved, scale, order)
        ctx.clamp = clamp
        return y, logdet

    @staticmethod
    def backward(ctx: Any, of_y: Tensor, of_logdet: Tensor) -> Any:
        """Return the gradients of x (but through a), a, scale and offset."""
        x, tanh, factor, moved, scale, order = ctx.saved_tensors
        half = factor.shape[1]
        of_x = of_y.index_select(1, order.argsort())
        of_offset = of_x.sum((0, 2, 3), keepdim=True)
        of_scale = (moved * of_x).sum((0, 2, 3), keepdim=True)
        of_moved = of_x.mul_(scale)[:, -half:]
        of_a = of_x.new_empty(len(x), 2 * half, *x.shape[2:])
        of_tanh = torch.mul(of_moved, x[:, -half:], out=of_a[:, :half])
        of_tanh.mul_(factor).add_(of_logdet[:, None]).mul_(ctx.clamp)
        torch.ops.aten.tanh_backward.grad_input(of_tanh, tanh, grad_input=of_tanh)
        of_a[:, half:] = of_moved
        of_moved.mul_(factor)
        return of_x, of_a, of_scale, of_offset, None, None


class OneSidedStep(nn.Module):
    """FastFlow's step: x1 (the first C - C//2 channels) transforms x2, then a scale and offset per channel, then a permutation.

    a = 0.1 subnet(x1);  x2' = x2 exp(clamp tanh(a_s)) + a_t;  y = P([x1, x2'] * scale + offset), where
    scale = 0.1 softplus(g, beta=0.5) starts as 1 and offset as 0.
    """

    def __init__(self, channels: int, hidden_ratio: float, kernel: int, clamp: float) -> None:
        super().__init__()
        self.moved, self.clamp = channels // 2, clamp
        fixed = channels - self.moved
        self.subnet = Subnet(fixed, max(1, int(fixed * hidden_ratio)), 2 * self.moved, kernel)
        self.scale_raw = nn.Parameter(torch.full((1, channels, 1, 1), 2 * math.log(math.expm1(5.0))))
        self.offset = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.permutation = Permutation(channels)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        a, scale = self.subnet(x[:, : -self.moved], 0.1), 0.1 * F.softplus(self.scale_raw, beta=0.5)
        y, logdet = _Coupling.apply(x, a, scale, self.offset, self.permutation.order, self.clamp)
        return y, logdet + scale.log().sum()


class TwoSidedStep(nn.Module):
    """AST's step: a permutation, then each half transforms the other, both conditioned on the position map `where`.

    y1 = x1 exp(l(s2)) + t2 with (s2, t2) = gamma2 N2(x2, where);  y2 = x2 exp(l(s1)) + t1 with (s1, t1) = gamma1 N1(y1,
    where);  l(s) = clamp 0.636 atan(s / clamp). The gammas start as 0: the step starts as the bare permutation.
    """

    def __init__(self, channels: int, hidden: int, kernel: int, clamp: float, positions: int) -> None:
        super().__init__()
        self.sizes, self.clamp = [channels // 2, channels - channels // 2], clamp
        first, second = self.sizes
        self.permutation = Permutation(channels)
        self.subnet1 = Subnet(first + positions, hidden, 2 * second, kernel, repeat_edges=True)
        self.subnet2 = Subnet(second + positions, hidden, 2 * first, kernel, repeat_edges=True)
        self.gamma1, self.gamma2 = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))

    def _move(self, subnet: nn.Module, gamma: Tensor, x: Tensor, where: Tensor) -> tuple[Tensor, Tensor]:
        conditioned = torch.cat([x, where.expand(len(x), -1, -1, -1)], dim=1)
        logs, shift = subnet(conditioned, gamma).chunk(2, dim=1)
        return self.clamp * 0.636 * torch.atan(logs / self.clamp), shift

    def forward(self, x: Tensor, where: Tensor) -> tuple[Tensor, Tensor]:
        x1, x2 = self.permutation(x).split(self.sizes, dim=1)
        logs2, shift2 = self._move(self.subnet2, self.gamma2, x2, where)
        y1 = torch.addcmul(shift2, x1, logs2.exp())
        logs1, shift1 = self._move(self.subnet1, self.gamma1, y1, where)
        y = torch.cat([y1, torch.addcmul(shift1, x2, logs1.exp())], dim=1)
        return y, logs1.sum(dim=1) + logs2.sum(dim=1)


class Flow(nn.Module):
    """Steps one after the other, each with the same conditions."""

    def __init__(self, steps: Iterable[nn.Module]) -> None:
        super().__init__()
        self.steps = nn.ModuleList(steps)

    def forward(self, x: Tensor, *conditions: Tensor) -> tuple[Tensor, Tensor]:
        """Return z (B, C, h, w) and log |det dz/dx| per location (B, h, w)."""
        total = x.new_zeros(len(x), *x.shape[2:])
        for step in self.steps:
            x, logdet = step(x, *conditions)
            total = total + logdet
        return x, total


def negative_log_likelihood(z: Tensor, logdet: Tensor) -> Tensor:
    """Return 0.5 sum_C z^2 - log |det J| per location, (B, h, w): the negative log-density without its constant."""
    return 0.5 * z.square().sum(dim=1) - logdet
