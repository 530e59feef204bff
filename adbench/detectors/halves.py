"""Lower bounds of distances by products in bfloat16, where a CPU has tiles for them (Intel AMX): 7 times as fast as float32.

For vectors q, b and what rounding makes of them, q', b', the triangle inequality gives |q - b| >= |q' - b'| - |q - q'| -
|b - b'|. The product is |q' - b'|^2 / 2 as a whole: norms are further columns, three bfloat16 each, which is float32's
precision. It is summed up in float32 and rounded once, by a share of itself; so the nearest rows are told apart best.
"""

import torch
from torch import Tensor

from adbench.detectors.bounds import COST, Bounds, Matrix, rounding

HALF, PIECES = torch.bfloat16, 3
_SPARE = 1.01  # the product and its limit are rounded to 8 bits each
_FASTER = 7  # than a product in float32


class Halves(Bounds):
    """Bounds for a `bank` (M, d) float32. Numbers are the bits of bfloat16, which have the order of floats above 0."""

    bytes_each = 2

    def __init__(self, bank: Tensor) -> None:
        super().__init__(bank)
        rounded, norms, lost = _rounded(bank)
        self.lost = lost.max()
        self.factor = torch.zeros(self.columns, bank.shape[1] + 2 * PIECES, dtype=HALF)
        self.factor[len(bank) :, bank.shape[1]] = torch.inf
        self.factor[: len(bank)] = torch.cat([rounded, _pieces(norms / 2), _ones(bank)], 1)

    def matrix(self, queries: Tensor) -> Matrix:
        """Return the bits of half the squared distances of what is rounded; where these are 0, they may be below 0."""
        rounded, norms, lost = _rounded(queries)
        products = torch.cat([-rounded, _ones(queries), _pieces(norms / 2)], 1) @ self.factor.T
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


def _rounded(rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return rows (Q, d) in bfloat16, the squared norms of these (Q,), and the norms of what rounding took (Q,)."""
    half = rows.to(HALF)
    exact = half.float()
    return half, exact.square().sum(1), (rows - exact).square_().sum(1).sqrt_()


def _pieces(values: Tensor) -> Tensor:
    """Return for each value (Q,) bfloat16 numbers whose sum it is, but for a 2^-24th, (Q, PIECES)."""
    found = []
    for _ in range(PIECES):
        found.append(values.to(HALF))
        values = values - found[-1].float()
    return torch.stack(found, 1)


def _ones(rows: Tensor) -> Tensor:
    return torch.ones(len(rows), PIECES, dtype=HALF)
