"""The score above which an image counts as anomalous, from good images that the detector was not fitted to.

Split conformal detection (Laxhammar and Falkman 2010; Bates, Candès, Lei, Romano and Sesia, "Testing for outliers with
conformal p-values", Annals of Statistics 51(1), 2023, section 2).

Assumption: the scores of the n held-out good images and of a new good image are exchangeable. This is so if all come from
the same production as independent draws, and no held-out image was used in the fit.

Method: the threshold is the (n + 1 - m)-th smallest of the n scores, where m = floor((n + 1) * rate). An image is
anomalous if its score is strictly above the threshold.

Guarantees:
- Over all draws of the n + 1 images, a new good image is called anomalous with probability m / (n + 1) at most, and
  exactly that if scores never tie. m is the largest number that keeps this within `rate`.
- For the n images at hand, the false-positive rate on new good images is a random number with the distribution
  Beta(m, n + 1 - m), whatever the distribution of the scores (smaller if scores tie). The interval is given by its 2.5 %
  and 97.5 % quantiles.

Nothing is guaranteed about defects, or about good images after light, lens or material have changed.

Cross-fitting sets the threshold without holding images out from the final fit (Barber, Candès, Ramdas and Tibshirani,
"Predictive inference with the jackknife+", Annals of Statistics 49(1), 2021; here with one-sided scores, the residuals of
the paper being anomaly scores). The n images are divided into K folds at random, and K fits each leave out one fold, whose
images they score. The threshold is the (n + 1 - m)-th smallest of these n scores, as above. The detector that is saved is
fitted to all n images.
- CV+ calls an image anomalous if its score by the fit without image i exceeds the score of image i, for at least n + 1 - m of
  the n images. A new good image is called so with probability 2 (m + K - 1) / (n + K) at most: m / (n + 1) is doubled, and
  something is added for the folds (theorem 4 of the paper; this form from its proof by Vovk and Wang's average of p-values,
  Biometrika 107(4), 2020, which needs no folds of equal size). If K = n (jackknife+, theorem 1), the bound is 2 m / (n + 1);
  if n is a multiple of K, 2 m / (n + 1) + (1 - K / n) / (K + 1) holds, too. `Threshold.bound` is the least of those that hold.
- This bound is that of the vote of the K fits. It carries over to the fit to all images if more good images never raise a
  score, as for PatchCore with the whole bank (coreset_fraction=1): an image above the threshold there is above it in all K
  fits. For other detectors it is not guaranteed (section 1 of the paper has a counterexample for the jackknife).
- Expected is a rate near m / (n + 1), usually below it, as the final fit has seen more images than each of the K.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from adbench.core.errors import DataError, UsageError
from adbench.statistics.rules import Conformal, GoodScores, Limits, Rule, images_above, images_needed, rate_interval


@dataclass(frozen=True)
class Threshold:
    """A threshold with the facts that it was set from.

    image: an image is anomalous if its score is above this. pixel: the same order statistic of the maxima of the good
    images' smoothed maps on a 256 grid, so that both have the same false-positive rate. typical: the median of those
    maps. fpr: the rate asked for. count: n. above: m, at least 1. folds: K of a cross-fit, 0 if the images were held out.
    rule: of `adbench.statistics.rules`, empty for the conformal one; another one promises nothing, so `fpr` and `above` are None.
    """

    image: float
    pixel: float
    typical: float
    fpr: float | None
    count: int
    above: int | None
    folds: int = 0
    rule: str = ""

    def __post_init__(self) -> None:
        finite = all(map(math.isfinite, (self.image, self.pixel, self.typical)))
        promise = self.above is None if self.rule else self.above is not None and 1 <= self.above <= self.count
        if not finite or not promise or not (self.folds == 0 or 2 <= self.folds <= self.count):
            raise ValueError(f"not a valid threshold: {self}")

    @property
    def expected(self) -> float | None:
        """The false-positive rate expected over all draws of the images: exact if they were held out, else about it."""
        return None if self.above is None else self.above / (self.count + 1)

    @property
    def bound(self) -> float | None:
        """The rate that is not exceeded over all draws of the images; of a cross-fit, by the vote of its fits (CV+)."""
        if not self.folds or self.above is None:
            return self.expected
        bounds = [2 * (self.above + self.folds - 1) / (self.count + self.folds)]
        if self.count % self.folds == 0:
            bounds.append(2 * self.above / (self.count + 1) + (1 - self.folds / self.count) / (self.folds + 1))
        return min(1.0, *bounds)

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of the false-positive rate, given the held-out images at hand; None where none is known."""
        return None if self.folds or self.above is None else rate_interval(self.count, self.above)

    @property
    def shortfall(self) -> str | None:
        """A warning if there were too few images for the rate, else None."""
        if self.fpr is None or self.count >= (needed := images_needed(self.fpr)):
            return None
        held_out = "" if self.folds else "held-out "
        return (
            f"a false-positive rate of {self.fpr:g} needs {needed} or more {held_out}good images, not {self.count}; "
            f"the highest of their scores becomes the threshold, with an expected rate of {self.expected:.3g}"
        )

    def stored(self) -> dict[str, Any]:
        """Return the fields as a model file has them: `folds` and `rule` only if they have a value, for older versions."""
        return {name: value for name, value in asdict(self).items() if name not in ("folds", "rule") or value}

    @property
    def limits(self) -> Limits:
        """The threshold as metrics are measured at it."""
        facts = self.image, self.pixel, self.count, self.expected, self.interval, self.shortfall
        return Limits(self.rule or f"conformal:{self.fpr:g}", *facts)

    def record(self) -> dict[str, Any]:
        """Return the JSON form, with the expected rate, its bound, and its interval (null where unknown)."""
        interval = list(self.interval) if self.interval else None
        facts = {"rule": self.limits.rule, "expected": self.expected, "bound": self.bound, "interval": interval}
        return asdict(self) | facts


def set_threshold(images: Sequence[float], pixels: Sequence[float], typical: float, fpr: float, folds: int = 0) -> Threshold:
    """Return the threshold for a false-positive rate from n good images; the highest score if n is too small.

    images: their scores by a fit that has not seen them; pixels: the maxima of their smoothed maps; typical: the median of
    those maps. folds: of a cross-fit, 0 if the images were held out.
    """
    count = len(images)
    above = images_above(count, check_rate(fpr))
    rank = count - above
    return Threshold(float(sorted(images)[rank]), float(sorted(pixels)[rank]), typical, fpr, count, above, folds)


def threshold_by(rule: Rule, good: GoodScores, folds: int = 0) -> Threshold:
    """Return the threshold that a rule sets from held-out images; raise DataError if another than the conformal one cannot."""
    typical = float(np.median(good.medians))
    if isinstance(rule, Conformal):
        return set_threshold(good.image.tolist(), good.highest.tolist(), typical, rule.rate, folds)
    if reason := rule.shortage(good):
        raise DataError(f"--rule {reason}; add good images")
    image, pixel = rule.values(good)
    return Threshold(image, pixel, typical, None, good.count, None, folds, rule.text)


def check_rate(fpr: float) -> float:
    """Return `fpr` if a threshold can be set for it; raise UsageError if not."""
    if not 0 < fpr < 1:
        raise UsageError(f"--fpr {fpr:g}: the false-positive rate must be above 0 and below 1, e.g. 0.01")
    return fpr
