"""Loops of the coreset and of the nearest-neighbor search on a CPU, compiled by numba.

Both measure squared distances by differences of the points as they are, and measure as few as they can. A matrix of lower
bounds says which ones: the product of two factors (`bfloat16_factors`, `float_factors`) is half the squared distance of the
rounded points. Its bits are compared as integers, which have the order of the numbers; below 0 there is only rounding.
If `lost` is the length that rounding took of two points together, and `slack` the rounding of the product itself, then by the
triangle inequality |x - y|^2 <= s implies a product of at most (sqrt(s) + lost)^2 / 2 + slack: the limit of `_limit`.

`precision` is `bounds.Precision.for_kernels`. N points, M rows of a bank, Q queries, R rows, P picks, d dimensions.
"""

import numpy as np
from numpy.typing import NDArray

from adbench.core.compiled import compiled

PIECES = 3  # bfloat16 numbers whose sum is a squared norm
Indices = NDArray[np.int64]
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Bits = NDArray[np.int16] | NDArray[np.int32] | NDArray[np.int64]
Precision = tuple[float, int, bool]


@compiled
def _squared_distance_float64(points: Floats, one: int, other: int) -> float:
    """Return the squared distance of two of the points (N, d), in float64. By index: slices of rows cost the coreset 5 %."""
    total = 0.0
    for column in range(points.shape[1]):
        difference = np.float64(points[one, column]) - np.float64(points[other, column])
        total += difference * difference
    return total


@compiled
def _squared_distance_float32(left: Floats, right: Floats) -> np.float32:
    """Return the squared distance of two points (d,), in float32."""
    total = np.float32(0)
    for column in range(left.shape[0]):
        difference = left[column] - right[column]
        total += difference * difference
    return total


@compiled
def _limit(squared_distance: float, lost: float, slack: float, precision: Precision) -> int:
    """Return the largest bits of a product that two points of at most this squared distance may have."""
    spare, drop, is_float64 = precision
    product = spare * ((np.sqrt(squared_distance) + lost) ** 2 / 2 + slack)
    bits = np.float64(product).view(np.int64) if is_float64 else np.int64(np.float32(product).view(np.int32))
    return int(bits >> drop) + 1


@compiled
def squared_distances_to(points: Floats, pick: int, squared: Doubles, first: int, stop: int) -> None:
    """Write the squared distances of the points first..stop to one of them."""
    for row in range(first, stop):
        squared[row] = _squared_distance_float64(points, row, pick)


@compiled
def _smallest_hit(bounds: Bits, hits: NDArray[np.uint8], words: NDArray[np.uint64]) -> int:
    """Return the column of the smallest of the bounds (P,) that are hit; -1 if none is. words: eight hits each."""
    first = -1
    for word in range(words.shape[0]):
        if words[word]:
            for column in range(8 * word, min(8 * word + 8, bounds.shape[0])):
                if hits[column] and (first < 0 or bounds[column] < bounds[first]):
                    first = column
    return first


@compiled
def update(
    values: Bits, points: Floats, rows: Indices, picks: Indices, lost: Floats, slack: Floats, precision: Precision,
    squared: Doubles,
) -> int:  # fmt: skip
    """Bring `squared` (N,), the squared distances to the nearest pick, up to date with `picks` (P,) for `rows` (R,).

    values (>= R, >= P, a multiple of 8): bounds of their squared distances; lost, slack (R,). Return how many were measured.
    """
    measured, limits = 0, np.empty(rows.shape[0], values.dtype)
    for line in range(rows.shape[0]):
        limits[line] = _limit(squared[rows[line]], lost[line], slack[line], precision)
    hits = np.zeros(values.shape[1], np.uint8)
    words = hits.view(np.uint64)
    for line in range(rows.shape[0]):
        bounds, limit = values[line], limits[line]
        for column in range(hits.shape[0]):
            hits[column] = bounds[column] <= limit
        some = np.uint64(0)
        for word in range(words.shape[0]):
            some |= words[word]
        if not some:
            continue
        first = _smallest_hit(bounds[: picks.shape[0]], hits, words)
        if first < 0:
            continue
        row = rows[line]
        measured += 1  # the smallest bound first: it lowers the limit for the others
        best = min(squared[row], _squared_distance_float64(points, row, picks[first]))
        limits[line] = _limit(best, lost[line], slack[line], precision)
        for word in range(words.shape[0]):
            if words[word]:
                for column in range(8 * word, min(8 * word + 8, picks.shape[0])):
                    if hits[column] and column != first and bounds[column] <= limits[line]:
                        measured += 1
                        found = _squared_distance_float64(points, row, picks[column])
                        if found < best:
                            best = found
                            limits[line] = _limit(best, lost[line], slack[line], precision)
        squared[row] = best
    return measured


@compiled
def pick(
    values: Bits, points: Floats, held: Indices, lost: Floats, slack: Floats, precision: Precision, squared: Doubles,
    level: float, order: Indices,
) -> int:  # fmt: skip
    """Write to `order` indices of `held` (K,), farthest first, while their squared distance is at least `level`.

    squared (K' >= K, a multiple of 8): squared distances to all picks, kept up to date, -inf once picked and behind the
    K-th. Of equally far points the first is picked. values (>= K, K'): bounds between the points. Return how many were picked.
    """
    limits = np.empty(squared.shape[0], values.dtype)
    for line in range(held.shape[0]):
        limits[line] = _limit(squared[line], lost[line], slack[line], precision)
    limits[held.shape[0] :] = 0
    as_integers = squared.view(np.int64)
    hits = np.zeros(squared.shape[0], np.uint8)
    words = hits.view(np.uint64)
    for done in range(order.shape[0]):
        farthest = as_integers[0]
        for line in range(as_integers.shape[0]):
            farthest = max(farthest, as_integers[line])
        chosen = 0
        while as_integers[chosen] != farthest:
            chosen += 1
        if squared[chosen] < level:
            return done
        order[done], squared[chosen] = chosen, -np.inf
        bounds = values[chosen]
        for line in range(hits.shape[0]):
            hits[line] = bounds[line] <= limits[line]
        for word in range(words.shape[0]):
            if words[word]:
                for line in range(8 * word, min(8 * word + 8, held.shape[0])):
                    if hits[line] and squared[line] > 0:
                        found = _squared_distance_float64(points, held[line], held[chosen])
                        if found < squared[line]:
                            squared[line] = found
                            limits[line] = _limit(found, lost[line], slack[line], precision)
    return len(order)


@compiled
def distances(bank: Floats, queries: Floats, index: Indices, found: Floats) -> None:
    """Write to `found` (Q,) the distances, not squared, of queries (Q, d) to the rows of the bank (M, d) at `index` (Q,)."""
    for query in range(queries.shape[0]):
        found[query] = np.sqrt(_squared_distance_float32(bank[index[query]], queries[query]))


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
    values: Bits, groups: int, bank: Floats, queries: Floats, lost: Floats, slack: Floats, precision: Precision, most: int,
    index: Indices,
) -> None:  # fmt: skip
    """Write to `index` (Q,) the nearest row of each query, the first of equally near ones; -1 if too many may be the nearest.

    values (Q, columns): bounds of the rows of `bank` (M, d), and of no row behind them, for queries (Q, d). Column j is in
    group j % groups, so that groups are compared a CPU's vector at a time. Too many: more than `most` groups have a row that
    may be the nearest. A query that is not finite gets -1, too.
    """
    smallest, limit = np.empty(groups, values.dtype), np.empty(1, values.dtype)
    for query in range(values.shape[0]):
        bounds, row = values[query], queries[query]
        first = _smallest(bounds, groups, smallest)
        index[query] = -1
        if first >= bank.shape[0]:
            continue
        best = _squared_distance_float32(bank[first], row)
        if not np.isfinite(best):
            continue
        limit[0] = _limit(float(best), lost[query], slack[query], precision)
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
                    found = _squared_distance_float32(bank[column], row)
                    if found < best or (found == best and column < which):
                        best, which = found, column
                        limit[0] = _limit(float(best), lost[query], slack[query], precision)
        index[query] = which


@compiled
def nearest_within(values: Floats, limits: Floats, bank: Floats, queries: Floats, squared: Floats, index: Indices) -> None:
    """Measure all rows whose value is at most the query's limit (Q,), and keep the nearest in `squared` and `index` (Q,).

    values (Q, M): of the rows of `bank` (M, d) for `queries` (Q, d). Of equally near rows the first is kept.
    """
    for query in range(values.shape[0]):
        for column in range(values.shape[1]):
            if values[query, column] <= limits[query]:
                found = _squared_distance_float32(bank[column], queries[query])
                if found < squared[query] or (found == squared[query] and column < index[query]):
                    squared[query], index[query] = found, column


@compiled
def bfloat16_factors(
    points: Floats, rows: Indices, center: Floats, is_left: bool, factor: NDArray[np.uint16], norms: Floats, lost: Floats
) -> None:
    """Write points less `center` (d,) as bits of bfloat16, a factor of the product of bounds, (R, d + 2 PIECES).

    The left factor is -x, 1, |x|^2 / 2, the right one x, |x|^2 / 2, 1; both in as many columns as pieces.
    norms, lost (R,): squared norms of the rounded points, and the length that rounding took.
    """
    dim = points.shape[1]
    centered, upper = np.empty(dim, np.float32), np.empty(dim, np.uint32)
    bits, rounded = centered.view(np.uint32), upper.view(np.float32)
    sign, pieces = (0x8000, dim + PIECES) if is_left else (0, dim)
    ones = dim if is_left else dim + PIECES
    for number in range(rows.shape[0]):
        row = rows[number]
        for column in range(dim):
            centered[column] = points[row, column] - center[column]
        norm, off = np.float32(0), np.float32(0)
        for column in range(dim):
            even = (bits[column] >> 16) & 1  # to the nearest, or to the even of two
            upper[column] = (bits[column] + 0x7FFF + even) & 0xFFFF0000
            factor[number, column] = (upper[column] >> 16) ^ sign
        for column in range(dim):
            difference = centered[column] - rounded[column]
            norm += rounded[column] * rounded[column]
            off += difference * difference
        norms[number], lost[number] = norm, np.sqrt(off)
        rest = norm / np.float32(2)
        for piece in range(PIECES):
            factor[number, ones + piece] = 0x3F80
            centered[0] = rest
            even = (bits[0] >> 16) & 1
            upper[0] = (bits[0] + 0x7FFF + even) & 0xFFFF0000
            factor[number, pieces + piece] = upper[0] >> 16
            rest -= rounded[0]


@compiled
def float_factors(
    points: Floats, rows: Indices, center: Doubles | Floats, is_left: bool, factor: Doubles | Floats, norms: Floats
) -> None:
    """Write the same in float32 or float64, (R, d + 2): no length is lost, and one column holds a norm."""
    dim = points.shape[1]
    for number in range(rows.shape[0]):
        row, norm = rows[number], center[0] * 0
        for column in range(dim):
            value = points[row, column] - center[column]
            factor[number, column] = -value if is_left else value
            norm += value * value
        norms[number] = norm
        factor[number, dim + is_left], factor[number, dim + 1 - is_left] = norm / 2, 1
