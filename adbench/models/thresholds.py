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
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

from adbench.core.errors import UsageError


@dataclass(frozen=True)
class Threshold:
    """A threshold with the facts that it was set from.

    image: an image is anomalous if its score is above this. pixel: the same order statistic of the maxima of the good
    images' smoothed maps on a 256 grid, so that both have the same false-positive rate. typical: the median of those
    maps. fpr: the rate asked for. count: n. above: m, at least 1.
    """

    image: float
    pixel: float
    typical: float
    fpr: float
    count: int
    above: int

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, (self.image, self.pixel, self.typical))) or not 1 <= self.above <= self.count:
            raise ValueError(f"not a valid threshold: {self}")

    @property
    def expected(self) -> float:
        """The false-positive rate expected over all draws of the held-out images."""
        return self.above / (self.count + 1)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the false-positive rate, given the held-out images at hand."""
        from scipy.stats import beta

        low, high = beta.ppf((0.025, 0.975), self.above, self.count + 1 - self.above)
        return float(low), float(high)

    @property
    def shortfall(self) -> str | None:
        """A warning if too few images were held out for the rate, else None."""
        needed = math.ceil(1 / Fraction(str(self.fpr))) - 1
        if self.count >= needed:
            return None
        return (
            f"a false-positive rate of {self.fpr:g} needs {needed} or more held-out good images, not {self.count}; "
            f"the highest of their scores becomes the threshold, with an expected rate of {self.expected:.3g}"
        )

    def record(self) -> dict[str, Any]:
        """Return the JSON form, with the expected rate and its interval."""
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
    """Return `fpr` if a threshold can be set for it; raise UsageError if not."""
    if not 0 < fpr < 1:
        raise UsageError(f"--fpr {fpr:g}: the false-positive rate must be above 0 and below 1, e.g. 0.01")
    return fpr
