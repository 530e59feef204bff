"""Greedy farthest-point selection (k-center greedy), exact but with few passes over the points, and random projection.

Sources: Sener and Savarese, "Active Learning for Convolutional Neural Networks: A Core-Set Approach" (ICLR 2018),
algorithm 1; Roth et al., "Towards Total Recall in Industrial Anomaly Detection" (PatchCore, CVPR 2022), algorithm 1.
Deviations: the first pick is a given index, not an arbitrary point or the one of the largest norm; nothing is projected
unless the caller does so; the official code's approximation (anchor distances from ten random points) is not used.

The textbook loop reads all points once per pick and is bound by memory; `SelectionOnCpu` and coreset_gpu.py are not.
"""

import math
from abc import ABC, abstractmethod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adbench.core.threads import Spread, workers
from adbench.detectors.search.bounds import PRECISIONS, are_fast
from adbench.detectors.search.nearest import Rows, as_float32
from adbench.types import OnStep, ignore_step

SAMPLE = 8192  # points that tell a level


class Rounds(ABC):
    """The picks so far, and how many points a round means to hold.

    held: fewest, first and most of them; the number is doubled or halved where a round's picks are outside of `wanted`.
    """

    def __init__(self, points: Tensor, num_picks: int, start: int, held: tuple[int, int, int], wanted: tuple[int, int]) -> None:
        self.picks = torch.full((num_picks,), start, dtype=torch.int64, device=points.device)
        self.num_picks, self.done, self.held = num_picks, 1, held[1]
        self._fewest, _, self._most = held
        self._wanted = wanted

    def run(self, on_step: OnStep) -> Tensor:
        """Return the picks (num_picks,) in order."""
        while self.done < self.num_picks:
            before = self.done
            self._round()
            picked = self.done - before
            if picked < self._wanted[0]:
                self.held = min(2 * self.held, self._most)
            elif picked > self._wanted[1]:
                self.held = max(self.held // 2, self._fewest)
            on_step(self.done, self.num_picks, "coreset")
        return self.picks

    @abstractmethod
    def _round(self) -> None:
        """Pick as long as no point outside of those held can be the farthest, if any."""

    def _level(self, bound: Tensor) -> float:
        """Return about the `held`-th largest bound; any level gives the same picks, so a sample will do for it."""
        stride = max(1, len(bound) // SAMPLE) if 2 * self.done < len(bound) else 1
        wanted = min(-(-self.held // stride), (len(bound) - self.done) // stride)
        return float(bound[::stride].topk(max(1, wanted)).values[-1])


HELD, PICKS = ((256, 1024, 8192), (96, 384))  # fewest, first and most points that a round means to bring up to date: it is
AMONG = 1024  # doubled or halved where a round's picks are outside of PICKS; most points that a round picks among
ROWS, CHUNK = (1024, 256)  # most points and picks of one product, which stays in the L2 cache; few shapes, as each is prepared
WASTE = 1 / 32  # share of bounds that leave a distance to compute, above which the next precision is faster


class SelectionOnCpu(Rounds):
    """The state of a selection among points (N, d) float32.

    gap (N,): squared distance to the nearest of the first `seen` (N,) picks, float64, -inf once picked.
    """

    def __init__(self, points: Tensor, num_picks: int, start: int, spread: Spread) -> None:
        from adbench.detectors.search import kernels as coreset  # slow to import
        from adbench.detectors.search import kernels as factors

        super().__init__(points, num_picks, start, HELD, PICKS)
        self.loops, self.factors, self.points, self.spread = coreset, factors, points.numpy(), spread
        self.gap, self.seen = torch.empty(len(points), dtype=torch.float64), torch.ones(len(points), dtype=torch.int64)
        gap = self.gap.numpy()
        parts = range(0, len(points), ROWS)
        spread(lambda first: coreset.distances_to(self.points, start, gap, first, min(first + ROWS, len(gap))), parts)
        self.centre = points.mean(0)
        self.longest = float((points[start] - self.centre).double().norm() + self.gap.max().sqrt())
        self.gap[start] = -math.inf
        self._turn_to(0 if are_fast() else 1)

    def _turn_to(self, precision: int) -> None:
        """Compute bounds in another precision."""
        self.precision, self.kind = precision, PRECISIONS[precision]
        chunks = -(-self.num_picks // CHUNK)
        dim = self.points.shape[1]
        self.columns = dim + (2 * self.factors.PIECES if self.kind.drop else 2)
        self.right = torch.zeros(chunks, self.columns, CHUNK, dtype=self.kind.dtype)
        self.right[:, dim] = math.inf  # until there is a pick
        self.lost = 0.0
        self._append(0)

    def _append(self, first: int) -> None:
        """Add the picks from a number on to the factor of the products."""
        for start in range(first - first % CHUNK, self.done, CHUNK):
            picks = self.picks[max(first, start) : min(start + CHUNK, self.done)]
            factor, near, _ = self._factor(picks, is_left=False)
            self.lost = max(self.lost, float(near.max()))
            self.right[start // CHUNK, :, max(first, start) - start :][:, : len(picks)] = factor[: len(picks)].T

    def _factor(self, rows: Tensor, is_left: bool) -> tuple[Tensor, NDArray[np.float32], NDArray[np.float32]]:
        """Return a factor of products (>= R, columns), what rounding took of each point, and what it takes of products, (R,)."""
        size = max(128, 1 << (len(rows) - 1).bit_length())
        factor = torch.empty(size, self.columns, dtype=self.kind.dtype)
        factor[len(rows) :] = 0
        norms, lost = np.empty(len(rows), np.float32), np.zeros(len(rows), np.float32)
        if self.kind.drop:
            half = factor.view(torch.int16).numpy().view(np.uint16)
            self.factors.half_factors(self.points, rows.numpy(), self.centre.numpy(), is_left, half, norms, lost)
        else:
            centre = self.centre.to(self.kind.dtype).numpy()
            self.factors.whole_factors(self.points, rows.numpy(), centre, is_left, factor.numpy(), norms)
        return factor, lost, self.kind.slack(norms, self.longest, self.columns)

    def _bits(self, left: Tensor, right: Tensor) -> NDArray[np.signedinteger]:
        return (left @ right).view(self.kind.bits).numpy()

    def _round(self) -> None:
        """Pick as long as no point outside of those held can be the farthest."""
        level = max(0.0, self._level(self.gap))
        self._refresh(level)
        held, level = self._hold(level)
        if not len(held):  # all that reached the level were out of date: the next round's level is lower
            return
        left, near, slack = self._factor(held, is_left=True)
        right, near_too, _ = self._factor(held, is_left=False)
        values = self._bits(left, right.T)
        gap = np.full(len(values), -math.inf)
        gap[: len(held)] = self.gap[held]
        order = np.empty(self.num_picks - self.done, np.int64)
        near += near_too.max()
        found = self.loops.pick(values, self.points, held.numpy(), near, slack, *self.kind.limits(), gap, level, order)
        first, self.done = self.done, self.done + found
        self.picks[first : self.done] = held[order[:found]]
        self.gap[held], self.seen[held] = torch.from_numpy(gap[: len(held)]), self.done
        self._append(first)

    def _hold(self, level: float) -> tuple[Tensor, float]:
        """Return the numbers of the points to pick among, in order, and the level that no other point can be picked at.

        Where too many are at the level itself, it is those above it, or, without any, the first at the level: they are
        picked first.
        """
        above = torch.nonzero(self.gap > level)[:, 0]
        if len(above) > AMONG:
            level = float(self.gap[above].topk(AMONG).values[-1])
            above = above[self.gap[above] > level]
        tied = torch.nonzero(self.gap == level)[:, 0]
        if len(above) + len(tied) <= AMONG:
            return torch.cat([above, tied]).sort().values, level
        return (above, math.nextafter(level, math.inf)) if len(above) else (tied[:AMONG], level)

    def _refresh(self, level: float) -> None:
        """Bring every point whose old distance reaches `level` up to date with all picks."""
        stale = torch.nonzero((self.gap >= level) & (self.seen < self.done))[:, 0]
        if not len(stale):
            return
        self.shares = list[float]()
        self.spread(self._update, torch.split(stale[self.seen[stale].argsort(stable=True)], ROWS))
        if np.mean(self.shares) > WASTE and self.precision + 1 < len(PRECISIONS):
            self._turn_to(self.precision + 1)

    def _update(self, rows: Tensor) -> None:
        """Bring a block of points, those of the fewest seen picks first, up to date."""
        left, near, slack = self._factor(rows, is_left=True)
        near += self.lost
        for chunk in range(int(self.seen[rows[0]]) // CHUNK, -(-self.done // CHUNK)):
            values = self._bits(left, self.right[chunk])
            picks = self.picks[chunk * CHUNK : min((chunk + 1) * CHUNK, self.done)]
            found = self.loops.update(
                values, self.points, rows.numpy(), picks.numpy(), near, slack, *self.kind.limits(), self.gap.numpy()
            )
            self.shares.append(found / values.size)
        self.seen[rows] = self.done


CPU = torch.device("cpu")
BYTES_PER_POINT = 40  # that a selection keeps beside the point itself


def greedy_coreset(
    points: Rows, num_picks: int, start: int = 0, *, device: torch.device | str | None = None, on_step: OnStep = ignore_step
) -> NDArray[np.int64]:
    """Return (num_picks,) int64: indices of `points` (N, d), `start` first, then always the point farthest from all picks.

    Ties go to the lowest index; no index comes twice, even if points do. The picks are those of a float64 loop, except
    where float64 rounding decides, whatever the threads, the device and the blocks. Memory beside the points: about
    40 bytes per point, a copy of the picks and a few MB (on a GPU 1 GB; 16 d bytes for each point that ties for the farthest).
    Raise ValueError for points that are not a non-empty finite matrix and for a `num_picks` or `start` out of range.
    """
    rows = _checked(points, num_picks, start)
    place = torch.device(device or rows.device)
    with torch.inference_mode():
        if place.type == "cuda":
            from adbench.detectors.search.coreset_gpu import SelectionOnDevice

            picks = SelectionOnDevice(rows.to(place), num_picks, start).run(on_step)
        else:  # also for mps, which has no float64
            with workers(CPU) as spread:
                picks = SelectionOnCpu(rows.to(CPU), num_picks, start, spread).run(on_step)
    found: NDArray[np.int64] = picks.cpu().numpy()
    return found


def project(points: Rows, dim: int, seed: int) -> NDArray[np.float32]:
    """Return (N, dim) float32: `points` (N, d) times a Gaussian matrix / sqrt(dim), which `seed` alone decides.

    Points with d <= dim come back as they are (official PatchCore expands them: issue 21 of patchcore-inspection).
    """
    rows = as_float32(points)
    if rows.shape[1] > dim:
        matrix = torch.randn(rows.shape[1], dim, generator=torch.Generator().manual_seed(seed)) / math.sqrt(dim)
        rows = rows @ matrix.to(rows.device)
    projected: NDArray[np.float32] = rows.cpu().numpy()
    return projected


def _checked(points: Rows, num_picks: int, start: int) -> Tensor:
    rows = as_float32(points).contiguous()
    if rows.ndim != 2 or not rows.numel():
        raise ValueError(f"points must be a non-empty (N, d) array, not one of shape {tuple(rows.shape)}")
    if not 1 <= num_picks <= len(rows):
        raise ValueError(f"num_picks must be within 1..{len(rows)}, the number of points, not {num_picks}")
    if not 0 <= start < len(rows):
        raise ValueError(f"start must be within 0..{len(rows) - 1}, not {start}")
    largest = _largest(rows)
    if not math.isfinite(largest):
        raise ValueError("points must be finite, but some values are NaN or infinite")
    if largest and not 1e-9 < largest < 1e12:  # so that squares neither vanish nor overflow; exact, being a power of 2
        rows = (rows.double() * 2.0 ** -math.floor(math.log2(largest))).float()
    return rows


def _largest(rows: Tensor) -> float:
    low, high = rows.aminmax()  # both NaN if any value is
    return max(-float(low), float(high))
