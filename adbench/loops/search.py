"""The compiled loops of a search for the nearest row: coreset.py says what the bits of bounds are."""

import numpy as np
from numpy.typing import NDArray

from adbench.loops import compiled

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]
Bits = NDArray[np.int16] | NDArray[np.int32]


@compiled
def _gap(left: Floats, right: Floats) -> np.float32:
    """Return the squared distance of two rows (d,)."""
    total = np.float32(0)
    for column in range(left.shape[0]):
        difference = left[column] - right[column]
        total += difference * difference
    return total


@compiled
def _limit(
    gap: float,
    near: float,
    slack: float,
    spare: float,
    number: NDArray[np.floating],
    bits: NDArray[np.signedinteger],
    drop: int,
) -> int:
    """Do what coreset.py's does: machine code on disk knows of changes in its own file alone."""
    number[0] = spare * ((np.sqrt(gap) + near) ** 2 / 2 + slack)
    return int(bits[0] >> drop) + 1


@compiled
def distances(bank: Floats, queries: Floats, index: Indices, gap: Floats) -> None:
    """Write the distances (Q,) of queries (Q, d) to the rows of `bank` (M, d) with the numbers `index` (Q,)."""
    for query in range(queries.shape[0]):
        gap[query] = np.sqrt(_gap(bank[index[query]], queries[query]))


@compiled
def _smallest(bounds: Bits, groups: int, smallest: Bits) -> int:
    """Write the smallest of the bounds (columns,) of each group; return the column of the smallest of all."""
    smallest[:] = bounds[:groups]
    for start in range(groups, bounds.shape[0], groups):
        members = bounds[start : start + groups]
        for group in range(groups):
            if members[group] < smallest[group]:
                smallest[group] = members[group]
    least = 0
    for group in range(1, groups):
        if smallest[group] < smallest[least]:
            least = group
    column = least
    while bounds[column] != smallest[least]:
        column += groups
    return column


@compiled
def nearest(
    values: Bits,
    groups: int,
    bank: Floats,
    queries: Floats,
    near: Floats,
    slack: Floats,
    spare: float,
    number: NDArray[np.floating],
    bits: NDArray[np.signedinteger],
    drop: int,
    most: int,
    index: Indices,
) -> None:
    """Write the nearest row's number for each query (Q,), the first of equally near ones; -1 where too many may be nearest.

    values (Q, columns): bounds of the rows of `bank` (M, d), and of no row behind them, for queries (Q, d); column j is in
    group j % groups, so that groups are compared a CPU's vector at a time. More than `most` groups with a row that may be
    nearest are too many. A query that is no number gets -1 too.
    """
    number = np.empty_like(number)  # each thread has its own
    bits = number.view(bits.dtype)
    smallest, limit = np.empty(groups, values.dtype), np.empty(1, values.dtype)
    for query in range(values.shape[0]):
        bounds, row = values[query], queries[query]
        first = _smallest(bounds, groups, smallest)
        index[query] = -1
        if first >= bank.shape[0]:
            continue
        best = _gap(bank[first], row)
        if not np.isfinite(best):
            continue
        limit[0] = _limit(float(best), near[query], slack[query], spare, number, bits, drop)
        which, left = first, 0
        for group in range(groups):
            if smallest[group] > limit[0]:
                continue
            left += 1
            if left > most:
                which = -1
                break
            for column in range(group, bank.shape[0], groups):
                if bounds[column] <= limit[0] and column != first:
                    found = _gap(bank[column], row)
                    if found < best or (found == best and column < which):
                        best, which = found, column
                        limit[0] = _limit(float(best), near[query], slack[query], spare, number, bits, drop)
        index[query] = which


@compiled
def nearest_within(values: Floats, most: Floats, bank: Floats, queries: Floats, gap: Floats, index: Indices) -> None:
    """Measure all rows whose value is at most `most` (Q,), and keep the nearest that is nearer than `gap` (Q,); `index` (Q,).

    values (Q, M): of the rows of `bank` (M, d) for `queries` (Q, d). Of equally near rows the first counts.
    """
    for query in range(values.shape[0]):
        for column in range(values.shape[1]):
            if values[query, column] <= most[query]:
                found = _gap(bank[column], queries[query])
                if found < gap[query] or (found == gap[query] and column < index[query]):
                    gap[query], index[query] = found, column
