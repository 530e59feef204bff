"""Lower bounds of distances by products in bfloat16, where a CPU has tiles for them (Intel AMX): 7 times as fast as float32.

For vectors q, b and what rounding makes of them, q', b', the triangle inequality gives |q - b| >= |q' - b'| - |q - q'| -
|b - b'|. The product is |q' - b'|^2 / 2 as a whole: norms are further columns, three bfloat16 each, which is float32's
precision. It is summed up in float32 and rounded once, by a share of itself; so the nearest rows are told apart best.
"""

import numpy as np
import torch
from torch import Tensor

from adbench.detectors.bounds import COST, Bounds, Matrix, rounding

HALF, PIECES = torch.bfloat16, 3
_SIGN = 0x8000  # its bit in bfloat16
_SPARE = 1.01  # the product and its limit are rounded to 8 bits each
_FASTER = 7  # than a product in float32


class Halves(Bounds):
    """Bounds for a `bank` (M, d) float32. Numbers are the bits of bfloat16, which have the order of floats above 0."""

    bytes_each = 2

    def __init__(self, bank: Tensor) -> None:
        super().__init__(bank)
        half, norms, lost = _rounded(bank)
        self.lost = lost.max()
        factor = torch.zeros(self.columns, half.shape[1], dtype=HALF)
        factor[len(bank) :, bank.shape[1]] = torch.inf
        factor[: len(bank)] = _with(half, _pieces(norms / 2), _ones(bank))
        self.factor = factor.T.contiguous()  # as it lies in a product

    def matrix(self, queries: Tensor) -> Matrix:
        """Return the bits of half the squared distances of what is rounded; where these are 0, they may be below 0."""
        half, norms, lost = _rounded(queries, _SIGN)
        products = _with(half, _ones(queries), _pieces(norms / 2)) @ self.factor
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


def _rounded(rows: Tensor, sign: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Return rows (Q, d) in bfloat16, times -1 if the sign's bit is given, before columns for pieces (Q, d + 2 PIECES);
    the squared norms of these rows (Q,), and the norms of what rounding took (Q,).
    """
    from adbench.detectors.kernels import round_to_half  # slow to import

    half = torch.empty(len(rows), rows.shape[1] + 2 * PIECES, dtype=HALF)
    norms, lost = torch.empty(len(rows)), torch.empty(len(rows))
    round_to_half(rows.numpy(), sign, half.view(torch.int16).numpy().view(np.uint16), norms.numpy(), lost.numpy())
    return half, norms, lost.sqrt_()


def _with(half: Tensor, *pieces: Tensor) -> Tensor:
    half[:, -2 * PIECES :] = torch.cat(pieces, 1)
    return half


def _pieces(values: Tensor) -> Tensor:
    """Return for each value (Q,) bfloat16 numbers whose sum it is, but for a 2^-24th, (Q, PIECES)."""
    found = []
    for _ in range(PIECES):
        found.append(values.to(HALF))
        values = values - found[-1].float()
    return torch.stack(found, 1)


def _ones(rows: Tensor) -> Tensor:
    return torch.ones(len(rows), PIECES, dtype=HALF)
