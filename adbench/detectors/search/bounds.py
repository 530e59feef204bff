"""Lower bounds of distances to the rows of a bank, which leave a handful of them to measure, by differences.

directions.py makes them of a few dozen numbers in place of hundreds, halves.py of products in bfloat16.
"""

import math
from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

HALF = torch.bfloat16


class Precision(NamedTuple):
    """bits: an integer of the size of `dtype`. drop: bits that it lacks to a float32. spare: what a rounded product may lack."""

    dtype: torch.dtype
    bits: torch.dtype
    drop: int
    spare: float

    def slack(self, norms: NDArray[np.float32], longest: float, columns: int) -> NDArray[np.float32]:
        """Return what rounding may take of half a squared distance (Q,), some times what was found: of sums of `columns` numbers.

        norms: squared, of the queries (Q,); longest: norm of the longest row.
        """
        exact = self.dtype == torch.float64 or torch.get_float32_matmul_precision() == "highest" or self.drop
        kind = (torch.float32 if self.drop else self.dtype) if exact else HALF  # TF32 and bfloat16 products round more
        return np.float32((columns + 32) * torch.finfo(kind).eps) * np.square(np.sqrt(norms) + np.float32(longest))

    def limits(self) -> tuple[float, NDArray[np.floating], NDArray[np.signedinteger], int]:
        """Return what a loop needs to tell the bits of a limit: `spare`, a number, the same memory as an integer, and `drop`."""
        number = torch.empty(1, dtype=torch.float32 if self.drop else self.dtype)
        bits = number.view(torch.int64 if number.dtype == torch.float64 else torch.int32)
        return self.spare, number.numpy(), bits.numpy(), self.drop


PRECISIONS = (
    Precision(HALF, torch.int16, 16, 1.01),
    Precision(torch.float32, torch.int32, 0, 1 + 1e-6),
    Precision(torch.float64, torch.int64, 0, 1 + 1e-12),
)


def are_fast() -> bool:
    """Return whether this CPU has tiles for bfloat16."""
    return bool(torch.cpu.get_capabilities().get("amx_bf16"))


GROUP = 32  # rows whose least bound is looked at first
STEP = 16  # groups, of which there is a multiple: whole vectors are compared
BLOCK, MOST_QUERIES = 1 << 23, 1024  # bytes of the bounds of one block of queries, and queries of one
COST = 100  # of a number gathered and compared, in multiply-adds of a product: measured, twice, as defects leave more rows


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
        from adbench.detectors.search.kernels import nearest  # slow to import

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
        from adbench.detectors.search import kernels as factors  # slow to import

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
        from adbench.detectors.search import kernels as factors  # slow to import

        (count, dim), norms, lost = points.shape, torch.empty(len(points)), torch.empty(len(points))
        half = torch.empty(count, dim + 2 * factors.PIECES, dtype=HALF)
        bits, centre = half.view(torch.int16).numpy().view(np.uint16), self.centre.numpy()
        factors.half_factors(points.numpy(), np.arange(count), centre, is_left, bits, norms.numpy(), lost.numpy())
        return half, norms, lost


SAMPLE = 256  # rows by which to choose
WORTH = 0.85  # of the whole product's cost: above that, bounds are not worth it
SMALLEST = 1 << 17  # elements of a bank below which they are not worth it either


def make_bounds(bank: Tensor) -> Bounds | None:
    """Return bounds for a `bank` (M, d) float32 on the CPU, or None where the whole product is faster.

    Their cost is estimated from some of the bank's own rows, each looked for among the others.
    """
    rows, dim = bank.shape
    if rows * dim < SMALLEST:
        return None
    own = torch.arange(0, rows, math.ceil(rows / SAMPLE))
    choices = _choices(bank)
    for bounds in choices:
        bounds.work = bounds.cost(bounds.left(own))
    best = min(choices, key=lambda bounds: bounds.work, default=None)
    return best if best and best.work < WORTH * rows * dim else None


def _choices(bank: Tensor) -> list[Bounds]:
    counts = [count for count in DIRECTIONS if count <= 2 * bank.shape[1] // 3]
    directions = strongest(bank - bank.mean(0), counts[-1]) if counts else bank
    found: list[Bounds] = [Along(bank, directions[:, :count].contiguous()) for count in counts]
    return [*found, Halves(bank)] if are_fast() else found
