"""Lower bounds of distances by the directions in which a bank varies most.

For orthonormal directions P (d, p) and what they leave of a vector, R x = x - P P'x, Pythagoras and the triangle inequality
give |q - b|^2 >= |P'q - P'b|^2 + (|Rq| - |Rb|)^2: the squared distance of two vectors of p + 1 numbers. A few dozen numbers
in place of hundreds leave a handful of rows. Features of images have such directions; where a bank has none, and for a
query that many rows may be nearest to, the product of all d numbers is faster, and callers are told so.
"""

import numpy as np
import torch
from torch import Tensor

from adbench.detectors.bounds import COST, Bounds, Matrix
from adbench.detectors.precision import PRECISIONS, Precision

DIRECTIONS = (32, 48, 64, 80, 96, 128)  # numbers of them to choose from


class Along(Bounds):
    """Bounds for a `bank` (M, d) float32 by `directions` (d, p), orthonormal."""

    precision: Precision = PRECISIONS[1]

    def __init__(self, bank: Tensor, directions: Tensor) -> None:
        super().__init__(bank)
        self.directions = directions
        factor, _ = self._factor(bank, is_left=False)
        padded = torch.zeros(self.columns, factor.shape[1])
        padded[len(bank) :, -2] = torch.inf
        padded[: len(bank)] = factor
        self.factor = padded.T.contiguous()  # as it lies in a product

    def matrix(self, queries: Tensor) -> Matrix:
        """Return the bounds of queries (Q, d)."""
        factor, norms = self._factor(queries, is_left=True)
        slack = self.precision.slack(norms.numpy(), self.longest, len(self.factor))
        return Matrix((factor @ self.factor).view(torch.int32), torch.zeros(len(queries)), torch.from_numpy(slack))

    def _factor(self, points: Tensor, is_left: bool) -> tuple[Tensor, Tensor]:
        """Return points as a factor of a product of bounds (Q, p + 3), and squared norms (Q,).

        A point becomes its coordinates along the directions, and the length of the rest. The rest is formed, not its square
        by a difference of squares: a root magnifies the rounding of that.
        """
        from adbench.loops import factors  # slow to import

        centred = points - self.centre
        along = centred @ self.directions
        rest = (centred.sub_(along @ self.directions.T)).square_().sum(1, keepdim=True).sqrt_()
        reduced, (count, numbers) = torch.cat([along, rest], 1).numpy(), (len(points), along.shape[1] + 1)
        factor, norms, zero = torch.empty(count, numbers + 2), torch.empty(count), np.zeros(numbers, np.float32)
        factors.whole_factors(reduced, np.arange(count), zero, is_left, factor.numpy(), norms.numpy())
        return factor, norms

    def cost(self, left: float) -> float:
        """Return that of the product, of two along the directions, and of what is left."""
        rows, dim = self.bank.shape
        return self.directions.shape[1] * (rows + 2 * dim) + COST * dim * left


def strongest(bank: Tensor, count: int) -> Tensor:
    """Return (d, count) orthonormal directions, strongest first, by a randomised subspace iteration with a fixed seed.

    After Halko, Martinsson and Tropp, 2011, algorithm 4.4. They need not be exact: any orthonormal ones give bounds.
    """
    start = torch.randn(bank.shape[1], count, generator=torch.Generator().manual_seed(0))
    basis = torch.linalg.qr(bank.T @ (bank @ start))[0]
    basis = torch.linalg.qr(bank.T @ (bank @ basis))[0].double()
    turned = bank @ basis.float()
    order = torch.linalg.eigh((turned.T @ turned).double())[1].flip(1)
    directions: Tensor = torch.linalg.qr(basis @ order)[0].float()
    return directions
