"""Lower bounds of distances to the rows of a bank, which leave a handful of them to measure, by differences.

directions.py makes them of a few dozen numbers in place of hundreds, halves.py of products in bfloat16.
"""

import math
from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor

from adbench.detectors.precision import Precision

GROUP = 32  # rows whose least bound is looked at first
STEP = 16  # groups, of which there is a multiple: whole vectors are compared
BLOCK, MOST_QUERIES = 1 << 23, 1024  # bytes of the bounds of one block of queries, and queries of one
COST = (
    100  # of a number gathered and compared, in multiply-adds of a product: measured, twice, as defects leave more rows
)


class Matrix(NamedTuple):
    """Bounds of queries (Q, columns): the bits of half a squared distance of what is rounded. coreset.py says what they mean.

    near: the length that rounding took of a query and of any row (Q,). slack: what rounding may take of the product (Q,).
    """

    bits: Tensor
    near: Tensor
    slack: Tensor


class Bounds(ABC):
    """Bounds for a `bank` (M, d) float32 on the CPU, by its rows less their mean.

    Columns of a matrix are the rows of the bank, and some behind the last. Column j is in group j % groups: so groups are
    compared a CPU's vector at a time.
    """

    precision: Precision
    work = 0.0  # multiply-adds that a query is expected to count as

    def __init__(self, bank: Tensor) -> None:
        self.bank, self.centre = bank, bank.mean(0)
        self.groups = STEP * math.ceil(len(bank) / (GROUP * STEP))
        self.columns = self.groups * GROUP
        self.most = max(2 * GROUP, self.groups // 2)  # groups left to one query
        self.longest = float((bank - self.centre).square_().sum(1).max().sqrt())

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
        step = max(1, min(MOST_QUERIES, BLOCK // (self.precision.dtype.itemsize * self.columns)))
        return torch.cat([self._block(part) for part in torch.split(queries.contiguous(), step)])

    def left(self, own: Tensor) -> float:
        """Return how many rows bounds leave, on average, to the rows of the bank with the numbers `own`, but for themselves."""
        queries = self.bank[own]
        matrix = self.matrix(queries)
        matrix.bits[torch.arange(len(own)), own] = torch.iinfo(matrix.bits.dtype).max
        reach = (queries - self.bank.index_select(0, argmin(matrix.bits))).square_().sum(1)
        return float((matrix.bits <= self.limits(matrix, reach)[:, None]).sum()) / len(own)

    def limits(self, matrix: Matrix, reach: Tensor) -> Tensor:
        """Return the largest bits (Q,) that a row may have whose squared distance is at most `reach` (Q,)."""
        spare, _, _, drop = self.precision.limits()
        most = spare * ((reach.sqrt() + matrix.near).square() / 2 + matrix.slack)
        return ((most.view(torch.int32) >> drop) + 1).to(matrix.bits.dtype)

    def _block(self, queries: Tensor) -> Tensor:
        from adbench.loops.search import nearest  # slow to import

        bits, near, slack = (tensor.numpy() for tensor in self.matrix(queries))
        index = torch.empty(len(queries), dtype=torch.int64)
        rows = self.bank.numpy(), queries.numpy()
        spare, number, integer, drop = self.precision.limits()
        nearest(bits, self.groups, *rows, near, slack, spare, number, integer, drop, self.most, index.numpy())
        return index


def rounding(norms: Tensor, longest: Tensor, dim: int) -> Tensor:
    """Return by how much float32 products of `dim` numbers may be off as squared distances (Q,): some times what was found.

    norms: squared, of the queries (Q,). longest: norm of the longest row.
    """
    return 2 * (dim + 32) * torch.finfo(torch.float32).eps * (norms.sqrt() + longest).square()


def argmin(values: Tensor) -> Tensor:
    """Return the first smallest column of each row, by numpy: torch's takes several times as long."""
    return torch.from_numpy(values.numpy().argmin(1))
