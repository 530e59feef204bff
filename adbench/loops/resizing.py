"""The compiled loop that resizes an image: first down its columns, line by line, then along each of the new lines."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from adbench.loops import compiled

Floats = NDArray[np.float32]


@compiled
def resize(
    lines: NDArray[np.uint8],
    first_rows: NDArray[np.int64],
    row_weights: Floats,
    first_columns: NDArray[np.int64],
    column_weights: Floats,
    steps: int,
    out: NDArray[np.signedinteger[Any]],
) -> None:
    """Write an image of lines (H, W 3) to `out` (h, w, 3), in so many steps per gray level, rounded once.

    A new row is the sum of `row_weights` (h, taps) times the lines from `first_rows` (h,) on; a new column likewise.
    """
    line = np.empty(lines.shape[1], np.float32)
    for row in range(out.shape[0]):
        line[:] = 0
        for tap in range(row_weights.shape[1]):
            weight, given = row_weights[row, tap], lines[first_rows[row] + tap]
            if weight > 0:
                for place in range(line.shape[0]):
                    line[place] += weight * np.float32(given[place])
        for column in range(out.shape[1]):
            place = 3 * first_columns[column]
            red = green = blue = np.float32(0.5) / np.float32(steps)  # what is cut off then rounds
            for tap in range(column_weights.shape[1]):
                weight = column_weights[column, tap]
                red += weight * line[place]
                green += weight * line[place + 1]
                blue += weight * line[place + 2]
                place += 3
            out[row, column, 0], out[row, column, 1], out[row, column, 2] = steps * red, steps * green, steps * blue
