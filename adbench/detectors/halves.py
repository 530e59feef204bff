"""Lower bounds of distances by products in bfloat16, where a CPU has tiles for them (Intel AMX): 7 times as fast as float32.

For vectors q, b and what rounding makes of them, q', b', the triangle inequality gives |q - b| >= |q' - b'| - |q - q'| -
|b - b'|. The product is |q' - b'|^2 / 2 as a whole: norms are further columns, three bfloat16 each, which is float32's
precision. It is summed up in float32 and rounded once, by a share of itself; so the nearest rows are told apart best.
"""

import numpy as np
import torch
from torch import Tensor

from adbench.detectors.bounds import COST, Bounds, Matrix, rounding

HALF = torch.bfloat16
_SPARE = 1.01  # the product and its limit are rounded to 8 bits each
_FASTER = 7  # than a product in float32


class Halves(Bounds):
    """Bounds for a `bank` (M, d) float32. Numbers are the bits of bfloat16, which have the order of floats above 0."""

    bytes_each = 2

    def __init__(self, bank: Tensor) -> None:
        super().__init__(bank)
        rounded, _, lost = factor(bank, is_left=False)
        self.lost = lost.max()
        padded = torch.zeros(self.columns, rounded.shape[1], dtype=HALF)
        padded[len(bank) :, bank.shape[1]] = torch.inf
        padded[: len(bank)] = rounded
        self.factor = padded.T.contiguous()  # as it lies in a product

    def matrix(self, queries: Tensor) -> Matrix:
        """Return the bits of half the squared distances of what is rounded; where these are 0, they may be below 0."""
        rounded, norms, lost = factor(queries, is_left=True)
        products = rounded @ self.factor
        slack = rounding(norms, self.longest, queries.shape[1])

        def limit(reach: Tensor) -> Tensor:
            most = (reach.sqrt() + lost + self.lost).square() / 2 + slack
            return (_SPARE * most).nan_to_num(-torch.inf).to(HALF).view(torch.int16)  # NaN: no row is near

        return Matrix(products.view(torch.int16), limit)

    def cost(self, left: float) -> float:
        """Return that of the product, and of what is left."""
        dim = self.bank.shape[1]
        return dim * self.columns / _FASTER + COST * dim * left


def are_fast() -> bool:
    """Return whether this CPU has tiles for bfloat16."""
    return bool(torch.cpu.get_capabilities().get("amx_bf16"))


def factor(points: Tensor, is_left: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return points (Q, d) as a factor of a product of bounds (Q, more than d); squared norms of what is rounded (Q,), and
    the lengths that rounding took (Q,).
    """
    from adbench.loops import factors  # slow to import

    (count, dim), norms, lost = points.shape, torch.empty(len(points)), torch.empty(len(points))
    half = torch.empty(count, dim + 2 * factors.PIECES, dtype=HALF)
    bits = half.view(torch.int16).numpy().view(np.uint16)
    rows, centre = np.arange(count), np.zeros(dim, np.float32)
    factors.half_factors(points.numpy(), rows, centre, is_left, bits, norms.numpy(), lost.numpy())
    return half, norms, lost
