"""The compiled loops of a search for the nearest row."""

import numpy as np
from numpy.typing import NDArray

from adbench.loops import compiled

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]
Bounds = NDArray[np.float32] | NDArray[np.int16]


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
        reach[query] = _gap(bank[row], queries[query]) if row < bank.shape[0] else np.nan  # of what is no number


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
            for column in range(group, bank.shape[0], groups):
                if bounds[column] <= limit:
                    found = _gap(bank[column], row)
                    if found < best or (found == best and column < which):
                        best, which = found, column
        gap[query], index[query] = best, which
