"""Images with synthetic defects, one by one, each from its own seed. It registers nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adbench.errors import DataError, UsageError
from adbench.synthetic import KINDS, Canvas, Kind, Rng
from adbench.synthetic.foreground import learn_foreground
from adbench.synthetic.parts import Part, Parts
from adbench.synthetic.sizes import DEFAULT_SIZES, Sizes
from adbench.synthetic.visible import visible_change
from adbench.types import OnStep, Sample, ignore_step

_TRIES = 12  # places on one image that a kind is tried at
TOLERANCE = 1.25  # factor by which a defect's size may miss the wanted one
_LEAST_CHANGED = 0.5  # share of a mask's pixels that have visibly changed themselves
_LARGEST = 0.7  # of the part's size

Drawn = tuple[NDArray[np.uint8], NDArray[np.bool_]]  # image (H, W, 3), mask (H, W)


@dataclass(frozen=True)
class Recipe:
    """What defects shall be like.

    kinds: names, taken in turn; none = all. sizes: relative to the image. contrasts: range, as fractions of the part's
    own range of brightness. min_size_px: no defect is smaller, whatever `sizes` says.
    Raises UsageError for an unknown kind or a range that does not fit.
    """

    kinds: tuple[str, ...] = ()
    sizes: Sizes = DEFAULT_SIZES
    contrasts: tuple[float, float] = (0.2, 0.8)
    min_size_px: float = 4

    def __post_init__(self) -> None:
        chosen = tuple(dict.fromkeys(KINDS.canonical(kind) for kind in self.kinds)) or tuple(KINDS.names())
        object.__setattr__(self, "kinds", chosen)
        low, high = self.contrasts
        if not 0 < low <= high <= 1:
            raise UsageError(f"contrasts {low:g} to {high:g}: give fractions above 0, up to 1")
        if self.min_size_px < 2:
            raise UsageError(f"min-size-px {self.min_size_px:g}: give 2 or more")


@dataclass(frozen=True)
class SyntheticImage:
    """A good image with one synthetic defect: image (H, W, 3) uint8, mask (H, W) bool, never empty."""

    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    kind: str
    source: Sample
    seed: int
    index: int  # with `seed`, all that chance had to say

    @property
    def size_px(self) -> float:
        """Side in px of the square that has the mask's area."""
        return float(np.sqrt(self.mask.sum()))


@dataclass(frozen=True)
class Maker:
    """Makes any image of a seed, whatever has been made before."""

    parts: Parts
    recipe: Recipe
    seed: int

    def make(self, index: int) -> SyntheticImage:
        """Return image number `index`. Its kind is the next in turn; if none of that can be seen there, another one.

        Raises DataError if none can, UsageError if `min_size_px` is too large for the part.
        """
        rng = np.random.default_rng([self.seed, index])
        number = self._source(index)
        source, part = self.parts.samples[number], self.parts[number]
        turn = index % len(self.recipe.kinds)
        for kind in (*self.recipe.kinds[turn:], *self.recipe.kinds[:turn]):
            drawn = self._draw(KINDS.get(kind), part, self._wanted(part, source, rng), rng)
            if drawn:
                return SyntheticImage(*drawn, kind, source, self.seed, index)
        raise DataError(
            f"no {' or '.join(self.recipe.kinds)} can be seen on {source.path}; choose other kinds or contrasts"
        )

    def _source(self, index: int) -> int:
        """Return which image to paint on: all are used once before one is used again."""
        count = len(self.parts.samples)
        turn, number = divmod(index, count)
        return int(np.random.default_rng([self.seed, turn, 1]).permutation(count)[number])

    def _wanted(self, part: Part, source: Sample, rng: Rng) -> float:
        largest = _LARGEST * float(np.sqrt(part.foreground.sum()))
        if self.recipe.min_size_px > largest:
            raise UsageError(
                f"min-size-px {self.recipe.min_size_px:g}: the part in {source.path} has room for {largest:.0f} px; give less"
            )
        wanted = self.recipe.sizes.draw(rng) * float(np.sqrt(part.foreground.size))
        return min(max(wanted, self.recipe.min_size_px), largest)

    def _draw(self, paint: Kind, part: Part, wanted: float, rng: Rng) -> Drawn | None:
        """Return a defect of about the `wanted` size, or None if no try shows one."""
        size = wanted
        for _ in range(_TRIES):
            image, mask = self._try(paint, part, size, rng)
            got = float(np.sqrt(mask.sum()))
            fits = wanted / TOLERANCE <= got <= wanted * TOLERANCE
            if fits and (image != part.image).any(axis=2)[mask].mean() >= _LEAST_CHANGED:
                return image, mask
            size = float(np.clip(size * np.clip(wanted / max(got, 1), 0.6, 1.6), wanted / 3, wanted * 3))
        return None

    def _try(self, paint: Kind, part: Part, size: float, rng: Rng) -> Drawn:
        centre, reach = part.place(rng), int(3 * size) + 12
        rows, columns = (slice(max(c - reach, 0), c + reach + 1) for c in centre)
        window, inside = part.image[rows, columns], part.foreground[rows, columns]
        contrast = rng.uniform(*self.recipe.contrasts) * part.spread
        corner = (centre[0] - rows.start, centre[1] - columns.start)
        canvas = Canvas(window.astype(np.float32), inside, corner, size, contrast, self.parts.texture)
        picture = paint(canvas, rng)
        if part.grey:
            picture = np.repeat(picture.mean(axis=2, keepdims=True), 3, axis=2)
        image, mask = part.image.copy(), np.zeros(part.foreground.shape, bool)
        image[rows, columns], mask[rows, columns] = visible_change(window, picture, inside)
        return image, mask


def make_defects(
    samples: Sequence[Sample], num: int, seed: int, recipe: Recipe | None = None, on_step: OnStep = ignore_step
) -> Iterator[SyntheticImage]:
    """Yield `num` images with one synthetic defect each, made from good `samples`; few are in memory at a time.

    Image k depends on the samples, the recipe, `seed` and k alone. Raises DataError for an image that cannot be read
    or shows no defect of the recipe, UsageError if the part has no room for one.
    """
    maker = Maker(Parts(samples, learn_foreground(samples, on_step)), recipe or Recipe(), seed)
    for index in range(num):
        yield maker.make(index)
        on_step(index + 1, num, "painting defects")
