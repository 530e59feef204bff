"""How many scores lie below each of some values: exact, in one pass, with one block of the scores in memory at a time.

A score whose bin holds none of the values needs no comparison: it is counted with its bin. The others, few, are sorted.
The bins divide either the range of most scores or the floats in it evenly: a sample of the scores tells which of the
two leaves fewer to sort. The second is for scores of many magnitudes. Nothing is binned or sampled in the result.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Counts = NDArray[np.int64]
Bins = NDArray[np.intp]
BLOCK = 1 << 20  # scores at a time
SCORES_PER_BIN, MOST_BINS = 6, 1 << 22  # fewer bins exclude less, more no longer fit a CPU's cache
FEWEST_BINS = 1 << 16  # below that a sort of all is as fast
SAMPLE = 1 << 14
SORTED = 1 << 23  # scores that are collected before they are sorted
OCCUPIED = -(1 << 62)  # where a bin that holds one of the values starts to count: it stays below 0
_TAIL = 0.005  # of the sampled scores on either side, which share the outermost bins


def count_below(parts: Iterable[Floats], values: Floats, total: int) -> tuple[Counts, Counts]:
    """Return for each of the ascending distinct `values` (k,) how many scores are < it and how many are <= it.

    parts: all `total` scores in arrays of any length, of the dtype of `values` (float32 or float64), no NaN. Infinite ones
    are in order. The memory needed does not depend on the number of scores, but for at most 4 million bins.
    """
    counter = _Counter(values, total)
    for block in _blocks(parts, min(BLOCK, total), values.dtype):
        counter.add(block)
    return counter.result()


def _blocks(parts: Iterable[Floats], size: int, dtype: np.dtype[Any]) -> Iterator[Floats]:
    """Yield all scores in arrays of `size`, the last one shorter; each is overwritten by the next."""
    block, end = np.empty(size, dtype), 0
    for part in parts:
        for start in range(0, part.size, size):
            rest = part[start : start + size]
            taken = min(rest.size, size - end)
            block[end : end + taken] = rest[:taken]
            end += taken
            if end == size:
                yield block
                end = rest.size - taken
                block[:end] = rest[taken:]
    if end:
        yield block[:end]


class _Counter:
    def __init__(self, values: Floats, total: int) -> None:
        self._values = values
        self._count = min(total // SCORES_PER_BIN, MOST_BINS)
        self._binning: _Binning | None = None
        self._kept: list[Floats] = []
        self._below, self._not_above = np.zeros(values.size, np.int64), np.zeros(values.size, np.int64)
        self._home, self._counts = np.zeros(0, np.intp), np.zeros(0, np.int64)  # bin of each value, scores in each bin

    def add(self, block: Floats) -> None:
        """Count some scores."""
        if self._count >= FEWEST_BINS and self._binning is None:
            self._choose(block)
        if self._binning is None:
            self._kept.append(block.copy())
        else:
            from adbench.metrics.support.counting_kernel import count  # slow to import

            bins = self._binning(block)
            kept = self._binning.room[: block.size]
            self._kept.append(kept[: count(bins, block, self._counts, kept)].copy())
        if sum(kept.size for kept in self._kept) > SORTED:
            self._sort()

    def result(self) -> tuple[Counts, Counts]:
        """Return how many scores were below each value, and how many not above it."""
        self._sort()
        if self._binning is not None:
            self._counts[self._home] = 0
            apart = np.cumsum(self._counts)[self._home]
            return self._below + apart, self._not_above + apart
        return self._below, self._not_above

    def _choose(self, block: Floats) -> None:
        """Take the binning that leaves fewer of the block's scores to sort."""
        sample = np.sort(block[:: max(1, block.size // SAMPLE)])
        tail = int(sample.size * _TAIL)
        low, high = (sample[tail], sample[-1 - tail]) if sample[tail] < sample[-1 - tail] else (sample[0], sample[-1])
        found: list[tuple[int, int, _Binning, Bins]] = []
        for kind in (_Even, _Logarithmic):
            if kind.is_usable(low, high):
                binning = kind(low, high, self._count)
                home = binning(self._values).copy()
                occupied = np.zeros(binning.count, dtype=bool)
                occupied[home] = True
                found.append((int(np.count_nonzero(occupied[binning(sample)])), len(found), binning, home))
        if found:
            _, _, self._binning, self._home = min(found, key=lambda entry: entry[:2])
            self._counts = np.zeros(self._binning.count, np.int64)
            self._counts[self._home] = OCCUPIED

    def _sort(self) -> None:
        """Compare the scores that were kept with the values."""
        if self._kept:
            kept = np.concatenate(self._kept)
            self._kept = []
            kept.sort()
            below = np.searchsorted(kept, self._values)
            equal = below < kept.size
            equal[equal] = kept[below[equal]] == self._values[equal]
            not_above = below.copy()
            not_above[equal] = np.searchsorted(kept, self._values[equal], side="right")
            self._below += below
            self._not_above += not_above


class _Binning:
    """A monotone map from scores to bins 0 ... count - 1; those outside of `low` to `high` share the outermost ones."""

    def __init__(self, low: Any, high: Any) -> None:
        self._low, self._high = low, high
        self.count = 0
        self.room, self._bins = np.empty(0, low.dtype), np.empty(0, np.intp)  # room: free between calls

    def __call__(self, scores: Floats) -> Bins:
        """Return the bin of each score; the array is overwritten by the next call."""
        if self._bins.size < scores.size:
            self.room, self._bins = np.empty(scores.size, scores.dtype), np.empty(scores.size, np.intp)
        clipped, bins = self.room[: scores.size], self._bins[: scores.size]  # fresh memory would cost more
        np.clip(scores, self._low, self._high, out=clipped)
        self._fill(clipped, bins)
        return bins

    def _fill(self, clipped: Floats, bins: Bins) -> None:
        """Write the bins of clipped scores, which may be overwritten."""
        raise NotImplementedError


class _Even(_Binning):
    """Bins of one width. Float subtraction and multiplication are monotone, and so are the bins."""

    def __init__(self, low: Any, high: Any, count: int) -> None:
        super().__init__(low, high)
        self.count = count + 1  # as the product may be rounded up
        self._scale = low.dtype.type(count - 1) / (high - low)

    @staticmethod
    def is_usable(low: Any, high: Any) -> bool:
        """Return whether there is a width."""
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            return bool(0 < high.dtype.type(MOST_BINS) / (high - low) < np.inf)

    def _fill(self, clipped: Floats, bins: Bins) -> None:
        np.subtract(clipped, self._low, out=clipped)
        np.multiply(clipped, self._scale, out=clipped)
        np.copyto(bins, clipped, casting="unsafe")


class _Logarithmic(_Binning):
    """Bins of equally many floats. Read as integers, positive floats are in order, and negative ones in reverse order."""

    def __init__(self, low: Any, high: Any, count: int) -> None:
        super().__init__(low, high)
        self._signed = bool(low < 0)
        ends = np.array([low, high])
        self._first, last = self._integers(ends).tolist()
        self._shift = ((last - self._first) // count).bit_length()
        self.count = ((last - self._first) >> self._shift) + 1

    @staticmethod
    def is_usable(low: Any, high: Any) -> bool:
        """Return whether there is more than one float."""
        return bool(low < high)

    def _integers(self, clipped: Floats) -> NDArray[Any]:
        """Return unsigned integers in the order of the floats; -0 is 0."""
        np.add(clipped, 0, out=clipped)
        signed: NDArray[Any] = clipped.view(np.int32 if clipped.itemsize == 4 else np.int64)
        unsigned: NDArray[Any] = signed.view(np.uint32 if clipped.itemsize == 4 else np.uint64)
        if self._signed:
            bits = 8 * clipped.itemsize - 1
            np.bitwise_xor(signed, (signed >> bits) & ((1 << bits) - 1), out=signed)
            np.bitwise_xor(unsigned, unsigned.dtype.type(1 << bits), out=unsigned)
        return unsigned

    def _fill(self, clipped: Floats, bins: Bins) -> None:
        integers = self._integers(clipped)
        np.subtract(integers, integers.dtype.type(self._first), out=integers)
        np.right_shift(integers, integers.dtype.type(self._shift), out=integers)
        np.copyto(bins, integers, casting="unsafe")
