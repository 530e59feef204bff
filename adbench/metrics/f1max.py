"""F1-max: the best F1 over all thresholds (van Rijsbergen, Information Retrieval, 1979, chapter 7).

F1 = 2 TP / (2 TP + FP + FN) at a threshold t; items with a score >= t are predicted anomalous. A fraction of 1. The threshold is
chosen on the test set, so this is an upper bound on what a fixed threshold reaches. An item is an image, or a pixel of any image.
"""

from adbench.metrics import Case, Curves, register


def f1_max(curves: Curves) -> float:
    """Return the largest F1 over every distinct score.

    The k points of `curves` are enough: a threshold between scores of anomalous items only adds false positives.
    """
    return float((2 * curves.true_at / (curves.anomalous + curves.true_at + curves.false_at)).max())


@register("image_f1max")
def image_f1max(case: Case) -> float | None:
    """Return the F1-max of image scores."""
    return f1_max(case.image) if case.image else None


@register("pixel_f1max")
def pixel_f1max(case: Case) -> float | None:
    """Return the F1-max over all pixels of all images."""
    return f1_max(case.pixel) if case.pixel else None
