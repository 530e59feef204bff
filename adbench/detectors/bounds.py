"""Lower bounds of distances to the rows of a bank, which leave a handful of them to measure.

For orthonormal directions P (d, p) and what they leave of a vector, R x = x - P P'x, Pythagoras and the triangle inequality
give |q - b|^2 >= |P'q - P'b|^2 + (|Rq| - |Rb|)^2: the squared distance of two vectors of p + 1 numbers. Along the directions
in which a bank varies most, a few dozen numbers in place of hundreds leave a handful of rows, and only to these is the
distance measured, by differences. Features of images have such directions; where a bank has none, and for a query that
many rows may be nearest to, the product of all d numbers is faster, and callers are told so.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

GROUP = 32  # rows whose least bound is looked at first
BLOCK, MOST_QUERIES = 1 << 20, 256  # bounds of one block of queries (4 MB), and queries of one
MEASURED = 1 << 16  # elements of one block of differences, which stay in the cache
DIRECTIONS = (32, 48, 64, 80, 96, 128)  # numbers of them to choose from
SAMPLE = 256  # rows by which to choose
COST = (
    100  # of a number gathered and compared, in multiply-adds of a product: measured, twice, as defects leave more rows
)
WORTH = 0.85  # of the whole product's cost: above that, bounds are not worth it
SMALLEST = 1 << 17  # elements of a bank below which they are not worth it either


class Bounds:
    """Bounds for a `bank` (M, d) float32 on the CPU by `directions` (d, p), orthonormal. The bank's mean should be 0."""

    def __init__(self, bank: Tensor, directions: Tensor) -> None:
        self.bank, self.directions = bank, directions
        self.groups = math.ceil(len(bank) / GROUP)
        self.most = max(2 * GROUP, self.groups // 2)  # groups left to one query
        self.longest = bank.square().sum(1).max().sqrt()
        self.reduced = self.reduce(bank)
        self.norms = self.reduced.square().sum(1)

    def reduce(self, rows: Tensor) -> Tensor:
        """Return (Q, p + 1): the coordinates along the directions, and the length of the rest.

        The rest is formed, not its square by a difference of squares: a root magnifies the rounding of that.
        """
        along = rows @ self.directions
        return torch.cat([along, (rows - along @ self.directions.T).square_().sum(1, keepdim=True).sqrt_()], 1)

    def nearest(self, queries: Tensor) -> Tensor:
        """Return the nearest row's index of each of the queries (Q, d), (Q,) int64; -1 where too many may be nearest.

        Of equally near rows the first counts. A query's answer does not depend on the others.
        """
        step = max(1, min(MOST_QUERIES, BLOCK // len(self.bank)))
        return torch.cat([self._block(part) for part in torch.split(queries, step)])

    def _block(self, queries: Tensor) -> Tensor:
        reduced = self.reduce(queries)
        norms = reduced.square().sum(1)
        bounds = self._bounds(reduced)
        cells = bounds.view(-1, GROUP)
        least = bounds.view(len(queries), self.groups, GROUP).amin(2)
        group = _argmin(least)
        member = _argmin(cells.index_select(0, group + torch.arange(len(queries)) * self.groups))
        reach = (queries - self.bank.index_select(0, group * GROUP + member)).square_().sum(1)
        limit = reach - norms + rounding(norms, self.longest, self.reduced.shape[1])
        hit = where(least <= limit[:, None])
        counts = torch.bincount(hit // self.groups, minlength=len(queries))
        hit = hit[counts[hit // self.groups] <= self.most]
        left = where(cells.index_select(0, hit) <= limit[hit // self.groups, None])
        hit, member = hit[left // GROUP], left % GROUP
        return nearest_of(self.bank, queries, hit // self.groups, hit % self.groups * GROUP + member)

    def _bounds(self, reduced: Tensor) -> Tensor:
        """Return squared bounds less the query's squared norm (Q, groups * GROUP); inf behind the last row."""
        bounds = torch.empty(len(reduced), self.groups * GROUP)
        bounds[:, len(self.bank) :] = torch.inf
        torch.addmm(self.norms, reduced, self.reduced.T, alpha=-2, out=bounds[:, : len(self.bank)])
        return bounds


def rounding(norms: Tensor, longest: Tensor, dim: int) -> Tensor:
    """Return by how much float32 products of `dim` numbers may be off as squared distances (Q,): some times what was found.

    norms: squared, of the queries (Q,). longest: norm of the longest row.
    """
    return 2 * (dim + 32) * torch.finfo(torch.float32).eps * (norms.sqrt() + longest).square()


def nearest_of(bank: Tensor, queries: Tensor, rows: Tensor, candidates: Tensor) -> Tensor:
    """Measure pairs of a query's number and a bank row (T,), sorted; return the nearest row's index, (Q,), -1 without any."""
    gaps, step = torch.empty(len(rows)), max(1, MEASURED // queries.shape[1])
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        gap = bank.index_select(0, candidates[part]).sub_(queries.index_select(0, rows[part]))
        torch.sum(gap.square_(), 1, out=gaps[part])
    index = torch.full((len(queries),), -1)
    if len(rows):
        starts = _starts(rows)
        smallest = np.repeat(np.minimum.reduceat(gaps.numpy(), starts), np.diff(starts, append=len(rows)))
        best = where(gaps == torch.from_numpy(smallest))
        best = best[_starts(rows[best])]
        index[rows[best]] = candidates[best]
    return index


def make_bounds(bank: Tensor) -> Bounds | None:
    """Return bounds for a `bank` (M, d) float32 of mean 0 on the CPU, or None where the whole product is faster.

    The number of directions is the one of least estimated cost over some of the bank's own rows, each against the others.
    """
    rows, dim = bank.shape
    choices = [count for count in DIRECTIONS if count <= 2 * dim // 3]
    if rows * dim < SMALLEST or not choices:
        return None
    directions = strongest(bank, choices[-1])
    bounds = {count: Bounds(bank, directions[:, :count].contiguous()) for count in choices}
    costs = {count: _cost(bound) for count, bound in bounds.items()}
    best = min(costs, key=costs.__getitem__)
    return bounds[best] if costs[best] < WORTH * rows * dim else None


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


def _cost(bounds: Bounds) -> float:
    """Return the multiply-adds of a query as estimated from some rows of the bank, each looked for among the others."""
    rows, dim = bounds.bank.shape
    own = torch.arange(0, rows, math.ceil(rows / SAMPLE))
    queries = bounds.bank[own]
    reduced = bounds.reduce(queries)
    squared = torch.addmm(bounds.norms, reduced, bounds.reduced.T, alpha=-2) + reduced.square().sum(1, keepdim=True)
    squared[torch.arange(len(own)), own] = torch.inf
    reach = (queries - bounds.bank[squared.argmin(1)]).square().sum(1)
    left = (squared <= reach[:, None]).sum() / len(own)
    return bounds.directions.shape[1] * (rows + 2 * dim) + COST * dim * float(left)


def _argmin(values: Tensor) -> Tensor:
    return torch.from_numpy(values.numpy().argmin(1))  # torch's takes several times as long


def _starts(rows: Tensor) -> NDArray[np.intp]:
    """Return where a new number begins among sorted ones."""
    return np.flatnonzero(np.diff(rows.numpy(), prepend=-1))


def where(mask: Tensor) -> Tensor:
    """Return the flat indices of True."""
    return torch.from_numpy(np.flatnonzero(mask.numpy()))  # likewise
