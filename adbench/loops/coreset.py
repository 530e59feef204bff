"""The compiled loops of the coreset on a CPU.

They hold squared distances in float64, of differences of the points as they are, and ask a matrix of lower bounds which ones
are worth computing: a matrix product of rounded points (factors.py), whose numbers are half a squared distance of what
is rounded. Its bits are compared, which for numbers above 0 have their order; below 0 are only such as rounding put
there. If `near` is the length that rounding took of two points, and `slack` the rounding of the product itself, then
|x - c|^2 <= gap implies a product of at most (sqrt(gap) + near)^2 / 2 + slack, by the triangle inequality.
"""

import numpy as np
from numpy.typing import NDArray

from adbench.loops import compiled

Indices = NDArray[np.int64]
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Bits = NDArray[np.int16] | NDArray[np.int32] | NDArray[np.int64]


@compiled
def _gap(points: Floats, one: int, other: int) -> float:
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
        gap[row] = _gap(points, row, pick)


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
        best = min(gap[row], _gap(points, row, picks[first]))
        limits[line] = _limit(best, near[line], slack[line], spare, number, bits, drop)
        for word in range(words.shape[0]):
            if words[word]:
                for column in range(8 * word, min(8 * word + 8, picks.shape[0])):
                    if hits[column] and column != first and bounds[column] <= limits[line]:
                        measured += 1
                        found = _gap(points, row, picks[column])
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
                        found = _gap(points, held[line], held[chosen])
                        if found < gap[line]:
                            gap[line] = found
                            limits[line] = _limit(found, near[line], slack[line], spare, number, bits, drop)
    return len(order)
