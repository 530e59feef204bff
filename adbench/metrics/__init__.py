"""Exact image and pixel metrics of one category; one file each, found by import.

A metric is a function of a `Case`: the curves of the image scores and of the pixel scores, each sorted once and shared
by all metrics. It returns a fraction of 1, or None where it is not defined.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from adbench.core.errors import UsageError
from adbench.core.registry import Registry
from adbench.metrics.support.checks import check, defective_pixels, good_pixels
from adbench.metrics.support.curves import Curves, trace
from adbench.metrics.support.regions import Regions, components
from adbench.types import Scores, Truth

__all__ = [
    "METRICS", "Case", "Curves", "Metric", "Regions", "components", "evaluate", "image_curves", "measure", "reason",
    "reasons", "register",
]  # fmt: skip


@dataclass(frozen=True)
class Case:
    """What a metric sees. `image` and `pixel` are None where such metrics are not defined; `reasons` says why."""

    scores: Scores
    truth: Truth
    pro_limit: float  # false positive rate up to which AU-PRO is integrated
    image: Curves | None
    pixel: Curves | None


Metric = Callable[[Case], float | None]
METRICS: Registry[Metric] = Registry("metric", __name__)
register = METRICS.register
ORDER = ("image_auroc", "image_ap", "image_f1max", "pixel_auroc", "pixel_ap", "pixel_f1max", "aupro")


def evaluate(scores: Scores, truth: Truth, pro_limit: float = 0.3, regions: Regions | None = None) -> dict[str, float | None]:
    """Return every registered metric by name, those of `ORDER` first, as fractions of 1, or None where undefined.

    scores.image (N,), scores.maps and truth.masks (N, H, W) or N arrays (H_i, W_i), truth.anomalous (N,).
    Pixel metrics count all pixels of all images, good ones included (Bergmann et al., IJCV 2021).
    `regions` is `components(truth.masks)`, which a caller with many detectors computes once per category.
    Raises UsageError if `pro_limit` is outside (0, 1], ValueError if shapes do not match or a score is NaN.
    """
    if not 0 < pro_limit <= 1:
        raise UsageError(f"pro_limit {pro_limit} is outside (0, 1]; the usual value is 0.3")
    check(scores, truth)
    undefined = reasons(truth)
    image = None if "image" in undefined else image_curves(scores, truth)
    pixel = None if "pixel" in undefined else _pixel_curves(scores, truth, regions)
    return measure(Case(scores, truth, pro_limit, image, pixel))


def measure(case: Case, names: Sequence[str] = ()) -> dict[str, float | None]:
    """Return the metrics called `names` of a case; all of them, those of `ORDER` first, if none is named."""
    metrics = METRICS.items()
    return {name: metrics[name](case) for name in names or [*ORDER, *sorted(metrics.keys() - set(ORDER))]}


def reasons(truth: Truth) -> dict[str, str]:
    """Return why metrics are not defined, by family: "image", "pixel". A family that is defined has no entry."""
    anomalous = np.asarray(truth.anomalous, dtype=bool)
    if anomalous.size == 0:
        return dict.fromkeys(("image", "pixel"), "no labelled test images")
    found = {}
    if anomalous.all():
        found["image"] = "no good test images: image metrics are undefined"
    elif not anomalous.any():
        found["image"] = "no anomalous test images: image metrics are undefined"
    if truth.masks is None:
        found["pixel"] = "no masks: pixel metrics are undefined"
    elif not any(np.any(mask) for mask in truth.masks):
        found["pixel"] = "no defective pixel in any mask: pixel metrics are undefined"
    elif all(np.all(mask) for mask in truth.masks):
        found["pixel"] = "no defect-free pixel in any mask: pixel metrics are undefined"
    return found


def reason(truth: Truth) -> str | None:
    """Return `reasons` as one line for a result's record, or None if every metric is defined."""
    return "; ".join(dict.fromkeys(reasons(truth).values())) or None


def image_curves(scores: Scores, truth: Truth) -> Curves:
    """Return the curves of image scores, where there are both good and anomalous images."""
    image, anomalous = np.asarray(scores.image), np.asarray(truth.anomalous, dtype=bool)
    image = image.astype(np.result_type(np.float32, image), copy=False)
    good = image[~anomalous]
    return trace([good], good.size, image[anomalous], np.ones(image.size - good.size))


def _pixel_curves(scores: Scores, truth: Truth, regions: Regions | None) -> Curves:
    assert truth.masks is not None  # noqa: S101  otherwise `reasons` has said so
    regions = regions or components(truth.masks)
    defective = defective_pixels(scores.maps, truth.masks)
    if len(defective) != len(regions.weights):
        raise ValueError(f"regions cover {len(regions.weights)} defective pixels, the masks have {len(defective)}")
    good, total = good_pixels(scores.maps, truth.masks, defective.dtype)
    return trace(good, total, defective, regions.weights)
