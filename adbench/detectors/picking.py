"""The inner loop of the coreset: picks among a few points whose distances are held exactly, on a CPU and on a GPU."""

import math

import numpy as np
import torch
from torch import Tensor

TAKEN = -math.inf  # the "distance" of a point that has been picked
PICKS_PER_SYNC = 64  # on a GPU the host looks at the picks so often


def pick_on_host(points: Tensor, gap: Tensor, level: float, limit: int, direct: bool) -> Tensor:
    """Return at most `limit` indices of `points` (K, d), farthest first, as long as their distance is at least `level`.

    gap (K,): squared distances to all earlier picks; overwritten. direct: by differences, for distances so small that
    the expanded square would cancel. numpy, because its matrix-vector product and its calls are the faster on a CPU.
    """
    rows, far, order = points.numpy(), gap.numpy(), list[int]()
    norms = np.einsum("ij,ij->i", rows, rows)
    while len(order) < limit:
        index = int(far.argmax())
        if far[index] < level:
            break
        order.append(index)
        square = np.square(rows - rows[index]).sum(1) if direct else norms + norms[index] - 2 * (rows @ rows[index])
        np.minimum(far, square, out=far)
        far[index] = TAKEN
    return torch.tensor(order, dtype=torch.int64)


def pick_on_device(points: Tensor, gap: Tensor, level: float, limit: int, direct: bool) -> Tensor:
    """Do what `pick_on_host` does on any device, waiting for it once per 64 picks; those below the level are dropped."""
    norms, order, values = points.square().sum(1), list[Tensor](), list[Tensor]()
    while len(order) < limit:
        for _ in range(min(PICKS_PER_SYNC, limit - len(order))):
            index = gap.argmax()[None]  # argmax gives the lowest of equals, max(0) need not
            order.append(index)
            values.append(gap.index_select(0, index))
            row = points.index_select(0, index)[0]
            square = (points - row).square_().sum(1) if direct else norms + row.square().sum() - 2 * (points @ row)
            torch.minimum(gap, square, out=gap)
            gap.index_fill_(0, index, TAKEN)
        if float(values[-1]) < level:
            break
    return torch.cat(order)[torch.cat(values) >= level]
