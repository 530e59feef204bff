"""Compiled loops: undo the filters of a PNG file (PNG specification, third edition, section 9) and resize an image."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from adbench.core.compiled import compiled

Bytes = NDArray[np.uint8]
NONE, SUB, UP, AVERAGE, PAETH = range(5)


@compiled
def _paeth(left: int, above: int, corner: int) -> int:
    """Return which of the three is nearest to left + above - corner; without branches, since they are unpredictable."""
    from_left, from_above = above - corner, left - corner
    to_left, to_above, to_corner = abs(from_left), abs(from_above), abs(from_left + from_above)
    other = (to_corner - to_above) >> 63  # -1 if the corner is nearer
    nearer = (above & ~other) | (corner & other)
    to_nearer = (to_above & ~other) | (to_corner & other)
    other = (to_nearer - to_left) >> 63
    return (left & ~other) | (nearer & other)


@compiled
def unfilter(filtered: Bytes, lines: Bytes, step: int) -> bool:
    """Write lines (H, W step) from filtered ones, each preceded by the number of its filter; return whether all are known.

    step: bytes per pixel.
    """
    height, width = lines.shape
    above = np.zeros(width, np.uint8)
    for row in range(height):
        start = row * (width + 1)
        kind, given, line = filtered[start], filtered[start + 1 : start + 1 + width], lines[row]
        if kind == NONE:
            line[:] = given
        elif kind == UP:
            for column in range(width):
                line[column] = given[column] + above[column]
        elif kind == SUB:
            line[:step] = given[:step]
            for column in range(step, width):
                line[column] = given[column] + line[column - step]
        elif kind == AVERAGE:
            for column in range(step):
                line[column] = given[column] + (above[column] >> 1)
            for column in range(step, width):
                line[column] = given[column] + ((line[column - step] + above[column]) >> 1)
        elif kind == PAETH and step == 3:  # one chain of operations per color, which the processor runs in parallel
            red, green, blue, corner_red, corner_green, corner_blue = 0, 0, 0, 0, 0, 0
            for column in range(0, width, 3):
                above_red, above_green, above_blue = above[column], above[column + 1], above[column + 2]
                red = (given[column] + _paeth(red, above_red, corner_red)) & 255
                green = (given[column + 1] + _paeth(green, above_green, corner_green)) & 255
                blue = (given[column + 2] + _paeth(blue, above_blue, corner_blue)) & 255
                line[column], line[column + 1], line[column + 2] = red, green, blue
                corner_red, corner_green, corner_blue = above_red, above_green, above_blue
        elif kind == PAETH:
            for column in range(step):
                line[column] = given[column] + above[column]
            for column in range(step, width):
                left, corner = 0 + line[column - step], 0 + above[column - step]  # signed, unlike bytes
                line[column] = given[column] + _paeth(left, above[column], corner)
        else:
            return False
        above = line
    return True


Floats = NDArray[np.float32]


@compiled
def resize(
    lines: NDArray[np.uint8] | NDArray[np.float32],
    first_rows: NDArray[np.int64],
    row_weights: Floats,
    first_columns: NDArray[np.int64],
    column_weights: Floats,
    steps: int,
    out: NDArray[np.signedinteger[Any]],
) -> None:
    """Resize an image of lines (H, W 3) to `out` (h, w, 3), in `steps` per gray level, rounded once.

    A new row is the sum of the lines from `first_rows` (h,) on, weighted by `row_weights` (h, taps); columns likewise.
    """
    line = np.empty(lines.shape[1], np.float32)
    for row in range(out.shape[0]):
        line[:] = 0
        for tap in range(row_weights.shape[1]):
            weight, given = row_weights[row, tap], lines[first_rows[row] + tap]
            if weight > 0:
                for index in range(line.shape[0]):
                    line[index] += weight * np.float32(given[index])
        for column in range(out.shape[1]):
            index = 3 * first_columns[column]
            red = green = blue = np.float32(0.5) / np.float32(steps)  # so that truncation rounds
            for tap in range(column_weights.shape[1]):
                weight = column_weights[column, tap]
                red += weight * line[index]
                green += weight * line[index + 1]
                blue += weight * line[index + 2]
                index += 3
            out[row, column, 0], out[row, column, 1], out[row, column, 2] = steps * red, steps * green, steps * blue
