"""The greedy coreset on a CPU: few points are brought up to date, by few distances, and picks are made among few.

A squared distance to the nearest pick never grows, so an old one is an upper bound. A round raises a level, brings the
points whose old distance reaches it up to date, takes the farthest few hundred, and picks among these alone while the
largest distance stays at the level, which no other point can reach. A point that the level never meets is never looked at
again. To bring a point up to date takes lower bounds of its distances to the picks since, by a matrix product of low
precision, and one or two distances by differences, in float64: adbench/loops/coreset.py.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adbench.detectors.coreset_rounds import Rounds
from adbench.detectors.precision import PRECISIONS, are_fast
from adbench.detectors.workers import Spread

HELD, PICKS = (
    (256, 1024, 8192),
    (96, 384),
)  # fewest, first and most points that a round means to bring up to date: it is
AMONG = 1024  # doubled or halved where a round's picks are outside of PICKS; most points that a round picks among
ROWS, CHUNK = (
    1024,
    256,
)  # most points and picks of one product, which stays in the L2 cache; few shapes, as each is prepared
WASTE = 1 / 32  # share of bounds that leave a distance to compute, above which the next precision is faster


class SelectionOnCpu(Rounds):
    """The state of a selection among points (N, d) float32.

    gap (N,): squared distance to the nearest of the first `seen` (N,) picks, float64, -inf once picked.
    """

    def __init__(self, points: Tensor, num_picks: int, start: int, spread: Spread) -> None:
        from adbench.loops import coreset, factors  # slow to import

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
