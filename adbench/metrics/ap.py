"""Average precision: the step-wise area under the precision-recall curve (Davis and Goadrich, ICML 2006).

AP = sum_k (R_k - R_(k-1)) P_k over the distinct scores k from the highest, R recall, P precision. A fraction of 1; the share of
anomalous items is chance. No interpolation, as in scikit-learn. An item is an image, or a pixel of any image.
"""

import numpy as np

from adbench.metrics import Curves, register_both


def average_precision(curves: Curves) -> float:
    """Return sum_k (R_k - R_(k-1)) P_k; recall rises only at scores of anomalous items, the k points of `curves`."""
    gains = np.diff(curves.true_at, prepend=0) / curves.anomalous
    return min(float(np.sum(gains * (curves.true_at / (curves.true_at + curves.false_at)))), 1.0)


register_both("ap", average_precision)
