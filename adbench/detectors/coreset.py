"""Greedy farthest-point selection (k-center greedy), exact but with few passes over the points, and random projection.

Sources: Sener and Savarese, "Active Learning for Convolutional Neural Networks: A Core-Set Approach" (ICLR 2018),
algorithm 1; Roth et al., "Towards Total Recall in Industrial Anomaly Detection" (PatchCore, CVPR 2022), algorithm 1.
Deviations: the first pick is a given index, not an arbitrary point or the one of the largest norm; nothing is projected
unless the caller does so; the official code's approximation (anchor distances from ten random points) is not used.

The textbook loop reads all points once per pick and is bound by memory. Here a squared distance to the nearest pick
never grows, so an old one is an upper bound. A round raises a level, brings the points whose bound reaches it up to date
by matrix products, takes the farthest few hundred of them, and picks among these alone while the largest distance stays
at the level, which no other point can reach. A point whose bound the level never meets is never looked at again. Where a CPU
has tiles for bfloat16, most points get the distance to the pick that is nearest once rounded, which is a bound as well, and
only those that a round may pick the nearest one. On a GPU all points are brought up to date in each round, and a round picks
among thousands.
"""

import math
from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adbench.detectors.halves import Halves, are_fast, no_rows
from adbench.detectors.neighbours import Rows, as_float32, first_smallest
from adbench.detectors.picking import MOST_AT_ONCE, TAKEN, PicksOnDevice, pick_on_host
from adbench.detectors.workers import Spread, workers
from adbench.types import OnStep, ignore_step

PICKS_PER_PRODUCT = 512
FEWEST_ROUNDED = 384  # picks from which on products in bfloat16 are worth it
ROWS_ROUNDED, ROWS_PER_SHAPE = 1024, 256  # rows of one such product, of which it has a multiple
TELLS_APART = 1 / 1024  # of the largest squared norm: where distances are below, products in bfloat16 are of no use


class Way(NamedTuple):
    """How a processor goes about it; the picks are the same.

    all_at_once: bring all points up to date in every round. block: elements of one product. held: fewest, first and most
    points that a round means to bring up to date; it is doubled or halved where a round's picks are outside of `picks`.
    among: most points that a round picks among.
    """

    all_at_once: bool
    block: int
    held: tuple[int, int, int]
    picks: tuple[int, int]
    among: int


HOST = Way(False, 1 << 18, (256, 1024, 8192), (96, 384), 1024)  # a product and the points must stay in the L2 cache
# For a GPU a product of all points is faster than to find out which of them can do without, host and GPU waiting for each
# other; and a round costs more than the points that it looks at.
DEVICE = Way(True, 1 << 26, (1024, 4096, MOST_AT_ONCE), (384, 1536), MOST_AT_ONCE)
SAMPLE = 8192
BYTES_PER_POINT, BYTES_PER_NUMBER_PICKED = (
    40,
    6,
)  # that a selection keeps beside the points, and of each of d numbers of a pick


def greedy_coreset(
    points: Rows,
    num_picks: int,
    start: int = 0,
    *,
    device: torch.device | str | None = None,
    on_step: OnStep = ignore_step,
) -> NDArray[np.int64]:
    """Return (num_picks,) int64: indices of `points` (N, d), `start` first, then always the point farthest from all picks.

    Ties go to the lowest index; no index comes twice, even if points do. The picks are those of a float64 loop, except
    where float64 rounding decides, whatever the threads, the device and the blocks. Memory beside the points: about
    40 bytes per point, a copy of the picks and a few MB (on a GPU 1 GB); 16 d bytes for each point that ties for the farthest.
    Raise ValueError for points that are not a non-empty finite matrix and for a `num_picks` or `start` out of range.
    """
    rows = _checked(points, num_picks, start)
    on_mps = torch.device(device or rows.device).type == "mps"  # it has no float64
    rows = rows.to("cpu" if on_mps else device or rows.device)
    with torch.inference_mode(), workers(rows.device) as spread:
        picks: NDArray[np.int64] = _Selection(rows, num_picks, start, spread).run(on_step).cpu().numpy()
    return picks


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


def _half_octave(age: int) -> int:
    return age >> max(0, age.bit_length() - 2) << max(0, age.bit_length() - 2)


class _Block(NamedTuple):
    """Some of the rows that are brought up to date, the first pick to hold against them, and whether roughly."""

    rows: slice
    first: int
    roughly: bool


class _Selection:
    """The state of a selection among N rows.

    loose (N,): squared distance to the nearest of the first `seen` (N,) picks, by expanded products in `dtype` or by
    differences; nearest (N,): the index of that pick; open (N,): another of them may be a bit nearer. centres (num_picks or
    more, d): the picks, centred; rounded: these in bfloat16, where that is fast. `_bound()` is never below the true distance
    to all picks.
    """

    def __init__(self, rows: Tensor, num_picks: int, start: int, spread: Spread) -> None:
        self.spread = spread
        self.way, self.pick = (HOST, pick_on_host) if rows.device.type == "cpu" else (DEVICE, PicksOnDevice())
        self.rows, self.num_picks, self.done, self.held = rows, num_picks, 1, self.way.held[1]
        self.picks = torch.full((num_picks,), start, dtype=torch.int64, device=rows.device)
        # The mean to 1/256 of the largest value: less cancels, and integers stay exact, so their ties stay ties.
        grid = 2.0 ** (math.floor(math.log2(_largest(rows) or 1.0)) - 8)
        self.centre = (rows.mean(0) / grid).round() * grid
        self._restart(torch.float32)

    def run(self, on_step: OnStep) -> Tensor:
        """Return the picks (num_picks,) in order."""
        while self.done < self.num_picks:
            before = self.done
            self._round()
            self._adapt(self.done - before)
            on_step(self.done, self.num_picks, "coreset")
        return self.picks

    def _restart(self, dtype: torch.dtype) -> None:
        """Forget all distances and go on with products in `dtype`."""
        count, self.dtype = len(self.rows), dtype
        every = torch.arange(count, device=self.rows.device)
        blocks = torch.split(every, self._rows_at_once())
        self.norms = torch.cat([self._centred(block).square().sum(1) for block in blocks])
        self.loose = torch.full_like(self.norms, math.inf)
        self.loose[self.picks[: self.done]] = TAKEN
        room = PICKS_PER_PRODUCT * math.ceil(self.num_picks / PICKS_PER_PRODUCT)
        self.centres = torch.zeros(room, self.rows.shape[1], dtype=dtype, device=self.rows.device)
        fast = dtype == torch.float32 and self.rows.device.type == "cpu" and are_fast()
        self.rounded = no_rows(*self.centres.shape) if fast else None
        self._take(slice(0, self.done))
        self.nearest, self.seen, self.seen_by_all = torch.zeros_like(every), torch.zeros_like(every), 0
        self.open = torch.zeros_like(every, dtype=torch.bool)
        # Rounding of |x|^2 + |c|^2 - 2xc is at most g (|x|^2 + |c|^2): g = d u surely, 8 sqrt(d) u all but surely (Higham
        # and Mary 2019). With |c|^2 <= 2 |x|^2 + 2 |x-c|^2 that is 3 g |x|^2 + 2 g |x-c|^2; 4 g leaves room.
        exact = dtype == torch.float64 or torch.get_float32_matmul_precision() == "highest"
        unit = torch.finfo(dtype if exact else torch.bfloat16).eps / 2  # TF32 and bfloat16 products round more
        dim = self.rows.shape[1]
        self.slack = 4 * unit * (min(dim, 8 * math.sqrt(dim)) + 8)
        self._refresh(TAKEN)

    def _rows_at_once(self, centres: int = 0) -> int:
        """Return how many points are held against so many centres by one product."""
        return max(1, self.way.block // max(centres, self.rows.shape[1]))

    def _centred(self, index: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        dtype = dtype or self.dtype
        return self.rows.index_select(0, index).to(dtype).sub_(self.centre.to(dtype))

    def _bound(self) -> Tensor:
        return self.loose * (1 + self.slack) + self.norms * self.slack

    def _level(self) -> float:
        """Return about the `held`-th largest bound; any level gives the same picks, so a sample will do for it."""
        stride = max(1, len(self.loose) // SAMPLE) if 2 * self.done < len(self.loose) else 1
        wanted = min(-(-self.held // stride), (len(self.loose) - self.done) // stride)
        return float(self._bound()[::stride].topk(max(1, wanted)).values[-1])

    def _round(self) -> None:
        """Pick as long as no point outside of those held can be the farthest; or turn to a better precision."""
        if self.way.all_at_once:
            self._refresh_all()
        level = self._level()
        self._refresh(level)
        bound = self._bound()
        reach = bound[bound >= level]
        if len(reach) > self.way.among:
            level = float(reach.topk(self.way.among).values[-1])
        self._sharpen(level)
        bound = self._bound()
        held, points, gap = self._hold(level)
        if not len(held):  # all that reached the level were out of date: the next round's level is lower
            return None
        if self.slack * float(self.norms[held].max()) > float(bound[held].max()) / 64:
            return self._restart(torch.float64) if self.dtype == torch.float32 else self._finish()
        if float(gap.max()) < level:  # so many lie within the rounding of the farthest that the bounds cannot tell
            level = float(gap.max())
            self._refresh(level)
            self._sharpen(level)
            held, points, gap = self._hold(level)
        return self._pick(held, points, gap, level)

    def _finish(self) -> None:
        """Pick the rest, where what is left lies within float64 rounding of the picks: by differences, then by index."""
        self._refresh(TAKEN)
        held, points, gap = self._hold(TAKEN)
        apart = torch.nonzero(gap > 0)[:, 0]
        if len(apart):
            self._pick(held[apart], points[apart], gap[apart], level=5e-324)
        self.picks[self.done :] = torch.nonzero(self.loose > TAKEN)[: self.num_picks - self.done, 0]
        self.done = self.num_picks

    def _refresh(self, level: float) -> None:
        """Bring every point whose bound reaches `level` up to date with all picks."""
        if self.way.all_at_once:
            return self._refresh_all()
        rows = torch.nonzero((self._bound() >= level) & (self.loose > TAKEN) & (self.seen < self.done))[:, 0]
        seen, parts = self.seen[rows], list[tuple[Tensor, int]]()
        ages = self.done - torch.from_numpy(np.flatnonzero(np.bincount(seen.numpy())))
        for _, group in groupby(ages.tolist(), _half_octave):  # few products, little done twice
            oldest, *younger = group
            first, last = self.done - oldest, self.done - (younger or [oldest])[-1]
            parts.append((rows[(seen >= first) & (seen <= last)], first))
        if parts:
            self._update(parts, exactly=level < TELLS_APART * float(self.norms.max()))

    def _update(self, parts: Sequence[tuple[Tensor, int]], exactly: bool = False) -> None:
        """Hold against each of some rows the picks from a number on, by products in bfloat16 where these are faster.

        Threads write to memory of their own: rows of two blocks may lie side by side.
        """
        rows, end, blocks = torch.cat([rows for rows, _ in parts]), 0, list[_Block]()
        for members, first in parts:
            start, end = end, end + len(members)
            roughly = self.rounded is not None and self.done - first >= FEWEST_ROUNDED and not exactly
            step = ROWS_ROUNDED if roughly else self._rows_at_once(min(self.done - first, PICKS_PER_PRODUCT))
            blocks += [_Block(slice(i, min(i + step, end)), first, roughly) for i in range(start, end, step)]
        loose, nearest = self.loose[rows], self.nearest[rows]

        def update(block: _Block) -> None:
            look = self._roughly if block.roughly else self._exactly
            look(rows[block.rows], block.first, loose[block.rows], nearest[block.rows])

        self.spread(update, sorted(blocks, key=self._work, reverse=True))  # so that threads end together
        self.loose[rows], self.nearest[rows], self.seen[rows] = loose, nearest, self.done
        for block in blocks:
            if block.roughly:
                self.open[rows[block.rows]] = True

    def _work(self, block: _Block) -> int:
        return int(block.rows.stop - block.rows.start) * (self.done - block.first)

    def _refresh_all(self) -> None:
        """Bring every point up to date with all picks."""
        picks = self.picks[self.seen_by_all : self.done]
        if not len(picks):
            return
        centre, centre_norms = self.centres[self.seen_by_all : self.done].T, self.norms[picks]
        step = self._rows_at_once(len(picks))
        for start in range(0, len(self.rows), step):
            part = slice(start, start + step)
            points = self.rows[part].to(self.dtype) - self.centre.to(self.dtype)
            product = torch.addmm(centre_norms, points, centre, alpha=-2)
            which = first_smallest(product)
            value = product.gather(1, which[:, None])[:, 0].add_(self.norms[part])
            closer = value < self.loose[part]
            self.loose[part] = torch.where(closer, value, self.loose[part])
            self.nearest[part] = torch.where(closer, picks[which], self.nearest[part])
        self.seen_by_all = self.done

    def _exactly(self, rows: Tensor, first: int, loose: Tensor, nearest: Tensor) -> None:
        """Bring the bounds and nearest picks of some rows (R,) up to date in place."""
        points, norms = self._centred(rows), self.norms[rows]
        for start in range(first, self.done, PICKS_PER_PRODUCT):
            part = slice(start, min(start + PICKS_PER_PRODUCT, self.done))
            product = torch.addmm(self.norms[self.picks[part]], points, self.centres[part].T, alpha=-2)
            value = product.amin(1).add_(norms)
            closer = torch.nonzero(value < loose)[:, 0]
            loose[closer] = value[closer]
            nearest[closer] = self.picks[part][first_smallest(product.index_select(0, closer))]

    def _roughly(self, rows: Tensor, first: int, loose: Tensor, nearest: Tensor) -> None:
        """Do the same with the pick that is nearest once rounded: another may be a bit nearer, and the bound too large."""
        points, picks = self._in_few_shapes(rows, first)
        index = first_smallest(self._halves(picks).matrix(points).values)
        value = (self.centres.index_select(0, index + picks.start) - points).square_().sum(1)[: len(rows)]
        closer = torch.nonzero(value < loose)[:, 0]
        loose[closer], nearest[closer] = value[closer], self.picks[index[closer] + picks.start]

    def _sharpen(self, level: float) -> None:
        """Find the nearest pick of all rows whose bound reaches `level` and whose nearest is open; too few to share."""
        rows = torch.nonzero((self._bound() >= level) & self.open)[:, 0]
        if not len(rows):
            return
        points, picks = self._in_few_shapes(rows, 0)
        index = self._halves(picks).nearest(points)[: len(rows)]
        known, unknown = torch.nonzero(index >= 0)[:, 0], torch.nonzero(index < 0)[:, 0]
        if len(unknown):
            self._update([(rows[unknown], 0)], exactly=True)
        self.loose[rows[known]] = (self.centres[index[known]] - points[known]).square_().sum(1)
        self.nearest[rows[known]] = self.picks[index[known]]
        self.open[rows] = False

    def _in_few_shapes(self, rows: Tensor, first: int) -> tuple[Tensor, slice]:
        """Return some rows, centred, and the places of the picks from `first` on, both with some to spare.

        The first product of a new shape takes ten times as long as the next.
        """
        spare = rows[:1].expand(-len(rows) % ROWS_PER_SHAPE)
        step = PICKS_PER_PRODUCT
        return self._centred(torch.cat([rows, spare])), slice(first - first % step, step * math.ceil(self.done / step))

    def _halves(self, picks: slice) -> Halves:
        """Return bounds for the picks at some places; where there is none yet, all are far from it."""
        assert self.rounded  # noqa: S101  the caller has asked
        return Halves(self.centres[picks], self.rounded.part(picks))

    def _hold(self, level: float) -> tuple[Tensor, Tensor, Tensor]:
        """Return indices, float64 rows and exact squared distances of all points whose bound reaches `level`."""
        held = torch.nonzero((self._bound() >= level) & (self.loose > TAKEN))[:, 0]
        points = self._centred(held, torch.float64)
        return held, points, (points - self._centred(self.nearest[held], torch.float64)).square_().sum(1)

    def _pick(self, held: Tensor, points: Tensor, gap: Tensor, level: float) -> None:
        order = self.pick(points, gap, level, self.num_picks - self.done, self.dtype == torch.float64)
        new = held[order]
        places = slice(self.done, self.done + len(new))
        self.picks[places] = new
        self._take(places)
        self.loose[new] = TAKEN
        self.done += len(new)

    def _take(self, places: slice) -> None:
        """Keep what is needed of the picks at some places."""
        self.centres[places] = self._centred(self.picks[places])
        if self.rounded:
            self.rounded.part(places).fill(self.centres[places])

    def _adapt(self, picked: int) -> None:
        fewest, _, most = self.way.held
        if picked < self.way.picks[0]:
            self.held = min(2 * self.held, most)
        elif picked > self.way.picks[1]:
            self.held = max(self.held // 2, fewest)
