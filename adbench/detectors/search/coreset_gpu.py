"""The greedy coreset on a GPU: all points are brought up to date at once, and picks are made among thousands.

On a GPU, updating all points is cheaper than synchronizing with the host to find the stale ones, and a round costs more than
the points that it looks at. coreset.py describes the rounds.
"""

import math

import torch
from torch import Tensor

from adbench.detectors.search.coreset import Selection

TAKEN = -math.inf  # the "distance" of a point that has been picked
PICKS_PER_SYNC = 64  # picks between two looks of the host
FEWEST_AT_ONCE, MOST_AT_ONCE = 1024, 8192  # points all of whose distances a GPU holds: 8 MB, 512 MB
DIFFERENCES = 1 << 24  # elements of one block of differences
BLOCK = 1 << 26  # elements of one product
HELD = (1024, 4096, MOST_AT_ONCE)  # fewest, first and most points that a round picks among: the number is
PICKS = (384, 1536)  # doubled or halved where a round's picks are outside of this range


class _PickGraph:
    """Picks among at most `size` points: squared distances `between` one another, and `squared` to all picks.

    On a GPU launching a kernel takes longer than running it. So all distances between the points are computed at once, a pick
    is three kernels, and 64 picks are launched as one: a CUDA graph, recorded once for each size.
    """

    def __init__(self, size: int, device: torch.device) -> None:
        self.between = torch.empty(size, size, dtype=torch.float64, device=device)
        self.squared = torch.full((size,), TAKEN, dtype=torch.float64, device=device)
        self.order = torch.zeros(PICKS_PER_SYNC, dtype=torch.int64, device=device)
        self._graph: torch.cuda.CUDAGraph | None = None
        if device.type == "cuda":
            self._pick_some()  # what a first call allocates cannot be recorded
            self._graph = torch.cuda.CUDAGraph()
            stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            # the points' own GPU, which need not be the current one: work on another GPU's stream would not be recorded
            with torch.cuda.device(device), torch.cuda.graph(self._graph, stream=stream, capture_error_mode="thread_local"):
                self._pick_some()

    def start(self, squares: Tensor, squared: Tensor) -> None:
        """Begin with the squared distances of n points (n, n) and those to earlier picks (n,)."""
        count = len(squared)
        self.between[:count, count:] = math.inf
        self.between[:count, :count] = squares
        self.between.fill_diagonal_(TAKEN)
        self.squared[:count], self.squared[count:] = squared, TAKEN

    def take(self) -> Tensor:
        """Return the next 64 picks; a point comes again where none is left."""
        if self._graph:
            self._graph.replay()
        else:
            self._pick_some()
        return self.order.clone()

    def _pick_some(self) -> None:
        for number in range(PICKS_PER_SYNC):
            index = self.squared.argmax()[None]  # the lowest of equals, max(0) need not give that
            self.order[number : number + 1] = index
            torch.minimum(self.squared, self.between.index_select(0, index)[0], out=self.squared)


def _pick_row_by_row(points: Tensor, squared: Tensor, level: float, limit: int, direct: bool) -> Tensor:
    order, values = list[Tensor](), list[Tensor]()
    while len(order) < limit:
        for _ in range(min(PICKS_PER_SYNC, limit - len(order))):
            index = squared.argmax()[None]
            order.append(index)
            values.append(squared.index_select(0, index))
            torch.minimum(squared, _squares(points.index_select(0, index), points, direct)[0], out=squared)
            squared.index_fill_(0, index, TAKEN)
        if float(values[-1]) < level:
            break
    return torch.cat(order)[torch.cat(values) >= level]


def _squares(left: Tensor, right: Tensor, direct: bool) -> Tensor:
    """Return the squared distances of rows (A, d) and (B, d), (A, B).

    direct: by differences, for distances so small that the expanded square would cancel.
    """
    if not direct:
        norms = right.square().sum(1) + left.square().sum(1)[:, None]
        return norms.addmm_(left, right.T, alpha=-2)
    step = max(1, DIFFERENCES // right.numel())
    return torch.cat([(part[:, None] - right).square_().sum(2) for part in torch.split(left, step)])


class SelectionOnGpu(Selection):
    """A selection among points (N, d) float32 on any device.

    loose (N,): squared distance to the nearest of the first `seen` picks, by expanded products in `dtype`; nearest (N,): the
    index of that pick. centers (num_picks, d): the picks, centered. `_bound()` is never below the true distance to all picks.
    """

    def __init__(self, points: Tensor, num_picks: int, start: int) -> None:
        super().__init__(points, num_picks, start, HELD, PICKS)
        self.rows, self._graphs = points, dict[int, _PickGraph]()
        # The mean to 1/256 of the largest value: less cancels, and integers stay exact, so their ties stay ties.
        largest = max(abs(float(value)) for value in points.aminmax())
        grid = 2.0 ** (math.floor(math.log2(largest or 1.0)) - 8)
        self.center = (points.mean(0) / grid).round() * grid
        self._restart(torch.float32)

    def _restart(self, dtype: torch.dtype) -> None:
        """Forget all distances and go on with products in `dtype`."""
        self.dtype = dtype
        every = torch.arange(len(self.rows), device=self.rows.device)
        self.norms = torch.cat([self._centered(part).square().sum(1) for part in torch.split(every, self._at_once())])
        self.loose = torch.full_like(self.norms, math.inf)
        self.loose[self.picks[: self.done]] = TAKEN
        self.centers = torch.empty(self.num_picks, self.rows.shape[1], dtype=dtype, device=self.rows.device)
        self.centers[: self.done] = self._centered(self.picks[: self.done])
        self.nearest, self.seen = torch.zeros_like(every), 0
        # Rounding of |x|^2 + |c|^2 - 2xc is at most g (|x|^2 + |c|^2): g = d u surely, 8 sqrt(d) u all but surely (Higham
        # and Mary 2019). With |c|^2 <= 2 |x|^2 + 2 |x-c|^2 that is 3 g |x|^2 + 2 g |x-c|^2; 4 g leaves room.
        exact = dtype == torch.float64 or torch.get_float32_matmul_precision() == "highest"
        unit = torch.finfo(dtype if exact else torch.bfloat16).eps / 2  # TF32 and bfloat16 products round more
        dim = self.rows.shape[1]
        self.slack = 4 * unit * (min(dim, 8 * math.sqrt(dim)) + 8)
        self._refresh()

    def _at_once(self, centers: int = 0) -> int:
        """Return how many points are held against so many centers by one product."""
        return max(1, BLOCK // max(centers, self.rows.shape[1]))

    def _centered(self, index: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        dtype = dtype or self.dtype
        return self.rows.index_select(0, index).to(dtype).sub_(self.center.to(dtype))

    def _bound(self) -> Tensor:
        return self.loose * (1 + self.slack) + self.norms * self.slack

    def _round(self) -> None:
        """Pick as the base class says, or go on with products in float64."""
        self._refresh()
        bound = self._bound()
        level = self._level(bound)
        reach = bound[bound >= level]
        if len(reach) > self.held:
            level = float(reach.topk(self.held).values[-1])
        held, points, squared = self._hold(bound, level)
        if not len(held):  # the sample's points that reach the level have all been picked: the next one's is lower
            return None
        if self.slack * float(self.norms[held].max()) > float(bound[held].max()) / 64:
            return self._restart(torch.float64) if self.dtype == torch.float32 else self._finish()
        if float(squared.max()) < level:  # so many lie within the rounding of the farthest that the bounds cannot tell
            level = float(squared.max())
            held, points, squared = self._hold(bound, level)
        return self._pick(held, points, squared, level)

    def _finish(self) -> None:
        """Pick the rest, where what is left lies within float64 rounding of the picks: by differences, then by index."""
        held, points, squared = self._hold(self._bound(), TAKEN)
        distinct = torch.nonzero(squared > 0)[:, 0]
        if len(distinct):
            self._pick(held[distinct], points[distinct], squared[distinct], level=5e-324)
        self.picks[self.done :] = torch.nonzero(self.loose > TAKEN)[: self.num_picks - self.done, 0]
        self.done = self.num_picks

    def _refresh(self) -> None:
        """Bring every point up to date with all picks."""
        picks = self.picks[self.seen : self.done]
        if not len(picks):
            return
        center, center_norms = self.centers[self.seen : self.done].T, self.norms[picks]
        step = self._at_once(len(picks))
        for start in range(0, len(self.rows), step):
            part = slice(start, start + step)
            points = self.rows[part].to(self.dtype) - self.center.to(self.dtype)
            product = torch.addmm(center_norms, points, center, alpha=-2)
            which = product.argmin(1)
            value = product.gather(1, which[:, None])[:, 0].add_(self.norms[part])
            closer = value < self.loose[part]
            self.loose[part] = torch.where(closer, value, self.loose[part])
            self.nearest[part] = torch.where(closer, picks[which], self.nearest[part])
        self.seen = self.done

    def _hold(self, bound: Tensor, level: float) -> tuple[Tensor, Tensor, Tensor]:
        """Return indices, float64 rows and exact squared distances of all points whose bound reaches `level`."""
        held = torch.nonzero((bound >= level) & (self.loose > TAKEN))[:, 0]
        points = self._centered(held, torch.float64)
        return held, points, (points - self._centered(self.nearest[held], torch.float64)).square_().sum(1)

    def _pick(self, held: Tensor, points: Tensor, squared: Tensor, level: float) -> None:
        new = held[self._order(points, squared, level)]
        self.picks[self.done : self.done + len(new)] = new
        self.centers[self.done : self.done + len(new)] = self._centered(new)
        self.loose[new] = TAKEN
        self.done += len(new)

    def _order(self, points: Tensor, squared: Tensor, level: float) -> Tensor:
        """Return indices of `points` (K, d) to pick, farthest first, as long as their distance is at least `level`.

        squared (K,): squared distances to all earlier picks; overwritten. The device waits for its host once per 64 picks.
        """
        limit, direct = self.num_picks - self.done, self.dtype == torch.float64
        if len(points) > MOST_AT_ONCE:
            return _pick_row_by_row(points, squared, level, limit, direct)
        size = max(FEWEST_AT_ONCE, 1 << (len(points) - 1).bit_length())
        if size not in self._graphs:
            self._graphs[size] = _PickGraph(size, points.device)
        graph = self._graphs[size]
        graph.start(_squares(points, points, direct), squared)
        order = list[Tensor]()
        while len(order) * PICKS_PER_SYNC < limit:
            order.append(graph.take())
            if float(graph.squared.max()) < level:
                break
        picks = torch.cat(order)[:limit]
        among = graph.between[picks[:, None], picks]
        among.masked_fill_(torch.ones_like(among, dtype=torch.bool).triu_(), math.inf)  # to the earlier picks alone
        return picks[torch.minimum(squared[picks], among.amin(1)) >= level]
