"""Greedy farthest-point selection (k-center greedy), exact but with few passes over the points, and random projection.

Sources: Sener and Savarese, "Active Learning for Convolutional Neural Networks: A Core-Set Approach" (ICLR 2018),
algorithm 1; Roth et al., "Towards Total Recall in Industrial Anomaly Detection" (PatchCore, CVPR 2022), algorithm 1.
Deviations: the first pick is a given index, not an arbitrary point or the one of the largest norm; nothing is projected
unless the caller does so; the official code's approximation (anchor distances from ten random points) is not used.

The textbook loop reads all points once per pick and is bound by memory. Here a squared distance to the nearest pick that was
computed some picks ago serves as an upper bound of the current one, for it never grows. A round brings the points whose
bound reaches a level up to date, then picks among them while the farthest is at the level. N points, d dimensions.
"""

import math
from abc import ABC, abstractmethod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adbench.core.threads import RunAll, workers
from adbench.detectors.search.bounds import PRECISIONS, has_bfloat16_tiles
from adbench.detectors.search.nearest import Rows, as_float32
from adbench.types import OnStep, ignore_step

BYTES_PER_POINT = 40  # that a selection holds beside the point itself
SAMPLE = 8192  # points from which a level is estimated
HELD = (256, 1024, 8192)  # fewest, first and most points that a round means to bring up to date: the number is
PICKS = (96, 384)  # doubled or halved where a round's picks are outside of this range
AMONG = 1024  # most points that a round picks among
ROWS, CHUNK = 1024, 256  # most points and picks of one product, which stays in the L2 cache; few shapes, as each is prepared
WASTE = 1 / 32  # share of bounds that leave a distance to compute, above which the next precision is faster


class Selection(ABC):
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
        """Return about the `held`-th largest bound. Any level gives the same picks, so a sample is enough."""
        stride = max(1, len(bound) // SAMPLE) if 2 * self.done < len(bound) else 1
        wanted = min(-(-self.held // stride), (len(bound) - self.done) // stride)
        return float(bound[::stride].topk(max(1, wanted)).values[-1])


class SelectionOnCpu(Selection):
    """A selection among points (N, d) float32.

    squared (N,): squared distance to the nearest of the first `seen` (N,) picks, float64, -inf once picked. right (chunks,
    columns, CHUNK): the right factor of the picks' bounds (see kernels.py).
    """

    def __init__(self, points: Tensor, num_picks: int, start: int, spread: RunAll) -> None:
        from adbench.detectors.search import kernels  # slow to import

        super().__init__(points, num_picks, start, HELD, PICKS)
        self.kernels, self.points, self.spread = kernels, points.numpy(), spread
        self.squared, self.seen = torch.empty(len(points), dtype=torch.float64), torch.ones(len(points), dtype=torch.int64)
        squared = self.squared.numpy()

        def measure(first: int) -> None:
            kernels.squared_distances_to(self.points, start, squared, first, min(first + ROWS, len(squared)))

        spread(measure, range(0, len(points), ROWS))
        self.center = points.mean(0)
        self.longest = float((points[start] - self.center).double().norm() + self.squared.max().sqrt())
        self.squared[start] = -math.inf
        self._set_precision(0 if has_bfloat16_tiles() else 1)

    def _set_precision(self, number: int) -> None:
        """Compute bounds in another precision from now on."""
        self.number, self.precision = number, PRECISIONS[number]
        dim = self.points.shape[1]
        self.columns = dim + (2 * self.kernels.PIECES if self.precision.drop else 2)
        self.right = torch.zeros(-(-self.num_picks // CHUNK), self.columns, CHUNK, dtype=self.precision.dtype)
        self.right[:, dim] = math.inf  # until there is a pick
        self.lost = 0.0
        self._append(0)

    def _append(self, first: int) -> None:
        """Add the picks from a number on to the factor of the products."""
        for start in range(first - first % CHUNK, self.done, CHUNK):
            picks = self.picks[max(first, start) : min(start + CHUNK, self.done)]
            factor, lost, _ = self._factor(picks, is_left=False)
            self.lost = max(self.lost, float(lost.max()))
            self.right[start // CHUNK, :, max(first, start) - start :][:, : len(picks)] = factor[: len(picks)].T

    def _factor(self, rows: Tensor, is_left: bool) -> tuple[Tensor, NDArray[np.float32], NDArray[np.float32]]:
        """Return a factor of products (>= R, columns), the length lost by rounding each point, and the products' slack (R,)."""
        factor = torch.empty(max(128, 1 << (len(rows) - 1).bit_length()), self.columns, dtype=self.precision.dtype)
        factor[len(rows) :] = 0
        norms, lost = np.empty(len(rows), np.float32), np.zeros(len(rows), np.float32)
        if self.precision.drop:
            bits = factor.view(torch.int16).numpy().view(np.uint16)
            self.kernels.bfloat16_factors(self.points, rows.numpy(), self.center.numpy(), is_left, bits, norms, lost)
        else:
            center = self.center.to(self.precision.dtype).numpy()
            self.kernels.float_factors(self.points, rows.numpy(), center, is_left, factor.numpy(), norms)
        return factor, lost, self.precision.slack(norms, self.longest, self.columns)

    def _round(self) -> None:
        level = max(0.0, self._level(self.squared))
        self._refresh(level)
        held, level = self._hold(level)
        if not len(held):  # all that reached the level were out of date: the next round's level is lower
            return
        left, lost, slack = self._factor(held, is_left=True)
        right, lost_right, _ = self._factor(held, is_left=False)
        values = (left @ right.T).view(self.precision.bits).numpy()
        squared = np.full(len(values), -math.inf)
        squared[: len(held)] = self.squared[held]
        order = np.empty(self.num_picks - self.done, np.int64)
        lost += lost_right.max()
        precision = self.precision.for_kernels
        found = self.kernels.pick(values, self.points, held.numpy(), lost, slack, precision, squared, level, order)
        first, self.done = self.done, self.done + found
        self.picks[first : self.done] = held[order[:found]]
        self.squared[held], self.seen[held] = torch.from_numpy(squared[: len(held)]), self.done
        self._append(first)

    def _hold(self, level: float) -> tuple[Tensor, float]:
        """Return the indices of the points to pick among, in order, and the level at which no other point can be picked.

        If too many are at the level itself, it is those above it, or, without any, the first at the level: they are picked
        first.
        """
        above = torch.nonzero(self.squared > level)[:, 0]
        if len(above) > AMONG:
            level = float(self.squared[above].topk(AMONG).values[-1])
            above = above[self.squared[above] > level]
        tied = torch.nonzero(self.squared == level)[:, 0]
        if len(above) + len(tied) <= AMONG:
            return torch.cat([above, tied]).sort().values, level
        return (above, math.nextafter(level, math.inf)) if len(above) else (tied[:AMONG], level)

    def _refresh(self, level: float) -> None:
        """Bring every point whose old distance reaches `level` up to date with all picks."""
        stale = torch.nonzero((self.squared >= level) & (self.seen < self.done))[:, 0]
        if not len(stale):
            return
        self.shares = list[float]()
        self.spread(self._update, torch.split(stale[self.seen[stale].argsort(stable=True)], ROWS))
        if np.mean(self.shares) > WASTE and self.number + 1 < len(PRECISIONS):
            self._set_precision(self.number + 1)

    def _update(self, rows: Tensor) -> None:
        """Bring a block of points, those that have seen the fewest picks first, up to date."""
        left, lost, slack = self._factor(rows, is_left=True)
        lost += self.lost
        precision, squared = self.precision.for_kernels, self.squared.numpy()
        for chunk in range(int(self.seen[rows[0]]) // CHUNK, -(-self.done // CHUNK)):
            values = (left @ self.right[chunk]).view(self.precision.bits).numpy()
            picks = self.picks[chunk * CHUNK : min((chunk + 1) * CHUNK, self.done)].numpy()
            found = self.kernels.update(values, self.points, rows.numpy(), picks, lost, slack, precision, squared)
            self.shares.append(found / values.size)
        self.seen[rows] = self.done


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
    runtime = torch.device(device or rows.device)
    with torch.inference_mode():
        if runtime.type == "cuda":
            from adbench.detectors.search.coreset_gpu import SelectionOnGpu

            picks = SelectionOnGpu(rows.to(runtime), num_picks, start).run(on_step)
        else:  # also for mps, which has no float64
            with workers(torch.device("cpu")) as spread:
                picks = SelectionOnCpu(rows.cpu(), num_picks, start, spread).run(on_step)
    return np.asarray(picks.cpu().numpy(), np.int64)


def _checked(points: Rows, num_picks: int, start: int) -> Tensor:
    rows = as_float32(points).contiguous()
    if rows.ndim != 2 or not rows.numel():
        raise ValueError(f"points must be a non-empty (N, d) array, not one of shape {tuple(rows.shape)}")
    if not 1 <= num_picks <= len(rows):
        raise ValueError(f"num_picks must be within 1..{len(rows)}, the number of points, not {num_picks}")
    if not 0 <= start < len(rows):
        raise ValueError(f"start must be within 0..{len(rows) - 1}, not {start}")
    low, high = rows.aminmax()  # both NaN if any value is
    largest = max(-float(low), float(high))
    if not math.isfinite(largest):
        raise ValueError("points must be finite, but some values are NaN or infinite")
    if largest and not 1e-9 < largest < 1e12:  # so that squares neither vanish nor overflow; exact, being a power of 2
        rows = (rows.double() * 2.0 ** -math.floor(math.log2(largest))).float()
    return rows


def project(points: Rows, dim: int, seed: int) -> NDArray[np.float32]:
    """Return (N, dim) float32: `points` (N, d) times a Gaussian matrix / sqrt(dim), which `seed` alone decides.

    Points with d <= dim come back as they are (official PatchCore expands them: issue 21 of patchcore-inspection).
    """
    rows = as_float32(points)
    if rows.shape[1] > dim:
        matrix = torch.randn(rows.shape[1], dim, generator=torch.Generator().manual_seed(seed)) / math.sqrt(dim)
        rows = rows @ matrix.to(rows.device)
    return np.asarray(rows.cpu().numpy(), np.float32)
