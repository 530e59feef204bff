"""The inner loop of the coreset on a GPU: picks among a few points whose distances are held exactly."""

import math

import torch
from torch import Tensor

TAKEN = -math.inf  # the "distance" of a point that has been picked
PICKS_PER_SYNC = 64  # on a GPU the host looks at the picks so often
FEWEST_AT_ONCE, MOST_AT_ONCE = 1024, 8192  # points all of whose distances a GPU holds: 8 MB, 512 MB
DIFFERENCES = 1 << 24  # elements of one block of them


class PicksOnDevice:
    """Picks on any device, which waits for its host once per 64 picks.

    On a GPU the launch of a kernel takes longer than what it does. So all distances between the points are computed at once,
    a pick is three kernels, and 64 picks are launched as one: a CUDA graph, recorded once for each number of points. Of more
    points than that is affordable for, each pick computes its own distances.
    """

    def __init__(self) -> None:
        self._steps: dict[int, _Steps] = {}

    def __call__(self, points: Tensor, gap: Tensor, level: float, limit: int, direct: bool) -> Tensor:
        """Return at most `limit` indices of `points` (K, d), farthest first, as long as their distance is at least `level`.

        gap (K,): squared distances to all earlier picks; overwritten. direct: by differences, for distances so small that
        the expanded square would cancel.
        """
        if len(points) > MOST_AT_ONCE:
            return _pick_row_by_row(points, gap, level, limit, direct)
        size = max(FEWEST_AT_ONCE, 1 << (len(points) - 1).bit_length())
        if size not in self._steps:
            self._steps[size] = _Steps(size, points.device)
        steps = self._steps[size]
        steps.start(_squares(points, points, direct), gap)
        order = list[Tensor]()
        while len(order) * PICKS_PER_SYNC < limit:
            order.append(steps.take())
            if float(steps.gap.max()) < level:
                break
        picks = torch.cat(order)[:limit]
        among = steps.between[picks[:, None], picks]
        among.masked_fill_(torch.ones_like(among, dtype=torch.bool).triu_(), math.inf)  # to the earlier picks alone
        return picks[torch.minimum(gap[picks], among.amin(1)) >= level]


class _Steps:
    """Picks among at most `size` points whose distances `between` one another are known; `gap`: to all picks."""

    def __init__(self, size: int, device: torch.device) -> None:
        self.between = torch.empty(size, size, dtype=torch.float64, device=device)
        self.gap = torch.full((size,), TAKEN, dtype=torch.float64, device=device)
        self.order = torch.zeros(PICKS_PER_SYNC, dtype=torch.int64, device=device)
        self._graph: torch.cuda.CUDAGraph | None = None
        if device.type == "cuda":
            self._pick_some()  # what a first call allocates cannot be recorded
            self._graph = torch.cuda.CUDAGraph()
            stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            # the points' own GPU, which need not be the current one: what goes to another's stream would not be recorded
            with (
                torch.cuda.device(device),
                torch.cuda.graph(self._graph, stream=stream, capture_error_mode="thread_local"),
            ):
                self._pick_some()

    def start(self, squares: Tensor, gap: Tensor) -> None:
        """Begin with the squared distances of n points (n, n) and those to earlier picks (n,)."""
        count = len(gap)
        self.between[:count, count:] = math.inf
        self.between[:count, :count] = squares
        self.between.fill_diagonal_(TAKEN)
        self.gap[:count], self.gap[count:] = gap, TAKEN

    def take(self) -> Tensor:
        """Return the next 64 picks; a point comes again where none is left."""
        if self._graph:
            self._graph.replay()
        else:
            self._pick_some()
        return self.order.clone()

    def _pick_some(self) -> None:
        for number in range(PICKS_PER_SYNC):
            index = self.gap.argmax()[None]  # the lowest of equals, max(0) need not give that
            self.order[number : number + 1] = index
            torch.minimum(self.gap, self.between.index_select(0, index)[0], out=self.gap)


def _pick_row_by_row(points: Tensor, gap: Tensor, level: float, limit: int, direct: bool) -> Tensor:
    order, values = list[Tensor](), list[Tensor]()
    while len(order) < limit:
        for _ in range(min(PICKS_PER_SYNC, limit - len(order))):
            index = gap.argmax()[None]
            order.append(index)
            values.append(gap.index_select(0, index))
            torch.minimum(gap, _squares(points.index_select(0, index), points, direct)[0], out=gap)
            gap.index_fill_(0, index, TAKEN)
        if float(values[-1]) < level:
            break
    return torch.cat(order)[torch.cat(values) >= level]


def _squares(left: Tensor, right: Tensor, direct: bool) -> Tensor:
    """Return the squared distances of rows (A, d) and (B, d), (A, B); direct: by differences."""
    if not direct:
        norms = right.square().sum(1) + left.square().sum(1)[:, None]
        return norms.addmm_(left, right.T, alpha=-2)
    step = max(1, DIFFERENCES // right.numel())
    return torch.cat([(part[:, None] - right).square_().sum(2) for part in torch.split(left, step)])
