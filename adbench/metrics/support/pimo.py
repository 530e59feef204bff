"""Per-image overlap at very low false-positive rates, behind AUPIMO (see `aupimo.py` for the definition).

The false-positive rate at a threshold is the mean over good images of the share of their pixels that score at least as high.
Only the highest scores of good images matter: those up to the rate `HIGH`. The overlap of an image with a defect changes at the
scores of its own defective pixels. So every defective pixel adds a constant to its image's value, which depends on its place
among the highest scores of good images. Nothing is binned or sampled.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from adbench.types import Maps, Scores, Truth

LOW, HIGH = 1e-5, 1e-4  # false-positive rates between which the curves are integrated
Values = NDArray[np.float64]
Floats = NDArray[np.floating[Any]]


class Tail(NamedTuple):
    """The T highest distinct scores of good images, from the highest, and the false-positive rate at each (T,).

    The last rate is at least `HIGH`.
    """

    scores: Floats
    rate: Values


def per_image(scores: Scores, truth: Truth, defective: Floats | None = None) -> Values | None:
    """Return AUPIMO of each of N images, NaN for good ones and those whose mask is empty; None where it is undefined.

    defective: the scores of all defective pixels, image by image, if the caller has them. It is undefined without masks, without
    defective pixels, and where the good images have too few pixels to reach the rate `LOW`: with M images, 1 / `LOW` / M each.
    """
    if truth.masks is None:
        return None
    masks = [np.asarray(mask, dtype=bool) for mask in truth.masks]
    counts = np.array([np.count_nonzero(mask) for mask in masks])
    tail = good_tail(scores.maps, np.flatnonzero(~np.asarray(truth.anomalous)), [mask.size for mask in masks])
    if tail is None or not counts.any():
        return None
    if defective is None:
        pairs = zip(scores.maps, masks, counts, strict=True)
        defective = np.concatenate([np.asarray(m)[mask] for m, mask, count in pairs if count])
    high = np.flatnonzero(defective >= tail.scores[-1])
    owners = np.repeat(np.arange(counts.size), counts)[high]
    total = np.bincount(owners, _shares(defective[high], tail), minlength=counts.size)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(np.asarray(truth.anomalous), np.clip(total / counts, 0, 1), np.nan)


def good_tail(maps: Maps, good: NDArray[np.intp], sizes: Sequence[int]) -> Tail | None:
    """Return the highest scores of the maps of the images `good`, None if they have too few pixels (sizes: (N,) of each)."""
    weights = 1 / (np.asarray(sizes, dtype=float)[good] * max(good.size, 1))  # what one pixel adds to the rate
    if not good.size or weights.max() > LOW * (1 + 1e-12):
        return None
    most = int(HIGH / weights.min()) + 2  # the highest so many reach the rate
    values, owners, lowest = np.zeros(0, np.float32), np.zeros(0, np.intp), -np.inf
    for owner, index in enumerate(good.tolist()):
        scores = np.asarray(maps[index]).ravel()
        new = scores[scores > lowest] if values.size >= most else scores
        values, owners = np.concatenate((values, new)), np.concatenate((owners, np.full(new.size, owner)))
        if values.size > most:
            kept = np.argpartition(values, -most)[-most:]
            values, owners = values[kept], owners[kept]
        lowest = values.min()
    above = values > lowest
    ties = sum(w * np.count_nonzero(maps[i] == lowest) for w, i in zip(weights, good.tolist(), strict=True))
    order = np.argsort(-values[above])
    ranked = values[above][order]
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True)) if ranked.size else np.zeros(0, np.intp)
    rate = np.cumsum(weights[owners[above][order]])
    return Tail(np.append(ranked[last], lowest), np.append(rate[last], (rate[-1] if rate.size else 0) + ties))


def integrals(rate: Values) -> tuple[Values, Values]:
    """Return what an overlap of 1 just above each score, and one at each score, add to the area, in AUPIMO's unit.

    rate: (..., T) false-positive rates at descending scores. From score to score, the overlap is a straight line over the rate,
    not over its logarithm: where many pixels tie, that is the expected overlap if ties are broken at random.
    """
    before = np.concatenate((np.zeros_like(rate[..., :1]), rate[..., :-1]), axis=-1)
    start, end = np.clip(before, LOW, HIGH), np.clip(rate, LOW, HIGH)
    logs = np.log1p((end - start) / start)
    width = rate - before
    at = np.divide(end - start - before * logs, width, out=np.zeros_like(width), where=width > 0)
    unit = np.log(HIGH / LOW)
    return (logs - at) / unit, at / unit


def _shares(defective: Floats, tail: Tail) -> Values:
    """Return what each defective pixel adds to the area of its image, times the image's number of defective pixels."""
    above, at = integrals(tail.rate)
    ascending = tail.scores[::-1]
    count = np.zeros(ascending.size + 1)
    from_above, from_at = count.copy(), count.copy()  # by how many of the scores are below, or not above
    from_above[1:], from_at[1:] = np.cumsum(above[::-1]), np.cumsum(at[::-1])
    below, not_above = (np.searchsorted(ascending, defective, side) for side in ("left", "right"))
    return np.asarray(from_above[below] + from_at[not_above])
