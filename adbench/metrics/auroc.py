"""AUROC: area under the receiver operating characteristic (Hanley and McNeil, Radiology 143, 1982).

AUROC = P(s_a > s_g) + P(s_a = s_g) / 2 for the scores s_a of an anomalous and s_g of a good item. A fraction of 1; 0.5 is chance.
An item is an image, or a pixel of any image. Exact: neither thresholds nor pixels are sampled.
"""

import numpy as np

from adbench.metrics import Curves, register_both


def auroc(curves: Curves) -> float:
    """Return U / (n m), U the rank statistic of Mann and Whitney (1947): the trapezoid area (Fawcett, 2006)."""
    anomalous = np.diff(curves.true_at, prepend=0)
    wins = curves.good - (curves.false_above + curves.false_at) / 2
    return float(np.sum(anomalous * wins) / curves.good / curves.anomalous)


register_both("auroc", auroc)
