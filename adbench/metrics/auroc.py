"""AUROC: area under the receiver operating characteristic (Hanley and McNeil, Radiology 143, 1982).

AUROC = P(s_a > s_g) + P(s_a = s_g) / 2 for the scores s_a of an anomalous and s_g of a good item. A fraction of 1; 0.5 is chance.
An item is an image, or a pixel of any image. Exact: neither thresholds nor pixels are sampled.
"""

import numpy as np

from adbench.metrics import Case, Curves, register


def auroc(curves: Curves) -> float:
    """Return U / (n m), U the rank statistic of Mann and Whitney (1947): the trapezoid area (Fawcett, 2006)."""
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
