"""Which lower bounds a search takes: those of least estimated cost, or none where a whole product is faster."""

import math

import torch
from torch import Tensor

from adbench.detectors.bounds import Bounds
from adbench.detectors.directions import DIRECTIONS, Along, strongest
from adbench.detectors.halves import Halves
from adbench.detectors.precision import are_fast

SAMPLE = 256  # rows by which to choose
WORTH = 0.85  # of the whole product's cost: above that, bounds are not worth it
SMALLEST = 1 << 17  # elements of a bank below which they are not worth it either


def make_bounds(bank: Tensor) -> Bounds | None:
    """Return bounds for a `bank` (M, d) float32 on the CPU, or None where the whole product is faster.

    Their cost is estimated from some of the bank's own rows, each looked for among the others.
    """
    rows, dim = bank.shape
    if rows * dim < SMALLEST:
        return None
    own = torch.arange(0, rows, math.ceil(rows / SAMPLE))
    choices = _choices(bank)
    for bounds in choices:
        bounds.work = bounds.cost(bounds.left(own))
    best = min(choices, key=lambda bounds: bounds.work, default=None)
    return best if best and best.work < WORTH * rows * dim else None


def _choices(bank: Tensor) -> list[Bounds]:
    counts = [count for count in DIRECTIONS if count <= 2 * bank.shape[1] // 3]
    directions = strongest(bank - bank.mean(0), counts[-1]) if counts else bank
    found: list[Bounds] = [Along(bank, directions[:, :count].contiguous()) for count in counts]
    return [*found, Halves(bank)] if are_fast() else found
