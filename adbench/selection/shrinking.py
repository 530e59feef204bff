"""Scores steadied by their neighbours: what a layer has reached at other input sizes says something of this size, too.

A score from a few held-out images is noisy, and the best of many noisy scores is often merely lucky. Most of what differs
between candidates is the layer's (with its backbone and detector) plus the input size's; what is left over is in part
their interplay, in part noise. How much noise, the replicates tell. So that rest is multiplied by 1 - noise / rest, at
least 0 (Efron and Morris, "Data Analysis Using Stein's Estimator and its Generalizations", JASA 70, 1975): no constant is
chosen, and with a single input size there is no rest and nothing changes.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


def shrunk(
    rows: Sequence[Hashable], columns: Sequence[Hashable], scores: Values, replicates: Values
) -> tuple[Values, Values]:
    """Return the scores (K,) and their replicates (K, R), each with what its row and column do not explain made smaller.

    All are fractions of 1; what would be above it is 1.
    """
    design = np.concatenate([_indicators(rows), _indicators(columns)], axis=1)
    explained = design @ np.linalg.pinv(design)  # (K, K), a projection
    freedom = len(scores) - round(float(np.trace(explained)))
    rest = scores - explained @ scores
    if freedom == 0 or not rest.any():
        return scores, replicates
    deviations = replicates - replicates.mean(axis=1, keepdims=True)
    noise = float(np.square(deviations - explained @ deviations).sum(axis=0).mean())
    lost = min(1.0, noise / float(np.square(rest).sum()))
    found = scores - lost * rest, replicates - lost * (replicates - explained @ replicates)
    return np.minimum(found[0], 1), np.minimum(found[1], 1)


def _indicators(names: Sequence[Hashable]) -> Values:
    """Return which of the distinct names each one is, (K, distinct)."""
    distinct = list(dict.fromkeys(names))
    return np.array([[name == one for one in distinct] for name in names], dtype=np.float64)
