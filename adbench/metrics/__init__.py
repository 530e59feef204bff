"""Exact image and pixel metrics of one category; one file each, found by import.

A metric is a function of a `Case`: the curves of the image scores and of the pixel scores, each sorted once and shared
by all metrics. It returns a fraction of 1, or None where it is undefined. Once registered it is in every result, with its
bootstrap interval and its values by kind and size of defect.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial, update_wrapper

import numpy as np
from numpy.typing import NDArray

from adbench.core.errors import UsageError
from adbench.core.registry import Registry
from adbench.metrics.support.curves import Curves, Ranking, image_curves, rank_pixels
from adbench.metrics.support.inputs import check, reason, reasons
from adbench.metrics.support.pimo import per_image
from adbench.metrics.support.regions import Regions, components
from adbench.metrics.support.saturation import kind_groups, saturated_curves
from adbench.types import Scores, Truth

__all__ = [
    "AT_THRESHOLD", "METRICS", "ON_REQUEST", "ORDER", "STRICT_LIMIT", "Case", "Curves", "Metric", "Regions", "components",
    "evaluate", "in_order", "measure", "names", "needs", "reason", "reasons", "register", "register_both", "whole_case",
]  # fmt: skip


@dataclass(frozen=True)
class Case:
    """What a metric sees: N images, or a part or a bootstrap replicate of them, in which an image may occur repeatedly.

    `image` and `pixel` are None where there are no good or no anomalous items. pimo: (N,) AUPIMO of each image, NaN for good
    ones, None where it is undefined. anomalous: as `pixel`, against the good pixels of anomalous images only. saturated:
    curves of saturated overlap by kind of defect, where there are saturation areas.
    """

    scores: Scores
    truth: Truth
    pro_limit: float  # false-positive rate up to which AU-PRO is integrated
    image: Curves | None
    pixel: Curves | None
    pimo: NDArray[np.float64] | None = None
    saturated: Mapping[str, Curves] = field(default_factory=dict)
    anomalous: Curves | None = None


Metric = Callable[[Case], float | None]
METRICS: Registry[Metric] = Registry("metric", __name__)
register = METRICS.register
ORDER = ("image_auroc", "image_ap", "image_f1max", "pixel_auroc", "pixel_ap", "pixel_f1max", "aupro")  # others follow, by name
ON_REQUEST = (
    "au_spro",
    "aupimo",
    "aupro_05",
    "aupro_anomalous",
)  # the package's other ones, which a table has only if they are asked for
STRICT_LIMIT = 0.05  # the false-positive rate up to which MVTec AD 2 and MVTec LOCO AD integrate
AT_THRESHOLD = ("image_f1", "image_recall", "image_fpr", "seg_f1")  # only of jobs with `thresholds`: statistics/decisions.py


def register_both(name: str, of: Callable[[Curves], float]) -> None:
    """Register `of` as two metrics: `image_NAME` of the images' scores, `pixel_NAME` of all pixels of all images."""
    for items in ("image", "pixel"):
        register(f"{items}_{name}")(update_wrapper(partial(_measure_curves, of, items), of))


def needs(what: str) -> Callable[[Metric], Metric]:
    """Say what a metric needs to be defined, for the note about results without it."""

    def say(metric: Metric) -> Metric:
        metric.__dict__["needs"] = what
        return metric

    return say


def _measure_curves(of: Callable[[Curves], float], items: str, case: Case) -> float | None:
    curves = getattr(case, items)
    return of(curves) if curves else None


def in_order(found: Iterable[str]) -> list[str]:
    """Return metric names as they are listed everywhere: those of `ORDER` first, then others by name."""
    present = set(found)
    return [name for name in ORDER if name in present] + sorted(present.difference(ORDER))


def names() -> list[str]:
    """Return the names of all registered metrics, in order."""
    return in_order(METRICS.items())


def check_pro_limit(limit: float) -> None:
    """Raise UsageError unless AU-PRO can be integrated up to this false-positive rate."""
    if not 0 < limit <= 1:
        raise UsageError(f"pro_limit {limit} is outside (0, 1]; the usual value is 0.3")


def evaluate(scores: Scores, truth: Truth, pro_limit: float = 0.3, regions: Regions | None = None) -> dict[str, float | None]:
    """Return every registered metric by name, in order, as a fraction of 1, or None where it is undefined.

    scores.image (N,), scores.maps and truth.masks (N, H, W) or N arrays (H_i, W_i), truth.anomalous (N,).
    Pixel metrics count all pixels of all images, good ones included (Bergmann et al., IJCV 2021).
    `regions` is `components(truth.masks)`, which a caller with many detectors computes once per category.
    Raises UsageError if `pro_limit` is outside (0, 1], ValueError if shapes do not match or a score is NaN.
    """
    check_pro_limit(pro_limit)
    check(scores, truth)
    return measure(whole_case(scores, truth, pro_limit, rank_pixels(scores, truth, regions, kind_groups(truth)[1])))


def whole_case(scores: Scores, truth: Truth, pro_limit: float, ranking: Ranking | None) -> Case:
    """Return the case of all images; `ranking` is that of their pixels, in the groups of `kind_groups`."""
    image, pixel = image_curves(scores, truth), ranking.curves() if ranking else None
    pimo = per_image(scores, truth, ranking.anomalous) if ranking else None
    anomalous = ranking.curves(groups=np.arange(ranking.groups) > 0) if ranking else None
    return Case(scores, truth, pro_limit, image, pixel, pimo, saturated_curves(ranking, scores.maps, truth), anomalous)


def measure(case: Case, chosen: Iterable[str] | None = None) -> dict[str, float | None]:
    """Return the `chosen` metrics of a case, in order; None = all."""
    metrics = METRICS.items()
    return {name: metrics[name](case) for name in in_order(metrics if chosen is None else chosen)}
