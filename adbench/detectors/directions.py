"""Lower bounds of distances by the directions in which a bank varies most.

For orthonormal directions P (d, p) and what they leave of a vector, R x = x - P P'x, Pythagoras and the triangle inequality
give |q - b|^2 >= |P'q - P'b|^2 + (|Rq| - |Rb|)^2: the squared distance of two vectors of p + 1 numbers. A few dozen numbers
in place of hundreds leave a handful of rows. Features of images have such directions; where a bank has none, and for a
query that many rows may be nearest to, the product of all d numbers is faster, and callers are told so.
"""

import torch
from torch import Tensor

from adbench.detectors.bounds import COST, Bounds, Matrix, rounding

DIRECTIONS = (32, 48, 64, 80, 96, 128)  # numbers of them to choose from


class Along(Bounds):
    """Bounds for a `bank` (M, d) float32 by `directions` (d, p), orthonormal."""

    bytes_each = 4

    def __init__(self, bank: Tensor, directions: Tensor) -> None:
        super().__init__(bank)
        self.directions = directions
        self.reduced = self.reduce(bank)
        self.norms = self.reduced.square().sum(1)

    def reduce(self, rows: Tensor) -> Tensor:
        """Return (Q, p + 1): the coordinates along the directions, and the length of the rest.

        The rest is formed, not its square by a difference of squares: a root magnifies the rounding of that.
        """
        along = rows @ self.directions
        return torch.cat([along, (rows - along @ self.directions.T).square_().sum(1, keepdim=True).sqrt_()], 1)

    def matrix(self, queries: Tensor) -> Matrix:
        """Return squared bounds less the query's squared norm."""
        reduced = self.reduce(queries)
        norms = reduced.square().sum(1)
        values = torch.empty(len(queries), self.columns)
        values[:, len(self.bank) :] = torch.inf
        torch.addmm(self.norms, reduced, self.reduced.T, alpha=-2, out=values[:, : len(self.bank)])
        return Matrix(values, lambda reach: reach - norms + rounding(norms, self.longest, reduced.shape[1]))

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
