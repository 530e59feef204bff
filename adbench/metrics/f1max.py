"""F1-max: the best F1 over all thresholds (van Rijsbergen, Information Retrieval, 1979, chapter 7).

F1 = 2 TP / (2 TP + FP + FN) at a threshold t; items with a score >= t are predicted anomalous. A fraction of 1. The threshold is
chosen on the test set, so this is an upper bound on what a fixed threshold reaches. An item is an image, or a pixel of any image.
"""

from adbench.metrics import Curves, register_both


def f1_max(curves: Curves) -> float:
    """Return the largest F1 over every distinct score.

    The k points of `curves` are enough: a threshold between scores of anomalous items only adds false positives.
    """
    return float((2 * curves.true_at / (curves.anomalous + curves.true_at + curves.false_at)).max())


register_both("f1max", f1_max)
