"""Lower bounds of distances to the rows of a bank, which leave a handful of them to measure, by differences.

directions.py makes them of a few dozen numbers in place of hundreds, halves.py of products in bfloat16.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

GROUP = 32  # rows whose least bound is looked at first
STEP = 16  # groups, of which there is a multiple: whole vectors are compared
BLOCK, MOST_QUERIES = 1 << 23, 1024  # bytes of the bounds of one block of queries, and queries of one
MEASURED = 1 << 16  # elements of one block of differences, which stay in the cache
COST = (
    100  # of a number gathered and compared, in multiply-adds of a product: measured, twice, as defects leave more rows
)


class Matrix(NamedTuple):
    """Bounds of queries (Q, columns), in numbers of the same order as a query's distances.

    limit: returns the largest number (Q,) that a row may have whose squared distance is at most a given one (Q,).
    """

    values: Tensor
    limit: Callable[[Tensor], Tensor]


class Bounds(ABC):
    """Bounds for a `bank` (M, d) float32 on the CPU. The bank's mean should be 0.

    Columns of a matrix are the rows of the bank, and some behind the last. Column j is in group j % groups: so groups are
    compared a CPU's vector at a time.
    """

    bytes_each: int  # of a bound
    work = 0.0  # multiply-adds that a query is expected to count as

    def __init__(self, bank: Tensor) -> None:
        self.bank = bank
        self.groups = STEP * math.ceil(len(bank) / (GROUP * STEP))
        self.columns = self.groups * GROUP
        self.most = max(2 * GROUP, self.groups // 2)  # groups left to one query
        self.longest = bank.square().sum(1).max().sqrt()

    @abstractmethod
    def matrix(self, queries: Tensor) -> Matrix:
        """Return the bounds of queries (Q, d); behind the last row they are larger than any limit."""

    @abstractmethod
    def cost(self, left: float) -> float:
        """Return as how many multiply-adds a query counts to which bounds leave so many rows."""

    def nearest(self, queries: Tensor) -> Tensor:
        """Return the nearest row's index of each of the queries (Q, d), (Q,) int64; -1 where too many may be nearest.

        Of equally near rows the first counts. A query's answer does not depend on the others.
        """
        step = max(1, min(MOST_QUERIES, BLOCK // (self.bytes_each * self.columns)))
        return torch.cat([self._block(part) for part in torch.split(queries, step)])

    def left(self, own: Tensor) -> float:
        """Return how many rows bounds leave, on average, to the rows of the bank with the numbers `own`, but for themselves."""
        queries = self.bank[own]
        values, limit = self.matrix(queries)
        values[torch.arange(len(own)), own] = torch.inf if values.is_floating_point() else torch.iinfo(values.dtype).max
        reach = (queries - self.bank.index_select(0, _argmin(values))).square_().sum(1)
        return float((values <= limit(reach)[:, None]).sum()) / len(own)

    def _block(self, queries: Tensor) -> Tensor:
        values, limit = self.matrix(queries)
        starts, members = torch.arange(len(queries)) * self.columns, torch.arange(GROUP) * self.groups
        least = values.view(-1, GROUP, self.groups).amin(1)
        group = _argmin(least)
        near = group + self.groups * _argmin(_at(values, (starts + group)[:, None] + members))
        reach = (queries - self.bank.index_select(0, near)).square_().sum(1)
        most = limit(reach)
        hit = where(least <= most[:, None])
        counts = torch.bincount(hit // self.groups, minlength=len(queries))
        hit = hit[counts[hit // self.groups] <= self.most]
        query, group = hit // self.groups, hit % self.groups
        left = where(_at(values, (starts[query] + group)[:, None] + members) <= most[query, None])
        hit, member = left // GROUP, left % GROUP
        pairs = (starts[query[hit]] + group[hit] + self.groups * member).sort().values
        return nearest_of(self.bank, queries, pairs // self.columns, pairs % self.columns)


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


def _at(values: Tensor, places: Tensor) -> Tensor:
    return torch.from_numpy(values.numpy().take(places.numpy()))  # torch's takes several times as long


def _argmin(values: Tensor) -> Tensor:
    return torch.from_numpy(values.numpy().argmin(1))  # likewise


def _starts(rows: Tensor) -> NDArray[np.intp]:
    """Return where a new number begins among sorted ones."""
    return np.flatnonzero(np.diff(rows.numpy(), prepend=-1))


def where(mask: Tensor) -> Tensor:
    """Return the flat indices of True."""
    return torch.from_numpy(np.flatnonzero(mask.numpy()))  # likewise
