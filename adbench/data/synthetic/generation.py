"""Images with synthetic defects, one by one, each from its own seed. It registers nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_closing, binary_fill_holes, gaussian_filter, label

from adbench.core.errors import DataError, UsageError
from adbench.data.synthetic.foreground import learn_foreground
from adbench.data.synthetic.kinds import KINDS, Canvas, Kind, Picture, Rng
from adbench.data.synthetic.parts import Part, Parts
from adbench.data.synthetic.sizes import DEFAULT_SIZES, Sizes
from adbench.types import OnStep, Sample, ignore_step

VISIBLE = 6  # grey levels of the most changed channel
_CLOSED, _CLOSED_SHARE = 1.5, 0.05  # px, share of its size: gaps up to twice as wide inside a defect belong to it
_LEAST_VISIBLE_SHARE = 0.1  # of a defect's largest piece: smaller ones are specks


def visible_change(
    before: NDArray[np.uint8], after: Picture, foreground: NDArray[np.bool_], size: float
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return the changed image (H, W, 3) and the mask (H, W) of all that differs from `before` in it.

    `size`: of the defect, in px.
    Changes below `VISIBLE`, specks, and what lies outside the foreground are taken back. Gaps and holes of the change,
    where the defect happens to look like what it covers, count as defect, as a person would label them.
    """
    inside = foreground if foreground.all() else gaussian_filter(foreground.astype(np.float32), 0.7)
    painted = np.clip(np.rint(before + (after - before) * inside[..., None]), 0, 255).astype(np.uint8)
    change = np.abs(painted.astype(np.int16) - before).max(axis=2) >= VISIBLE
    reach = round(_CLOSED + _CLOSED_SHARE * size)
    closed = binary_closing(np.pad(change & foreground, reach), np.ones((3, 3)), reach)[reach:-reach, reach:-reach]
    regions, count = label(binary_fill_holes(closed) & foreground, np.ones((3, 3)))
    areas = np.bincount(regions.ravel(), minlength=count + 1)
    large = areas >= _LEAST_VISIBLE_SHARE * areas[1:].max(initial=1)
    large[0] = False
    mask = large[regions]
    return np.where(mask[..., None], painted, before), mask


_IMAGES, _TRIES = 3, 8  # that a kind is tried on; places on each
TOLERANCE = 1.25  # factor by which a defect's size may miss the wanted one
_LEAST_SHARE, _LEAST_MEAN = 0.5, 8  # of a mask's pixels that have visibly changed themselves; grey levels over the mask
_LEAST_SPREAD = 32.0  # grey levels that contrasts are relative to, at the least
_LARGEST = 0.7  # of the part's size
Drawn = tuple[NDArray[np.uint8], NDArray[np.bool_]]  # image (H, W, 3), mask (H, W)


@dataclass(frozen=True)
class Recipe:
    """What defects shall be like.

    kinds: names, taken in turn; none = all. sizes: relative to the image. contrasts: range, as fractions of the
    range of brightness around the defect. min_size_px: no defect is smaller, whatever `sizes` says.
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
            raise UsageError(f"--contrasts {low:g},{high:g}: give fractions above 0, up to 1")
        if self.min_size_px < 2:
            raise UsageError(f"--min-size-px {self.min_size_px:g}: give 2 or more")


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
        """Return image number `index`. Its kind is the next in turn; where that cannot be seen on any image tried, another.

        Raises DataError if none can, UsageError if `min_size_px` is too large for the part.
        """
        rng = np.random.default_rng([self.seed, index])
        turn = self.recipe.kinds[index % len(self.recipe.kinds)]
        others = [str(kind) for kind in rng.permutation(self.recipe.kinds) if kind != turn]
        sources = self._sources(index)
        for kind, number in product((turn, *others), sources):
            source, part = self.parts.samples[number], self.parts[number]
            drawn = self._draw(KINDS.get(kind), part, self._wanted(part, source, rng), rng)
            if drawn:
                return SyntheticImage(*drawn, kind, source, self.seed, index)
        first = self.parts.samples[sources[0]].path
        raise DataError(f"no {' or '.join(self.recipe.kinds)} can be seen on {first} or others; choose other kinds or contrasts")

    def _sources(self, index: int) -> list[int]:
        """Return which images to paint on, in order of preference; all come first once before one does so again."""
        count = len(self.parts.samples)
        turn, place = divmod(index, count)
        order = np.random.default_rng([self.seed, turn, 1]).permutation(count)
        return [int(number) for number in np.roll(order, -place)[:_IMAGES]]

    def _wanted(self, part: Part, source: Sample, rng: Rng) -> float:
        largest = _LARGEST * float(np.sqrt(part.foreground.sum()))
        if self.recipe.min_size_px > largest:
            raise UsageError(
                f"--min-size-px {self.recipe.min_size_px:g}: the part in {source.path} has room for {largest:.0f} px; give less"
            )
        wanted = self.recipe.sizes.draw(rng) * float(np.sqrt(part.foreground.size))
        return min(max(wanted, 1.1 * self.recipe.min_size_px), largest)  # a little more, or half would miss it

    def _draw(self, paint: Kind, part: Part, wanted: float, rng: Rng) -> Drawn | None:
        """Return a defect of about the `wanted` size, or None if no try shows one."""
        size, least = wanted, max(wanted / TOLERANCE, self.recipe.min_size_px)
        for _ in range(_TRIES):
            image, mask = self._try(paint, part, size, rng)
            got = float(np.sqrt(mask.sum()))
            if least <= got <= wanted * TOLERANCE and _stands_out(part.image[mask], image[mask]):
                return image, mask
            size = float(np.clip(size * np.clip(wanted / max(got, 1), 0.6, 1.6), wanted / 3, wanted * 3))
        return None

    def _try(self, paint: Kind, part: Part, size: float, rng: Rng) -> Drawn:
        centre, reach = part.place(rng), int(3 * size) + 12
        rows, columns = (slice(max(c - reach, 0), c + reach + 1) for c in centre)
        window, inside = part.image[rows, columns], part.foreground[rows, columns]
        contrast = rng.uniform(*self.recipe.contrasts) * _spread(window, inside)
        corner = (centre[0] - rows.start, centre[1] - columns.start)
        canvas = Canvas(window.astype(np.float32), inside, corner, size, contrast, self.parts.texture)
        picture = paint(canvas, rng)
        if part.grey:
            picture = np.repeat(picture.mean(axis=2, keepdims=True), 3, axis=2)
        image, mask = part.image.copy(), np.zeros(part.foreground.shape, bool)
        image[rows, columns], mask[rows, columns] = visible_change(window, picture, inside, size)
        return image, mask


def _stands_out(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> bool:
    """Return whether a change of pixels (N, 3) can be seen: most of them have changed, and by enough on average."""
    change = np.abs(after.astype(np.int16) - before).max(axis=1)
    return bool((change >= VISIBLE).mean() >= _LEAST_SHARE and change.mean() >= _LEAST_MEAN)


def _spread(window: NDArray[np.uint8], inside: NDArray[np.bool_]) -> float:
    """Return how far brightness ranges around a place, in grey levels; what is bright without texture counts by half."""
    values = window[::2, ::2][inside[::2, ::2]].mean(axis=1) if inside[::2, ::2].any() else window[inside].mean(axis=1)
    low, high = np.percentile(values, [5, 95])
    return max(float(high - low), float(values.mean()) / 2, _LEAST_SPREAD)


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
