"""Greedy farthest-point selection (k-center greedy), exact but with few passes over the points, and random projection."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adbench.types import OnStep, ignore_step

Points = NDArray[np.floating] | Tensor
BLOCK_ELEMENTS = 1 << 20  # of one block of a product, or of rows held in float64
TAKEN = -1.0  # the "distance" of a point that has been picked: below every real one
PROGRESS_REPORTS = 40


def greedy_coreset(
    points: Points,
    num_picks: int,
    start: int = 0,
    *,
    device: torch.device | str | None = None,
    on_step: OnStep = ignore_step,
) -> NDArray[np.int64]:
    """Return (num_picks,) int64: indices of `points` (N, d), `start` first, then always the point farthest from all picks."""
    rows = _checked(points, num_picks, start).to(device or "cpu")
    with torch.no_grad():
        return _Selection(rows, num_picks, start, on_step).run().cpu().numpy()


def project(points: Points, dim: int, seed: int) -> NDArray[np.float32]:
    """Return (N, dim) float32: `points` (N, d) times a Gaussian matrix / sqrt(dim) that `seed` decides.

    Points with d <= dim come back as they are: a projection pays only where it shrinks.
    """
    rows = torch.as_tensor(points).float()
    if rows.shape[1] > dim:
        draw = torch.Generator().manual_seed(seed)
        rows = rows @ torch.randn(rows.shape[1], dim, generator=draw).div_(math.sqrt(dim)).to(rows.device)
    return rows.cpu().numpy()


def _checked(points: Points, num_picks: int, start: int) -> Tensor:
    rows = torch.as_tensor(points)
    if rows.ndim != 2 or not rows.numel():
        raise ValueError(f"points must be a non-empty (N, d) array, not one of shape {tuple(rows.shape)}")
    if not 1 <= num_picks <= len(rows):
        raise ValueError(f"num_picks must be within 1..{len(rows)}, the number of points, not {num_picks}")
    if not 0 <= start < len(rows):
        raise ValueError(f"start must be within 0..{len(rows) - 1}, not {start}")
    rows = rows.detach().float().contiguous()
    if not bool(torch.isfinite(rows).all()):
        raise ValueError("points must be finite, but some are NaN or infinite")
    return rows


class _Selection:
    def __init__(self, rows: Tensor, num_picks: int, start: int, on_step: OnStep) -> None:
        self.rows, self.num_picks, self.on_step = rows, num_picks, on_step
        grid = 2.0 ** math.floor(math.log2(max(float(rows.abs().max()), 1e-30)) - 8)
        self.centre = (rows.mean(0, dtype=torch.float64) / grid).round() * grid
        self.picks = torch.full((num_picks,), start, device=rows.device)
        self.done = 1
        self.hold = 1024
        self._restart(torch.float32)

    def _restart(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.centred = self._exact(slice(None)).to(dtype) if dtype == torch.float32 else None
        self.norms = torch.cat([self._rows(b).square().sum(1) for b in self._blocks(64)])
        self.loose = torch.full_like(self.norms, torch.inf)
        self.nearest = torch.zeros_like(self.loose, dtype=torch.int64)
        d = self.rows.shape[1]
        unit = torch.finfo(dtype).eps / 2
        if dtype == torch.float32 and torch.get_float32_matmul_precision() != "highest":
            unit = 2.0**-8
        self.slack = 2 * (min(d, 8 * math.sqrt(d)) + 8) * unit * (self.norms + self.norms.max())
        for first in range(0, self.done, 256):
            self._update(first, min(first + 256, self.done))

    def _exact(self, index: slice | Tensor) -> Tensor:
        return self.rows[index].double() - self.centre

    def _rows(self, block: slice) -> Tensor:
        return self._exact(block) if self.centred is None else self.centred[block]

    def _blocks(self, width: int) -> list[slice]:
        step = max(1, BLOCK_ELEMENTS // max(width, self.rows.shape[1]))
        return [slice(i, i + step) for i in range(0, len(self.rows), step)]

    def _update(self, first: int, last: int) -> None:
        """Bring all distances up to date with the picks first..last-1."""
        new = self.picks[first:last]
        centres = self._exact(new).to(self.dtype)
        norms = centres.square().sum(1)
        for block in self._blocks(last - first):
            product = torch.addmm(norms, self._rows(block), centres.T, alpha=-2)
            value, which = product.min(1)
            value = (value + self.norms[block]).clamp_(min=0)
            closer = value < self.loose[block]
            self.loose[block] = torch.where(closer, value, self.loose[block])
            self.nearest[block] = torch.where(closer, new[which], self.nearest[block])
        self.loose[new] = -torch.inf

    def run(self) -> Tensor:
        while self.done < self.num_picks:
            top = float(self.loose.max())
            if float(self.slack.max()) > top / 256:
                if self.dtype == torch.float64:
                    self._plain()
                    break
                self._restart(torch.float64)
                continue
            first = self.done
            self._round()
            self._update(first, self.done)
            if self.done - first < 64:
                self.hold = min(self.hold * 2, 8192)
            elif self.done - first > 256:
                self.hold = max(self.hold // 2, 256)
            self.on_step(self.done, self.num_picks, "coreset")
        return self.picks

    def _round(self) -> None:
        bound = self.loose + self.slack
        level = float(bound.topk(min(self.hold, len(bound) - self.done)).values[-1])
        held, points, gap = self._hold(bound, level)
        if float(gap.max()) < level:
            level = float(gap.max())
            held, points, gap = self._hold(bound, level)
        norms = points.square().sum(1)
        while self.done < self.num_picks:
            far = gap.argmax()
            if gap[far] < level:
                return
            gap = torch.minimum(gap, torch.addmv(norms + norms[far], points, points[far], alpha=-2).clamp_(min=0))
            gap[far] = TAKEN
            self.picks[self.done] = held[far]
            self.done += 1

    def _hold(self, bound: Tensor, level: float) -> tuple[Tensor, Tensor, Tensor]:
        held = torch.nonzero(bound >= level)[:, 0]
        points = self._exact(held)
        return held, points, (points - self._exact(self.nearest[held])).square_().sum(1)

    def _plain(self) -> None:
        """Finish by the textbook loop in float64."""
        gap = torch.full((len(self.rows),), torch.inf, dtype=torch.float64, device=self.rows.device)
        for i in range(self.num_picks):
            if i >= self.done:
                if gap.max() <= 0:
                    free = torch.nonzero(gap > TAKEN)[:, 0]
                    self.picks[i:] = free[: self.num_picks - i]
                    break
                self.picks[i] = gap.argmax()
            pick = self._exact(self.picks[i : i + 1])
            for block in self._blocks(64):
                gap[block] = torch.minimum(gap[block], (self._exact(block) - pick).square_().sum(1))
            gap[self.picks[: i + 1]] = TAKEN
        self.done = self.num_picks
