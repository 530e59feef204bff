"""Lower bounds of squared distances to the rows of a bank: they leave a handful of rows to measure.

`DirectionBounds` compares points by a few dozen numbers in place of hundreds, `Bfloat16Bounds` by products in bfloat16, which are
fast where the CPU has tiles for them. kernels.py says what a bound is and how it is used. Q queries, M rows, d dimensions.
"""

import math
from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

GROUP = 32  # rows whose least bound is looked at first
STEP = 16  # the number of groups is a multiple of it: whole vectors are compared
BLOCK, MOST_QUERIES = 1 << 23, 1024  # bytes of the bounds of one block of queries, and queries of one
COST = 100  # of a number gathered and compared, in multiply-adds of a product: measured, twice, as defects leave more rows
BFLOAT16_SPEED = 7  # of a product in bfloat16 tiles, relative to one in float32
DIRECTIONS = (32, 48, 64, 80, 96, 128)  # numbers of them to choose from
SAMPLE = 256  # rows by which to choose
WORTH = 0.85  # share of the whole product's cost above which bounds are not worth it
SMALLEST = 1 << 17  # elements of a bank below which they are not worth it either


class Precision(NamedTuple):
    """A precision of products.

    bits: the integer of the size of `dtype`. drop: bits that it has less than float32. spare: factor for a product's rounding.
    """

    dtype: torch.dtype
    bits: torch.dtype
    drop: int
    spare: float

    def slack(self, norms: NDArray[np.float32], longest: float, columns: int) -> NDArray[np.float32]:
        """Return the rounding of half a squared distance (Q,) as a sum of `columns` numbers: several times what was measured.

        norms (Q,): squared norms of the queries. longest: norm of the longest row.
        """
        exact = self.dtype == torch.float64 or torch.get_float32_matmul_precision() == "highest" or self.drop
        kind = (torch.float32 if self.drop else self.dtype) if exact else torch.bfloat16  # TF32 and bfloat16 round more
        return np.float32((columns + 32) * torch.finfo(kind).eps) * np.square(np.sqrt(norms) + np.float32(longest))

    @property
    def for_kernels(self) -> tuple[float, int, bool]:
        """`spare`, `drop`, and whether it is float64."""
        return self.spare, self.drop, self.dtype == torch.float64


PRECISIONS = (
    Precision(torch.bfloat16, torch.int16, 16, 1.01),
    Precision(torch.float32, torch.int32, 0, 1 + 1e-6),
    Precision(torch.float64, torch.int64, 0, 1 + 1e-12),
)


def has_bfloat16_tiles() -> bool:
    """Return whether this CPU has tiles for bfloat16."""
    return bool(torch.cpu.get_capabilities().get("amx_bf16"))


class Matrix(NamedTuple):
    """Bounds of queries, as bits (Q, columns); lost, slack (Q,): see kernels.py."""

    bits: Tensor
    lost: Tensor
    slack: Tensor


class Bounds(ABC):
    """Bounds for a `bank` (M, d) float32 on the CPU, by its rows less their mean.

    Columns of a matrix are the rows of the bank, and some behind the last. Column j is in group j % groups, so that groups are
    compared a CPU's vector at a time.
    """

    precision: Precision
    norm: int  # column of the bank's factor that holds its norms
    work = 0.0  # multiply-adds that a query is expected to cost

    def __init__(self, bank: Tensor) -> None:
        from adbench.detectors.search import kernels  # slow to import

        self.kernels, self.bank, self.center = kernels, bank, bank.mean(0)
        self.groups = STEP * math.ceil(len(bank) / (GROUP * STEP))
        self.columns = self.groups * GROUP
        self.most = max(2 * GROUP, self.groups // 2)  # groups left to one query
        self.longest = float((bank - self.center).square_().sum(1).max().sqrt())
        factor, _, lost = self._factor(bank, is_left=False)
        padded = torch.zeros(self.columns, factor.shape[1], dtype=factor.dtype)
        padded[len(bank) :, self.norm] = torch.inf
        padded[: len(bank)] = factor
        self.factor, self.lost = padded.T.contiguous(), lost.max()  # as it lies in a product

    @abstractmethod
    def _factor(self, points: Tensor, is_left: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Return points (Q, d) as a factor of a product of bounds, their squared norms and what rounding took of them (Q,)."""

    def matrix(self, queries: Tensor) -> Matrix:
        """Return the bounds of queries (Q, d); behind the last row they are larger than any limit."""
        factor, norms, lost = self._factor(queries, is_left=True)
        slack = self.precision.slack(norms.numpy(), self.longest, len(self.factor))
        return Matrix((factor @ self.factor).view(self.precision.bits), lost.add_(self.lost), torch.from_numpy(slack))

    @abstractmethod
    def cost(self, left: float) -> float:
        """Return the multiply-adds of a query to which bounds leave so many rows."""

    def nearest(self, queries: Tensor) -> Tensor:
        """Return the index of the row nearest to each of the queries (Q, d), (Q,) int64; -1 where too many may be the nearest.

        Of equally near rows the first is taken. A query's answer does not depend on the others.
        """
        step = max(1, min(MOST_QUERIES, BLOCK // (self.precision.dtype.itemsize * self.columns)))
        index, bank = torch.empty(len(queries), dtype=torch.int64), self.bank.numpy()
        for part, found in zip(torch.split(queries.contiguous(), step), torch.split(index, step), strict=True):
            bits, lost, slack = (tensor.numpy() for tensor in self.matrix(part))
            precision = self.precision.for_kernels
            self.kernels.nearest(bits, self.groups, bank, part.numpy(), lost, slack, precision, self.most, found.numpy())
        return index

    def left(self, own: Tensor) -> float:
        """Return how many rows, but for themselves, bounds leave on average to the rows of the bank at `own`."""
        queries = self.bank[own]
        matrix = self.matrix(queries)
        matrix.bits[torch.arange(len(own)), own] = torch.iinfo(matrix.bits.dtype).max
        squared = (queries - self.bank.index_select(0, argmin(matrix.bits))).square_().sum(1)
        return float((matrix.bits <= self.limits(matrix, squared)[:, None]).sum()) / len(own)

    def limits(self, matrix: Matrix, squared: Tensor) -> Tensor:
        """Return the largest bits (Q,) of a row whose squared distance is at most `squared` (Q,)."""
        most = self.precision.spare * ((squared.sqrt() + matrix.lost).square() / 2 + matrix.slack)
        return ((most.view(torch.int32) >> self.precision.drop) + 1).to(matrix.bits.dtype)


def argmin(values: Tensor) -> Tensor:
    """Return the first smallest column of each row; on a CPU by numpy: torch takes several times as long."""
    return torch.from_numpy(values.numpy().argmin(1)) if values.device.type == "cpu" else values.argmin(1)


class DirectionBounds(Bounds):
    """Bounds for a `bank` (M, d) float32 by orthonormal `directions` (d, p).

    A point becomes its coordinates along the directions, and the length of the rest.
    """

    precision: Precision = PRECISIONS[1]

    def __init__(self, bank: Tensor, directions: Tensor) -> None:
        self.directions, self.norm = directions, directions.shape[1] + 1
        super().__init__(bank)

    def _factor(self, points: Tensor, is_left: bool) -> tuple[Tensor, Tensor, Tensor]:
        centered = points - self.center
        along = centered @ self.directions
        # the rest is formed, not its square by a difference of squares: a root magnifies the rounding of that
        rest = (centered.sub_(along @ self.directions.T)).square_().sum(1, keepdim=True).sqrt_()
        reduced, (count, numbers) = torch.cat([along, rest], 1).numpy(), (len(points), along.shape[1] + 1)
        factor, norms, zero = torch.empty(count, numbers + 2), torch.empty(count), np.zeros(numbers, np.float32)
        self.kernels.float_factors(reduced, np.arange(count), zero, is_left, factor.numpy(), norms.numpy())
        return factor, norms, torch.zeros(count)

    def cost(self, left: float) -> float:
        rows, dim = self.bank.shape
        return self.directions.shape[1] * (rows + 2 * dim) + COST * dim * left


def strongest_directions(bank: Tensor, count: int) -> Tensor:
    """Return (d, count) orthonormal directions, strongest first, by a randomized subspace iteration with a fixed seed.

    After Halko, Martinsson and Tropp, 2011, algorithm 4.4. They need not be exact: any orthonormal ones give bounds.
    """
    start = torch.randn(bank.shape[1], count, generator=torch.Generator().manual_seed(0))
    basis = torch.linalg.qr(bank.T @ (bank @ start))[0]
    basis = torch.linalg.qr(bank.T @ (bank @ basis))[0].double()
    turned = bank @ basis.float()
    order = torch.linalg.eigh((turned.T @ turned).double())[1].flip(1)
    directions: Tensor = torch.linalg.qr(basis @ order)[0].float()
    return directions


class Bfloat16Bounds(Bounds):
    """Bounds for a `bank` (M, d) float32 by products of points rounded to bfloat16."""

    precision: Precision = PRECISIONS[0]

    def __init__(self, bank: Tensor) -> None:
        self.norm = bank.shape[1]
        super().__init__(bank)

    def cost(self, left: float) -> float:
        dim = self.bank.shape[1]
        return dim * self.columns / BFLOAT16_SPEED + COST * dim * left

    def _factor(self, points: Tensor, is_left: bool) -> tuple[Tensor, Tensor, Tensor]:
        (count, dim), norms, lost = points.shape, torch.empty(len(points)), torch.empty(len(points))
        factor = torch.empty(count, dim + 2 * self.kernels.PIECES, dtype=torch.bfloat16)
        bits, center = factor.view(torch.int16).numpy().view(np.uint16), self.center.numpy()
        self.kernels.bfloat16_factors(points.numpy(), np.arange(count), center, is_left, bits, norms.numpy(), lost.numpy())
        return factor, norms, lost


def make_bounds(bank: Tensor) -> Bounds | None:
    """Return bounds for a `bank` (M, d) float32 on the CPU, or None where the whole product is faster.

    Their cost is estimated from some of the bank's own rows, each searched among the others.
    """
    rows, dim = bank.shape
    if rows * dim < SMALLEST:
        return None
    own = torch.arange(0, rows, math.ceil(rows / SAMPLE))
    counts = [count for count in DIRECTIONS if count <= 2 * dim // 3]
    directions = strongest_directions(bank - bank.mean(0), counts[-1]) if counts else bank
    choices: list[Bounds] = [DirectionBounds(bank, directions[:, :count].contiguous()) for count in counts]
    if has_bfloat16_tiles():
        choices.append(Bfloat16Bounds(bank))
    for bounds in choices:
        bounds.work = bounds.cost(bounds.left(own))
    best = min(choices, key=lambda bounds: bounds.work, default=None)
    return best if best and best.work < WORTH * rows * dim else None
