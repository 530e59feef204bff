"""The compiled loops that lay out factors of matrix products of half squared distances, |x - c|^2 / 2 as a whole.

To a point's coordinates come columns for its squared norm and for the ones that the other factor's are multiplied by. In
bfloat16 a norm is a sum of three numbers, which has float32's precision.
"""

import numpy as np
from numpy.typing import NDArray

from adbench.loops import compiled

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Indices = NDArray[np.int64]

PIECES = 3


@compiled
def half_factors(
    points: Floats, rows: Indices, centre: Floats, is_left: bool, half: NDArray[np.uint16], norms: Floats, lost: Floats
) -> None:
    """Write points less `centre` (d,) as bits of bfloat16, a factor of the product of bounds, (R, d + 2 PIECES).

    The left factor is -x, 1, |x|^2 / 2, the right one x, |x|^2 / 2, 1; both in as many columns as pieces.
    norms, lost (R,): squared norms of what is rounded, and the length that rounding took.
    """
    dim = points.shape[1]
    centred, upper = np.empty(dim, np.float32), np.empty(dim, np.uint32)
    bits, rounded = centred.view(np.uint32), upper.view(np.float32)
    sign, pieces = (0x8000, dim + PIECES) if is_left else (0, dim)
    ones = dim if is_left else dim + PIECES
    for number in range(rows.shape[0]):
        row = rows[number]
        for column in range(dim):
            centred[column] = points[row, column] - centre[column]
        norm, off = np.float32(0), np.float32(0)
        for column in range(dim):
            even = (bits[column] >> 16) & 1  # to the nearest, or to the even of two
            upper[column] = (bits[column] + 0x7FFF + even) & 0xFFFF0000
            half[number, column] = (upper[column] >> 16) ^ sign
        for column in range(dim):
            difference = centred[column] - rounded[column]
            norm += rounded[column] * rounded[column]
            off += difference * difference
        norms[number], lost[number] = norm, np.sqrt(off)
        rest = norm / np.float32(2)
        for piece in range(PIECES):
            half[number, ones + piece] = 0x3F80
            centred[0] = rest
            even = (bits[0] >> 16) & 1
            upper[0] = (bits[0] + 0x7FFF + even) & 0xFFFF0000
            half[number, pieces + piece] = upper[0] >> 16
            rest -= rounded[0]


@compiled
def whole_factors(
    points: Floats, rows: Indices, centre: Doubles | Floats, is_left: bool, factor: Doubles | Floats, norms: Floats
) -> None:
    """Write the same in float32 or float64, (R, d + 2): nothing is lost that counts, and one column holds a norm."""
    dim = points.shape[1]
    for number in range(rows.shape[0]):
        row, norm = rows[number], centre[0] * 0
        for column in range(dim):
            value = points[row, column] - centre[column]
            factor[number, column] = -value if is_left else value
            norm += value * value
        norms[number] = norm
        factor[number, dim + is_left], factor[number, dim + 1 - is_left] = norm / 2, 1
