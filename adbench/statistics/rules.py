"""Rules that set the threshold of images and that of pixels from the scores of good images which no fit has seen.

conformal:A: the smallest threshold with a guarantee: of new good images, a share A at most scores above it, on average over all
draws of the images (split conformal detection; docs and references in `adbench.models.thresholds`). The pixel threshold is the
same order statistic of the maxima of the images' maps, so a share A at most of new good images has any pixel above it.
sigma:K: mean + K standard deviations, of the image scores and of all pixels (K = 3: the public code utilities of MVTec AD 2).
quantile:Q*F: the quantile Q, linearly interpolated, times F, of the image scores and of all pixels (0.95 and 1.421: SuperADD).

Only the conformal rule promises a rate. A normal distribution would exceed mean + 3 deviations in 0.135 % of all cases, but
anomaly scores are not normal, and their deviation is estimated from the same few images.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from adbench.core.errors import UsageError
from adbench.features.anomaly_maps import Smoothing, searched
from adbench.types import Scores

DEFAULTS = {"conformal": "0.01", "sigma": "3", "quantile": "0.95*1.421"}  # the value of a rule that is named without one
EXPECTED = "conformal:0.01, sigma:3 or quantile:0.95*1.421"
_DIGITS = 6  # of what is recorded
_FEWEST = 2  # images from which a deviation or a quantile is estimated


@dataclass(frozen=True)
class GoodScores:
    """Scores of n held-out good images.

    image: (n,). highest, medians: (n,), of the images' smoothed maps on a 256 grid (of tiles: finer). pixels: all values of these
    maps, or None if no rule needs them.
    """

    image: NDArray[np.float32]
    highest: NDArray[np.float32]
    medians: NDArray[np.float32]
    pixels: NDArray[np.float32] | None = None

    @property
    def count(self) -> int:
        return len(self.image)


class Rule(Protocol):
    """A rule with its value. `text` is its name, as it stands in keys and records."""

    @property
    def text(self) -> str: ...

    @property
    def needs_pixels(self) -> bool: ...

    def shortage(self, good: GoodScores) -> str | None:
        """Return why these scores set no threshold, or None."""
        ...

    def values(self, good: GoodScores) -> tuple[float, float]:
        """Return the image threshold and the pixel threshold."""
        ...


@dataclass(frozen=True)
class Conformal:
    """The order statistic with a guaranteed false-positive rate."""

    rate: float
    needs_pixels = False

    @property
    def text(self) -> str:
        return f"conformal:{self.rate:g}"

    def shortage(self, good: GoodScores) -> str | None:
        needed = images_needed(self.rate)
        if good.count >= needed:
            return None
        images = f"{good.count} held-out good image{'s' * (good.count != 1)}"
        return f"{self.text} needs {needed} held-out good images to promise its rate, and has {images}"

    def values(self, good: GoodScores) -> tuple[float, float]:
        rank = good.count - images_above(good.count, self.rate)
        return float(np.sort(good.image)[rank]), float(np.sort(good.highest)[rank])


@dataclass(frozen=True)
class Sigma:
    """Mean plus a number of standard deviations."""

    deviations: float
    needs_pixels = True

    @property
    def text(self) -> str:
        return f"sigma:{self.deviations:g}"

    def shortage(self, good: GoodScores) -> str | None:
        return _too_few(self.text, good)

    def values(self, good: GoodScores) -> tuple[float, float]:
        image, pixels = good.image.astype(np.float64), _pixels(good)
        ends = [values.mean(dtype=np.float64) + self.deviations * values.std(dtype=np.float64) for values in (image, pixels)]
        return float(ends[0]), float(ends[1])


@dataclass(frozen=True)
class Quantile:
    """A quantile times a factor."""

    share: float
    factor: float = 1.0
    needs_pixels = True

    @property
    def text(self) -> str:
        return f"quantile:{self.share:g}" + (f"*{self.factor:g}" if self.factor != 1 else "")

    def shortage(self, good: GoodScores) -> str | None:
        if short := _too_few(self.text, good):
            return short
        if self.factor != 1 and min(self._quantiles(good)) <= 0:
            return f"{self.text} multiplies a quantile, but that of these scores is not above 0; use quantile:{self.share:g}"
        return None

    def values(self, good: GoodScores) -> tuple[float, float]:
        image, pixel = self._quantiles(good)
        return image * self.factor, pixel * self.factor

    def _quantiles(self, good: GoodScores) -> tuple[float, float]:
        image, pixel = (float(np.quantile(values, self.share)) for values in (good.image, _pixels(good)))
        return image, pixel


@dataclass(frozen=True)
class Limits:
    """The thresholds of a rule, and what it promises of the false-positive rate on good images.

    image, pixel: None if the rule could not set them, for the `reason`. count: of the good images that set them. promised: the
    rate, None if the rule promises none; interval: where 95 % of such rates are, given the images at hand.
    """

    rule: str
    image: float | None
    pixel: float | None
    count: int
    promised: float | None = None
    interval: tuple[float, float] | None = None
    reason: str | None = None

    def record(self) -> dict[str, Any]:
        """Return the facts for the details of a result."""
        interval = [round(end, _DIGITS) for end in self.interval] if self.interval else None
        return {"rule": self.rule, "image": self.image, "pixel": self.pixel, "count": self.count, "promised": self.promised,
                "promised_interval": interval, "reason": self.reason}  # fmt: skip


def good_scores(scored: Iterable[Scores], smoothing: Smoothing, rules: Iterable[Rule]) -> GoodScores:
    """Return what `rules` set thresholds from: scores of good images, maps on the feature grid before `smoothing`."""
    parts, keep = list[tuple[NDArray[np.float32], ...]](), any(rule.needs_pixels for rule in rules)
    for scores in scored:
        maps = searched(np.asarray(scores.maps), smoothing)
        flat = maps.reshape(len(maps), -1)
        parts.append((scores.image, flat.max(axis=1), np.median(flat, axis=1), flat if keep else flat[:, :0]))
    image, highest, medians, pixels = (np.concatenate(part) for part in zip(*parts, strict=True))
    return GoodScores(image, highest, medians, pixels if keep else None)


def limits_from(scored: Iterable[Scores], smoothing: Smoothing, rules: Sequence[Rule]) -> list[Limits]:
    """Return the thresholds of each rule from scores as `good_scores` takes them."""
    good = good_scores(scored, smoothing, rules)
    return [limits_of(rule, good) for rule in rules]


def limits_of(rule: Rule, good: GoodScores) -> Limits:
    """Return the thresholds that a rule sets from the scores of held-out good images."""
    if reason := rule.shortage(good):
        return Limits(rule.text, None, None, good.count, reason=reason)
    image, pixel = rule.values(good)
    if not isinstance(rule, Conformal):
        return Limits(rule.text, image, pixel, good.count)
    above = images_above(good.count, rule.rate)
    return Limits(rule.text, image, pixel, good.count, above / (good.count + 1), rate_interval(good.count, above))


def parse_rule(text: str) -> Rule:
    """Return the rule that a user wrote; one without a value has its usual one. Raise UsageError if it is none."""
    name, _, value = (part.strip() for part in str(text).strip().lower().partition(":"))
    found = re.fullmatch(r"(\d*\.?\d+(?:e-?\d+)?)(?:\s*\*\s*(\d*\.?\d+))?", value or DEFAULTS.get(name, ""))
    if found:
        number, factor = float(found[1]), found[2]
        if name == "conformal" and 0 < number < 1 and factor is None:
            return Conformal(number)
        if name == "sigma" and 0 < number <= 100 and factor is None:
            return Sigma(number)
        if name == "quantile" and 0 < number < 1 and 0 < float(factor or 1) <= 1000:
            return Quantile(number, float(factor or 1))
    raise UsageError(f"threshold rule '{str(text)[:40]}': write {EXPECTED}")


def images_above(count: int, rate: float) -> int:
    """Return how many of `count` held-out images the conformal threshold may leave above or at it: at least 1."""
    return max(1, int((count + 1) * Fraction(str(rate))))  # exact: 0.29 * 100 is below 29 in floats


def images_needed(rate: float) -> int:
    """Return the least number of held-out good images with which a false-positive rate can be promised."""
    return math.ceil(1 / Fraction(str(rate))) - 1


def rate_interval(count: int, above: int) -> tuple[float, float]:
    """Return the 95 % interval of the false-positive rate given `count` images at hand, of which `above` are above or at the
    threshold: quantiles of Beta(above, count + 1 - above)."""
    from scipy.special import betaincinv  # beta.ppf of scipy.stats, which takes a second to import

    low, high = betaincinv(above, count + 1 - above, (0.025, 0.975))
    return float(low), float(high)


def _pixels(good: GoodScores) -> NDArray[np.float32]:
    if good.pixels is None:
        raise ValueError("this rule needs the pixels of the held-out images")
    return good.pixels


def _too_few(text: str, good: GoodScores) -> str | None:
    return None if good.count >= _FEWEST else f"{text} needs {_FEWEST} or more held-out good images, and has {good.count}"
