"""The score above which an image counts as anomalous, from good images that the detector was not fitted to.

Split conformal detection (Laxhammar and Falkman 2010; Bates, Candès, Lei, Romano and Sesia, "Testing for outliers with
conformal p-values", Annals of Statistics 51(1), 2023, section 2). What is guaranteed: let the scores of the n held-out
good images and of a new good image be exchangeable, which holds if all come from the same production as independent
draws and no held-out image had a part in the fit. Let the threshold be the (n + 1 - m)-th smallest of the n scores, and
let only what is strictly above it be anomalous. Then
- over all draws of the n + 1 images, a new good image is called anomalous with a probability of m / (n + 1) at most,
  and of exactly that if scores never tie. m = floor((n + 1) * rate) is the largest m that keeps this within `rate`;
- for the n images at hand, the rate among all good images to come is a random number with the law Beta(m, n + 1 - m)
  (smaller if scores tie), whatever the distribution of the scores. Its 2.5 % and 97.5 % quantiles are the interval.
What is not: nothing is said of defects, nor of good images once light, lens or material have changed.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

from adbench.core.errors import UsageError


@dataclass(frozen=True)
class Threshold:
    """A threshold with what it was set from.

    image: an image is anomalous if its score is above it. pixel: the same order statistic of the maxima of the good
    images' smoothed maps on a 256 grid: a good image has a place above it as rarely as it has a score above `image`.
    typical: the median of those maps. fpr: the rate asked for. count: n. above: m, at least 1.
    """

    image: float
    pixel: float
    typical: float
    fpr: float
    count: int
    above: int

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, (self.image, self.pixel, self.typical))) or not 1 <= self.above <= self.count:
            raise ValueError(f"no threshold: {self}")

    @property
    def expected(self) -> float:
        """The rate of good images above the threshold, over all draws of the held-out ones."""
        return self.above / (self.count + 1)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of that rate given the held-out images at hand."""
        from scipy.stats import beta

        low, high = beta.ppf((0.025, 0.975), self.above, self.count + 1 - self.above)
        return float(low), float(high)

    @property
    def shortfall(self) -> str | None:
        """What to tell the user if too few images were held out for the rate, else None."""
        needed = math.ceil(1 / Fraction(str(self.fpr))) - 1
        if self.count >= needed:
            return None
        return (
            f"{self.count} held-out good images are too few for a false-positive rate of {self.fpr:g}, which takes "
            f"{needed} or more; the threshold is their highest score, for an expected rate of {self.expected:.3g}"
        )

    def record(self) -> dict[str, Any]:
        """Return the JSON form, with what follows from it."""
        return asdict(self) | {"expected": self.expected, "interval": list(self.interval)}


def set_threshold(images: Sequence[float], pixels: Sequence[float], typical: float, fpr: float) -> Threshold:
    """Return the threshold for a false-positive rate from n held-out good images; the highest score if n is too small.

    images: their scores; pixels: the maxima of their smoothed maps; typical: the median of those maps.
    """
    count = len(images)
    above = max(1, int((count + 1) * Fraction(str(check_rate(fpr)))))  # exact: 0.29 * 100 is below 29 in floats
    rank = count - above
    return Threshold(float(sorted(images)[rank]), float(sorted(pixels)[rank]), typical, fpr, count, above)


def check_rate(fpr: float) -> float:
    """Return `fpr` if it is a rate that a threshold can be set for; raise UsageError if not."""
    if not 0 < fpr < 1:
        raise UsageError(f"--fpr {fpr:g}: the false-positive rate must be above 0 and below 1, e.g. 0.01")
    return fpr
