"""The compiled loops of the coreset on a CPU.

They hold squared distances in float64, of differences of the points as they are, and ask a matrix of lower bounds which ones
are worth computing: a matrix product of rounded points (factors.py), whose numbers are half a squared distance of what
is rounded. Its bits are compared, which for numbers above 0 have their order; below 0 are only such as rounding put
there. If `near` is the length that rounding took of two points, and `slack` the rounding of the product itself, then
|x - c|^2 <= gap implies a product of at most (sqrt(gap) + near)^2 / 2 + slack, by the triangle inequality.
"""

import numpy as np
from numpy.typing import NDArray

from adbench.core.compiled import compiled

Indices = NDArray[np.int64]
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Bits = NDArray[np.int16] | NDArray[np.int32] | NDArray[np.int64]


@compiled
def _squared_distance64(points: Floats, one: int, other: int) -> float:
    """Return the squared distance of two points."""
    total = 0.0
    for column in range(points.shape[1]):
        difference = np.float64(points[one, column]) - np.float64(points[other, column])
        total += difference * difference
    return total


@compiled
def _limit(gap: float, near: float, slack: float, spare: float, number: Doubles | Floats, bits: Bits, drop: int) -> int:
    """Return the largest bits of a product that a squared distance of at most `gap` may have.

    number, bits: one number of the product's precision, and the same memory as an integer; `drop`: bits to cut off.
    """
    number[0] = spare * ((np.sqrt(gap) + near) ** 2 / 2 + slack)
    return int(bits[0] >> drop) + 1


@compiled
def distances_to(points: Floats, pick: int, gap: Doubles, first: int, stop: int) -> None:
    """Write the squared distances of the points first..stop to one of them."""
    for row in range(first, stop):
        gap[row] = _squared_distance64(points, row, pick)


@compiled
def _most_promising(bounds: Bits, hits: NDArray[np.uint8], words: NDArray[np.uint64]) -> int:
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
    values: Bits,
    points: Floats,
    rows: Indices,
    picks: Indices,
    near: Floats,
    slack: Floats,
    spare: float,
    number: Doubles | Floats,
    bits: Bits,
    drop: int,
    gap: Doubles,
) -> int:
    """Bring `gap` (N,) of the points `rows` (R,) up to date with `picks` (P,); return how many distances that took.

    values (>= R, >= P, a multiple of 8): their bounds; near, slack (R,): see above.
    """
    number = np.empty_like(number)  # each thread has its own
    bits = number.view(bits.dtype)
    measured, limits = 0, np.empty(rows.shape[0], values.dtype)
    for line in range(rows.shape[0]):
        limits[line] = _limit(gap[rows[line]], near[line], slack[line], spare, number, bits, drop)
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
        first = _most_promising(bounds[: picks.shape[0]], hits, words)
        if first < 0:
            continue
        row = rows[line]
        measured += 1  # the most promising one first: it lowers the limit for the others
        best = min(gap[row], _squared_distance64(points, row, picks[first]))
        limits[line] = _limit(best, near[line], slack[line], spare, number, bits, drop)
        for word in range(words.shape[0]):
            if words[word]:
                for column in range(8 * word, min(8 * word + 8, picks.shape[0])):
                    if hits[column] and column != first and bounds[column] <= limits[line]:
                        measured += 1
                        found = _squared_distance64(points, row, picks[column])
                        if found < best:
                            best = found
                            limits[line] = _limit(best, near[line], slack[line], spare, number, bits, drop)
        gap[row] = best
    return measured


@compiled
def pick(
    values: Bits,
    points: Floats,
    held: Indices,
    near: Floats,
    slack: Floats,
    spare: float,
    number: Doubles | Floats,
    bits: Bits,
    drop: int,
    gap: Doubles,
    level: float,
    order: Indices,
) -> int:
    """Write to `order` indices of `held` (K,), farthest first, while their distance is at least `level`; return their number.

    gap (K' >= K, a multiple of 8): their squared distances to all picks, kept up to date, -inf once picked and behind the
    K-th. Of equally far points the first counts. values (>= K, K'): bounds between the points.
    """
    number = np.empty_like(number)  # each thread has its own
    bits = number.view(bits.dtype)
    limits = np.empty(gap.shape[0], values.dtype)
    for line in range(held.shape[0]):
        limits[line] = _limit(gap[line], near[line], slack[line], spare, number, bits, drop)
    limits[held.shape[0] :] = 0
    far = gap.view(np.int64)
    hits = np.zeros(gap.shape[0], np.uint8)
    words = hits.view(np.uint64)
    for done in range(order.shape[0]):
        farthest = far[0]
        for line in range(far.shape[0]):
            farthest = max(farthest, far[line])
        chosen = 0
        while far[chosen] != farthest:
            chosen += 1
        if gap[chosen] < level:
            return done
        order[done], gap[chosen] = chosen, -np.inf
        bounds = values[chosen]
        for line in range(hits.shape[0]):
            hits[line] = bounds[line] <= limits[line]
        for word in range(words.shape[0]):
            if words[word]:
                for line in range(8 * word, min(8 * word + 8, held.shape[0])):
                    if hits[line] and gap[line] > 0:
                        found = _squared_distance64(points, held[line], held[chosen])
                        if found < gap[line]:
                            gap[line] = found
                            limits[line] = _limit(found, near[line], slack[line], spare, number, bits, drop)
    return len(order)


@compiled
def _squared_distance32(left: Floats, right: Floats) -> np.float32:
    """Return the squared distance of two rows (d,)."""
    total = np.float32(0)
    for column in range(left.shape[0]):
        difference = left[column] - right[column]
        total += difference * difference
    return total


@compiled
def distances(bank: Floats, queries: Floats, index: Indices, gap: Floats) -> None:
    """Write the distances (Q,) of queries (Q, d) to the rows of `bank` (M, d) with the numbers `index` (Q,)."""
    for query in range(queries.shape[0]):
        gap[query] = np.sqrt(_squared_distance32(bank[index[query]], queries[query]))


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
        best = _squared_distance32(bank[first], row)
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
                    found = _squared_distance32(bank[column], row)
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
                found = _squared_distance32(bank[column], queries[query])
                if found < gap[query] or (found == gap[query] and column < index[query]):
                    gap[query], index[query] = found, column


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
