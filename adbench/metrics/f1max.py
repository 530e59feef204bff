"""F1-max: the best F1 over all thresholds. It picks its threshold on the test set: an upper bound, not a forecast."""

from adbench.metrics import Case, Curves, register


def f1_max(curves: Curves) -> float:
    """Return max_t 2 TP / (2 TP + FP + FN) over every distinct score t (van Rijsbergen, 1979, chapter 7).

    Thresholds between scores of anomalous items only add false positives, so those of `curves` are enough.
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
