"""Loops over rows of a bank that no row of tensor operations does as fast, compiled by numba; they hold no lock of Python's.

What a loop reads stays in the first cache from one step to the next, and a thread that has started one waits for no other:
between tensor operations threads wait for each other's turn at the interpreter, which in a short search is most of the time.
The machine code is kept on disk beside this file, or in the user's cache folder, so only a first call ever compiles.
"""

from collections.abc import Callable
from functools import partial
from typing import ParamSpec, TypeVar

import numba
import numpy as np
from numpy.typing import NDArray

Inputs = ParamSpec("Inputs")
Output = TypeVar("Output")
Floats = NDArray[np.float32]
Indices = NDArray[np.int64]
Bounds = NDArray[np.float32] | NDArray[np.int16]


def compiled(function: Callable[Inputs, Output]) -> Callable[Inputs, Output]:
    """Compile a function on its first call. Sums may be formed in any order, as in tensor operations."""
    compiler = partial(numba.njit, nogil=True, fastmath={"reassoc", "contract"})
    try:
        made: Callable[Inputs, Output] = compiler(cache=True)(function)
    except RuntimeError:  # no folder to keep it in
        made = compiler()(function)
    return made


@compiled
def _gap(left: Floats, right: Floats) -> np.float32:
    """Return the squared distance of two rows (d,)."""
    total = np.float32(0)
    for column in range(left.shape[0]):
        difference = left[column] - right[column]
        total += difference * difference
    return total


@compiled
def nearest_bound(values: Bounds, bank: Floats, queries: Floats, least: Bounds, reach: Floats) -> None:
    """Write the least bound of each group, (Q, groups), and the squared distance (Q,) of a row with the least of all.

    values (Q, columns): bounds of the rows of `bank` (M, d) for `queries` (Q, d); column j is in group j % groups.
    """
    groups = least.shape[1]
    for query in range(values.shape[0]):
        bounds, smallest = values[query], least[query]
        smallest[:] = bounds[:groups]
        for start in range(groups, bounds.shape[0], groups):
            members = bounds[start : start + groups]
            for group in range(groups):
                if members[group] < smallest[group]:
                    smallest[group] = members[group]
        row = 0
        for group in range(1, groups):
            if smallest[group] < smallest[row]:
                row = group
        for column in range(row, bounds.shape[0], groups):
            if bounds[column] == smallest[row]:
                row = column
                break
        reach[query] = _gap(bank[row], queries[query])


@compiled
def nearest_within(
    values: Bounds, least: Bounds, most: Bounds, bank: Floats, queries: Floats, gap: Floats, index: Indices, spare: int
) -> None:
    """Measure all rows whose bound is at most `most` (Q,), and keep the nearest that is nearer than `gap` (Q,); `index` (Q,).

    Of equally near rows the first counts. Where more than `spare` groups have such a row, the index becomes -1.
    values, least: as `nearest_bound` left them.
    """
    groups = least.shape[1]
    for query in range(values.shape[0]):
        bounds, limit, row = values[query], most[query], queries[query]
        best, which, left = gap[query], index[query], 0
        for group in range(groups):
            if least[query, group] > limit:
                continue
            left += 1
            if left > spare:
                which = -1
                break
            for column in range(group, bounds.shape[0], groups):
                if bounds[column] <= limit:
                    found = _gap(bank[column], row)
                    if found < best or (found == best and column < which):
                        best, which = found, column
        gap[query], index[query] = best, which


@compiled
def round_to_half(rows: Floats, sign: int, half: NDArray[np.uint16], norms: Floats, lost: Floats) -> None:
    """Write finite rows (Q, d) in bfloat16, to the nearest or even, into `half` (Q, >= d), as bits combined with `sign`.

    norms, lost (Q,): squared norms of the rounded rows, and of what rounding took.
    """
    upper = np.empty(rows.shape[1], np.uint32)
    rounded = upper.view(np.float32)
    for number in range(rows.shape[0]):
        row, bits = rows[number], rows[number].view(np.uint32)
        for column in range(bits.shape[0]):
            even = (bits[column] >> 16) & 1
            upper[column] = (bits[column] + 0x7FFF + even) & 0xFFFF0000
            half[number, column] = (upper[column] >> 16) ^ sign
        norm, off = np.float32(0), np.float32(0)
        for column in range(bits.shape[0]):
            difference = row[column] - rounded[column]
            norm += rounded[column] * rounded[column]
            off += difference * difference
        norms[number], lost[number] = norm, off
