"""Lower bounds of distances by the directions in which a bank varies most.

For orthonormal directions P (d, p) and what they leave of a vector, R x = x - P P'x, Pythagoras and the triangle inequality
give |q - b|^2 >= |P'q - P'b|^2 + (|Rq| - |Rb|)^2: the squared distance of two vectors of p + 1 numbers. A few dozen numbers
in place of hundreds leave a handful of rows. Features of images have such directions; where a bank has none, and for a
query that many rows may be nearest to, the product of all d numbers is faster, and callers are told so.
"""

import torch
from torch import Tensor

from adbench.detectors import halves
from adbench.detectors.bounds import COST, Bounds, Matrix, rounding
from adbench.detectors.halves import FASTER, Halves

_SPARE = 1.0001  # for the rounding of a difference
_ASIDE = 80_000  # multiply-adds that it takes as long as to prepare a query twice, measured
DIRECTIONS = (32, 48, 64, 80, 96, 128)  # numbers of them to choose from


class Along(Bounds):
    """Bounds for a `bank` (M, d) float32 by `directions` (d, p), orthonormal; in bfloat16 where a CPU has tiles for that."""

    def __init__(self, bank: Tensor, directions: Tensor) -> None:
        super().__init__(bank)
        self.directions = directions
        self.reduced, off = self.reduce(bank)
        self.off = off.max()
        self.norms = self.reduced.square().sum(1)
        self.halves = Halves(self.reduced) if halves.are_fast() else None
        self.bytes_each = 2 if self.halves else 4

    def reduce(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return the coordinates along the directions and the length of the rest (Q, p + 1), and by how much it may be off (Q,).

        The length is the root of a difference of squares, which magnifies its rounding where it is short.
        """
        along = rows @ self.directions
        norms = rows.square().sum(1)
        rest = (norms - along.square().sum(1)).clamp_(min=0).sqrt_()
        off = rounding(norms, norms.new_zeros(()), rows.shape[1])
        return torch.cat([along, rest[:, None]], 1), off / torch.maximum(rest, off.sqrt()).clamp_(min=1e-37)

    def matrix(self, queries: Tensor) -> Matrix:
        """Return squared bounds less the query's squared norm, or what `Halves` does."""
        reduced, off = self.reduce(queries)
        off += self.off
        if self.halves:
            values, within, _ = self.halves.matrix(reduced)

            def sift(numbers: Tensor, rows: Tensor, reach: Tensor) -> Tensor:
                gap = (reduced.index_select(0, numbers) - self.reduced.index_select(0, rows)).square_().sum(1)
                return gap <= (_SPARE * (reach.sqrt() + off).square())[numbers]

            return Matrix(values, lambda reach: within((reach.sqrt() + off).square()), sift)
        norms = reduced.square().sum(1)
        slack = rounding(norms, self.longest, reduced.shape[1]) - norms
        values = torch.addmm(self.norms, reduced, self.reduced.T, alpha=-2)
        return Matrix(values, lambda reach: (reach.sqrt() + off).square() + slack)

    def cost(self, left: float) -> float:
        """Return that of the products along the directions and with the bank, and of what is left."""
        rows, dim = self.bank.shape
        count, product = self.directions.shape[1], rows / FASTER if self.halves else rows
        if not self.halves:
            return count * (product + dim) + COST * dim * left
        return (
            count * (product + dim) + COST * (count + dim / 2) * left + _ASIDE
        )  # about half of what is left is sifted out


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
