"""Area under the receiver operating characteristic: how often an anomalous item scores above a good one, ties half."""

import numpy as np

from adbench.metrics import Case, Curves, register


def auroc(curves: Curves) -> float:
    """Return the rank statistic U / (n m) of Mann and Whitney (1947), which is the trapezoid area (Fawcett, 2006)."""
    anomalous = np.diff(curves.true_at, prepend=0)
    wins = curves.good - (curves.false_above + curves.false_at) / 2
    return float(np.sum(anomalous * wins) / curves.good / curves.anomalous)


@register("image_auroc")
def image_auroc(case: Case) -> float | None:
    """Return the AUROC of image scores; an item is an image."""
    return auroc(case.image) if case.image else None


@register("pixel_auroc")
def pixel_auroc(case: Case) -> float | None:
    """Return the AUROC over all pixels of all images."""
    return auroc(case.pixel) if case.pixel else None
