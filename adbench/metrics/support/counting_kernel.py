"""The compiled loop that counts scores by bin and keeps those that must be compared."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from adbench.core.compiled import compiled


@compiled
def count(
    bins: NDArray[np.intp], scores: NDArray[np.floating[Any]], counts: NDArray[np.int64], kept: NDArray[np.floating[Any]]
) -> int:
    """Add scores (S,), whose bins are known, to the `counts` of these; write those of bins below 0 to `kept` (>= S).

    Return how many were kept. Without a jump: no processor could foretell which.
    """
    number = 0
    for place in range(bins.shape[0]):
        own = bins[place]
        counts[own] += 1
        kept[number] = scores[place]
        number += counts[own] < 0
    return number
