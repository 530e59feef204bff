"""Greedy farthest-point selection (k-center greedy), exact but with few passes over the points, and random projection.

Sources: Sener and Savarese, "Active Learning for Convolutional Neural Networks: A Core-Set Approach" (ICLR 2018),
algorithm 1; Roth et al., "Towards Total Recall in Industrial Anomaly Detection" (PatchCore, CVPR 2022), algorithm 1.
Deviations: the first pick is a given index, not an arbitrary point or the one of the largest norm; nothing is projected
unless the caller does so; the official code's approximation (anchor distances from ten random points) is not used.

The textbook loop reads all points once per pick and is bound by memory. Here a squared distance to the nearest pick
never grows, so an old one is an upper bound. A round raises a level, brings the points whose bound reaches it up to date
by matrix products, takes the farthest few hundred of them, and picks among these alone while the largest distance stays
at the level, which no other point can reach. A point whose bound the level never meets is never looked at again. On a GPU
all points are brought up to date in each round, and a round picks among thousands.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adbench.detectors.neighbours import Rows, as_float32, first_smallest
from adbench.detectors.picking import MOST_AT_ONCE, TAKEN, PicksOnDevice, pick_on_host
from adbench.detectors.workers import Spread, workers
from adbench.types import OnStep, ignore_step

PICKS_PER_PRODUCT = 512


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
BYTES_PER_POINT = 40  # that a selection keeps beside the point itself


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


class _Selection:
    """The state of a selection among N rows.

    loose (N,): squared distance to the nearest of the first `seen` (N,) picks, by expanded products in `dtype`;
    nearest (N,): the index of that pick. centres (num_picks, d): the picks, centred. `_bound()` is never below the true
    distance to all picks.
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
        self.centres = torch.empty(self.num_picks, self.rows.shape[1], dtype=dtype, device=self.rows.device)
        self.centres[: self.done] = self._centred(self.picks[: self.done])
        self.nearest, self.seen, self.seen_by_all = torch.zeros_like(every), torch.zeros_like(every), 0
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
        most = min(self.held, self.way.among)
        if len(reach) > most:
            level = float(reach.topk(most).values[-1])
        held, points, gap = self._hold(level)
        if not len(held):  # all that reached the level were out of date: the next round's level is lower
            return None
        if self.slack * float(self.norms[held].max()) > float(bound[held].max()) / 64:
            return self._restart(torch.float64) if self.dtype == torch.float32 else self._finish()
        if float(gap.max()) < level:  # so many lie within the rounding of the farthest that the bounds cannot tell
            level = float(gap.max())
            self._refresh(level)
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
        seen = self.seen[rows]
        age = (self.done - seen).double()
        grain = torch.exp2(age.log2().floor() - 2).clamp_(
            min=1
        )  # four groups per octave: few products, little done twice
        group = (age / grain).floor() * grain
        blocks = list[tuple[Tensor, int]]()
        for value in np.unique(group.cpu().numpy()).tolist():
            members = rows[group == value]
            first = int(self.seen[members].min())
            step = self._rows_at_once(min(self.done - first, PICKS_PER_PRODUCT))
            blocks += [(part, first) for part in torch.split(members, step)]
        self.spread(self._update, blocks)

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

    def _update(self, block: tuple[Tensor, int]) -> None:
        """Hold the picks from a number on against a block of rows."""
        rows, first = block
        points, norms, loose, nearest = self._centred(rows), self.norms[rows], self.loose[rows], self.nearest[rows]
        for start in range(first, self.done, PICKS_PER_PRODUCT):
            part = slice(start, min(start + PICKS_PER_PRODUCT, self.done))
            product = torch.addmm(self.norms[self.picks[part]], points, self.centres[part].T, alpha=-2)
            value = product.amin(1).add_(norms)
            closer = torch.nonzero(value < loose)[:, 0]
            loose[closer] = value[closer]
            nearest[closer] = self.picks[part][first_smallest(product.index_select(0, closer))]
        self.loose[rows], self.nearest[rows], self.seen[rows] = loose, nearest, self.done

    def _hold(self, level: float) -> tuple[Tensor, Tensor, Tensor]:
        """Return indices, float64 rows and exact squared distances of all points whose bound reaches `level`."""
        held = torch.nonzero((self._bound() >= level) & (self.loose > TAKEN))[:, 0]
        points = self._centred(held, torch.float64)
        return held, points, (points - self._centred(self.nearest[held], torch.float64)).square_().sum(1)

    def _pick(self, held: Tensor, points: Tensor, gap: Tensor, level: float) -> None:
        order = self.pick(points, gap, level, self.num_picks - self.done, self.dtype == torch.float64)
        new = held[order]
        self.picks[self.done : self.done + len(new)] = new
        self.centres[self.done : self.done + len(new)] = self._centred(new)
        self.loose[new] = TAKEN
        self.done += len(new)

    def _adapt(self, picked: int) -> None:
        fewest, _, most = self.way.held
        if picked < self.way.picks[0]:
            self.held = min(2 * self.held, most)
        elif picked > self.way.picks[1]:
            self.held = max(self.held // 2, fewest)
