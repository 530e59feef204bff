"""AU-PRO: area under the per-region overlap curve (Bergmann et al., IJCV 2021, "The MVTec Anomaly Detection Dataset").

PRO(t) = 1 / K sum_k |{pixels of region k with a score >= t}| / |region k| over the K 8-connected regions of all masks. AU-PRO is
the area below PRO over the false-positive rate of all good pixels, from 0 to `pro_limit` (0.3), over `pro_limit`: a fraction
of 1. No deviation from MVTec's evaluation code: exact, one point per distinct score, linear in between.
"""

import numpy as np

from adbench.metrics import Case, Curves, register


def area(curves: Curves, limit: float) -> float:
    """Return the mean per-region overlap (PRO) over false positive rates from 0 to `limit`, a fraction of 1.

    PRO = mean over regions of the share of their pixels found, each region with weight 1.
    The curve runs from (0, 0) to (1, 1) with one point per distinct score, hence a straight line where good and
    defective pixels tie; PRO at exactly `limit` is interpolated. The same curve as in MVTec's evaluation code.
    """
    most = int(np.searchsorted(curves.false_at, limit * curves.good, side="right")) + 2  # points up to the limit, and beyond
    false = np.stack((curves.false_above[:most], curves.false_at[:most]), axis=1).ravel()
    rate = np.concatenate(([0], false, [curves.good])) / curves.good
    overlap = np.concatenate(([0.0, 0.0], np.repeat(curves.weight_at[:most], 2)[:-1], [1.0]))
    end = int(np.searchsorted(rate, limit, side="right"))
    if end < rate.size:
        slope = (overlap[end] - overlap[end - 1]) / (rate[end] - rate[end - 1])
        overlap[end] = overlap[end - 1] + slope * (limit - rate[end - 1])
        rate[end] = limit
    rate, overlap = rate[: end + 1], overlap[: end + 1]
    total = np.sum(np.diff(rate) * (overlap[1:] + overlap[:-1])) / 2
    return float(np.clip(total / limit, 0.0, 1.0))


@register("aupro")
def aupro(case: Case) -> float | None:
    """Return AU-PRO up to the false positive rate `case.pro_limit`, over all good pixels of all images."""
    return area(case.pixel, case.pro_limit) if case.pixel else None
