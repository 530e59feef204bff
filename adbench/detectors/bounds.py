"""Lower bounds of distances to the rows of a bank, which leave a handful of them to measure, by differences.

directions.py makes them of a few dozen numbers in place of hundreds, halves.py of products in bfloat16.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BLOCK, MOST_QUERIES = 1 << 23, 1024  # bytes of the bounds of one block of queries, and queries of one
MEASURED = 1 << 16  # elements of one block of differences, which stay in the cache
FEWEST_LEFT, SHARE_LEFT = 64, 1 / 32  # rows, and share of a bank, that bounds may leave to one query
COST = (
    100  # of a number gathered and compared, in multiply-adds of a product: measured, twice, as defects leave more rows
)


class Matrix(NamedTuple):
    """Bounds of queries (Q, M), in numbers of the same order as a query's distances.

    limit: returns the largest number (Q,) that a row may have whose squared distance is at most a given one (Q,).
    sift: by better bounds, tells of pairs of a query's number and a row, both (T,), whether that may be so, (T,) bool.
    """

    values: Tensor
    limit: Callable[[Tensor], Tensor]
    sift: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None


class Bounds(ABC):
    """Bounds for a `bank` (M, d) float32 on the CPU. The bank's mean should be 0."""

    bytes_each: int  # of a bound
    work = 0.0  # multiply-adds that a query is expected to count as

    def __init__(self, bank: Tensor, longest: Tensor | None = None) -> None:
        self.bank = bank
        self.most = max(FEWEST_LEFT, int(SHARE_LEFT * len(bank)))
        self.longest = bank.square().sum(1).max().sqrt() if longest is None else longest  # norm of a row

    @abstractmethod
    def matrix(self, queries: Tensor) -> Matrix:
        """Return the bounds of queries (Q, d)."""

    @abstractmethod
    def cost(self, left: float) -> float:
        """Return as how many multiply-adds a query counts to which bounds leave so many rows."""

    def nearest(self, queries: Tensor) -> Tensor:
        """Return the nearest row's index of each of the queries (Q, d), (Q,) int64; -1 where too many may be nearest.

        Of equally near rows the first counts. A query's answer does not depend on the others.
        """
        step = max(1, min(MOST_QUERIES, BLOCK // (self.bytes_each * len(self.bank))))
        return torch.cat([self._block(part) for part in torch.split(queries, step)])

    def left(self, own: Tensor) -> float:
        """Return how many rows bounds leave, on average, to the rows of the bank with the numbers `own`, but for themselves."""
        queries = self.bank[own]
        values, limit, _ = self.matrix(queries)
        values[torch.arange(len(own)), own] = _largest(values)
        reach = self._square(queries, _argmin(values))
        return float((values <= limit(reach)[:, None]).sum()) / len(own)

    def _block(self, queries: Tensor) -> Tensor:
        """Measure the row of the least bound, and then, where others may be as near, all that may."""
        matrix = self.matrix(queries)
        index, least, second = _two_least(matrix.values)
        reach = self._square(queries, index)
        most = matrix.limit(reach)
        several = where(second <= most)
        index[where(~(least <= most))] = -1  # no numbers
        hit = np.flatnonzero(matrix.values.numpy()[several.numpy()] <= most[several].numpy()[:, None])
        hit = hit[np.bincount(hit // len(self.bank), minlength=len(several))[hit // len(self.bank)] <= self.most]
        place, row = (torch.from_numpy(part) for part in np.divmod(hit, len(self.bank)))
        if matrix.sift:
            near = where(matrix.sift(several[place], row, reach))
            place, row = place[near], row[near]
        index[several] = nearest_of(self.bank, queries.index_select(0, several), place, row)
        return index

    def _square(self, queries: Tensor, index: Tensor) -> Tensor:
        """Return the squared distance of each query to one row."""
        return (queries - self.bank.index_select(0, index)).square_().sum(1)


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


def _argmin(values: Tensor) -> Tensor:
    return torch.from_numpy(values.numpy().argmin(1))  # torch's takes several times as long


def _two_least(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the first smallest column of each row, its number, and the next smallest number."""
    every, index = torch.arange(len(values)), _argmin(values)
    least = values[every, index]
    values[every, index] = _largest(values)
    second = values.amin(1)
    values[every, index] = least
    return index, least, second


def _largest(values: Tensor) -> float:
    return torch.inf if values.is_floating_point() else torch.iinfo(values.dtype).max


def _starts(rows: Tensor) -> NDArray[np.intp]:
    """Return where a new number begins among sorted ones."""
    return np.flatnonzero(np.diff(rows.numpy(), prepend=-1))


def where(mask: Tensor) -> Tensor:
    """Return the flat indices of True."""
    return torch.from_numpy(np.flatnonzero(mask.numpy()))  # likewise
