"""Lower bounds of distances by products in bfloat16, where a CPU has tiles for them (Intel AMX): 7 times as fast as float32.

For vectors q, b and what rounding makes of them, q', b', the triangle inequality gives |q - b| >= |q' - b'| - |q - q'| -
|b - b'|. The product is |q' - b'|^2 / 2 as a whole: norms are further columns, three bfloat16 each, which is float32's
precision. It is summed up in float32 and rounded once, by a share of itself; so the nearest rows are told apart best.
"""

import numpy as np
import torch
from torch import Tensor

from adbench.detectors.bounds import COST, Bounds, Matrix
from adbench.detectors.precision import HALF, PRECISIONS, Precision

_FASTER = 7  # than a product in float32


class Halves(Bounds):
    """Bounds for a `bank` (M, d) float32."""

    precision: Precision = PRECISIONS[0]

    def __init__(self, bank: Tensor) -> None:
        super().__init__(bank)
        rounded, _, lost = self._factor(bank, is_left=False)
        self.lost = lost.max()
        padded = torch.zeros(self.columns, rounded.shape[1], dtype=HALF)
        padded[len(bank) :, bank.shape[1]] = torch.inf
        padded[: len(bank)] = rounded
        self.factor = padded.T.contiguous()  # as it lies in a product

    def matrix(self, queries: Tensor) -> Matrix:
        """Return the bounds of queries (Q, d)."""
        rounded, norms, lost = self._factor(queries, is_left=True)
        slack = self.precision.slack(norms.numpy(), self.longest, len(self.factor))
        return Matrix((rounded @ self.factor).view(torch.int16), lost.add_(self.lost), torch.from_numpy(slack))

    def cost(self, left: float) -> float:
        """Return that of the product, and of what is left."""
        dim = self.bank.shape[1]
        return dim * self.columns / _FASTER + COST * dim * left

    def _factor(self, points: Tensor, is_left: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Return points (Q, d) as a factor of a product of bounds (Q, more than d); squared norms of what is rounded (Q,),
        and the lengths that rounding took (Q,).
        """
        from adbench.loops import factors  # slow to import

        (count, dim), norms, lost = points.shape, torch.empty(len(points)), torch.empty(len(points))
        half = torch.empty(count, dim + 2 * factors.PIECES, dtype=HALF)
        bits, centre = half.view(torch.int16).numpy().view(np.uint16), self.centre.numpy()
        factors.half_factors(points.numpy(), np.arange(count), centre, is_left, bits, norms.numpy(), lost.numpy())
        return half, norms, lost
