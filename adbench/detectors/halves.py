"""Lower bounds of distances by products in bfloat16, where a CPU has tiles for them (Intel AMX): 7 times as fast as float32.

For vectors q, b and what rounding makes of them, q', b', the triangle inequality gives |q - b| >= |q' - b'| - |q - q'| -
|b - b'|. The product is |q' - b'|^2 / 2 as a whole: norms are further columns, three bfloat16 each, which is float32's
precision. It is summed up in float32 and rounded once, by a share of itself; so the nearest rows are told apart best.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from adbench.detectors.bounds import COST, Bounds, Matrix, rounding

HALF, PIECES = torch.bfloat16, 3
_SPARE = 1.01  # the product and its limit are rounded to 8 bits each
FASTER = 7  # than a product in float32


class Rounded(NamedTuple):
    """Rows in bfloat16 as the right side of a product (d + 2 PIECES, M), norms of what rounding took (M,), squared norms (M,)."""

    factor: Tensor
    lost: Tensor
    norms: Tensor

    def part(self, rows: slice) -> "Rounded":
        """Return that of some rows, a view."""
        return Rounded(self.factor[:, rows], self.lost[rows], self.norms[rows])

    def fill(self, bank: Tensor) -> "Rounded":
        """Hold what the rows of a bank (M, d) are rounded to, and return self."""
        left, exact = _operand(bank)
        dim = bank.shape[1]
        self.factor[:dim] = -left[:, :dim].T
        self.factor[dim : dim + PIECES] = left[:, dim + PIECES :].T
        self.factor[dim + PIECES :] = 1
        self.lost[:], self.norms[:] = _lost(bank, exact), bank.square().sum(1)
        return self


def no_rows(count: int, dim: int) -> Rounded:
    """Return room for `count` rows of `dim` numbers; as long as it is not filled, it is infinitely far from all."""
    factor = torch.zeros(dim + 2 * PIECES, count, dtype=HALF)
    factor[dim] = torch.inf
    return Rounded(factor, torch.zeros(count), torch.zeros(count))


def _operand(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return rows in bfloat16 as the left side of a product (Q, d + 2 PIECES), and what they are rounded to (Q, d) float32."""
    dim = rows.shape[1]
    left = torch.empty(len(rows), dim + 2 * PIECES, dtype=HALF)
    left[:, :dim] = rows
    exact = left[:, :dim].float()
    left[:, dim : dim + PIECES] = 1
    left[:, dim + PIECES :] = _pieces(exact.square().sum(1) / 2)
    return left, exact


class Halves(Bounds):
    """Bounds for a `bank` (M, d) float32. Numbers are the bits of bfloat16, which have the order of floats above 0."""

    bytes_each = 2

    def __init__(self, bank: Tensor, made: Rounded | None = None) -> None:
        made = made or no_rows(*bank.shape).fill(bank)
        super().__init__(bank, made.norms.max().sqrt())
        self.factor, self.lost = made.factor, made.lost.max()

    def matrix(self, queries: Tensor) -> Matrix:
        """Return the bits of half the squared distances of what is rounded; where these are 0, they may be below 0."""
        left, exact = _operand(queries)

        def limit(reach: Tensor) -> Tensor:
            lost = _lost(queries, exact) + self.lost
            slack = rounding(queries.square().sum(1), self.longest, queries.shape[1])
            most = (reach.sqrt() + lost).square() / 2 + slack
            return (_SPARE * most).nan_to_num(-torch.inf).to(HALF).view(torch.int16)  # NaN: no row is near

        return Matrix((left @ self.factor).view(torch.int16), limit)

    def cost(self, left: float) -> float:
        """Return that of the product, and of what is left."""
        return self.bank.numel() / FASTER + COST * self.bank.shape[1] * left


def are_fast() -> bool:
    """Return whether this CPU has tiles for bfloat16."""
    return bool(torch.cpu.get_capabilities().get("amx_bf16"))


def _lost(rows: Tensor, exact: Tensor) -> Tensor:
    """Return the norms of what rounding took (Q,)."""
    return (rows - exact).square_().sum(1).sqrt_()


def _pieces(values: Tensor) -> Tensor:
    """Return for each value (Q,) bfloat16 numbers whose sum it is, but for a 2^-24th, (Q, PIECES)."""
    found = []
    for _ in range(PIECES):
        found.append(values.to(HALF))
        values = values - found[-1].float()
    return torch.stack(found, 1)
