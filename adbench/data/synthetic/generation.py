"""Images with synthetic defects, one by one, each from a seed of its own.

The size of a defect is the square root of its area. Relative sizes are fractions of the square root of the image's area.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_closing, binary_fill_holes, gaussian_filter

from adbench.core.errors import DataError, UsageError
from adbench.data.image_lists import list_below
from adbench.data.images import White, read_image, read_mask
from adbench.data.regions import EIGHT, Mask, large_regions, region_areas
from adbench.data.synthetic.foreground import Foreground, learn_foreground
from adbench.data.synthetic.kinds import KINDS, Canvas, Kind, Picture, Rng
from adbench.types import OnStep, Sample, ignore_step

VISIBLE = 6  # gray levels by which the most changed channel must differ
TOLERANCE = 1.25  # factor by which a defect's size may miss the wanted one
_CLOSED, _CLOSED_SHARE = 1.5, 0.05  # px, share of its size: gaps inside a defect up to twice as wide are filled
_LEAST_REGION = 0.1  # of a defect's largest region: smaller regions are specks
_IMAGES, _TRIES = 3, 8  # images on which a kind is tried; places on each
_LEAST_SHARE, _LEAST_MEAN = 0.5, 8  # of a mask: share of its pixels that have changed visibly; mean change in gray levels
_LEAST_SPREAD = 32.0  # gray levels: contrasts are relative to this range or more
_LARGEST = 0.7  # of the part's size
_KEPT = 8  # images in memory
_QUANTILES = 101  # that describe the sizes of known defects
Image = NDArray[np.uint8]  # (H, W, 3)


@dataclass(frozen=True)
class Sizes:
    """A distribution of relative sizes, given by evenly spaced quantiles in ascending order; log-uniform between two of them."""

    quantiles: tuple[float, ...]

    def __post_init__(self) -> None:
        low, high = self.quantiles[0], self.quantiles[-1]
        if not 0 < low <= high <= 0.7:
            raise UsageError(f"--sizes {low:g},{high:g}: give fractions of the image's side above 0, up to 0.7")

    def draw(self, rng: Rng) -> float:
        """Return one relative size."""
        place = np.linspace(0, 1, len(self.quantiles))
        return float(np.exp(np.interp(rng.uniform(), place, np.log(self.quantiles))))


DEFAULT_SIZES = Sizes((0.03, 0.2))


def sizes_of_masks(folder: Path, min_size_px: float = 0, on_step: OnStep = ignore_step) -> Sizes:
    """Return the sizes of the defects (8-connected regions) in a folder of masks and its subfolders.

    Regions smaller than `min_size_px` are skipped. Raises DataError if the folder is missing or no region is left.
    """
    if not folder.is_dir():
        raise DataError(f"masks {folder}: no such folder; give one of masks, white where the defect is")
    files = list_below(folder)
    found: list[float] = []
    for done, path in enumerate(files):
        mask = read_mask(path)
        found += [float(np.sqrt(a / mask.size)) for a in region_areas(mask) if a >= min_size_px**2]
        on_step(done + 1, len(files), "measuring masks")
    if not found:
        what = f"no defect of {min_size_px:g} px or more in {len(files)} masks"
        raise DataError(f"masks {folder}: {what}; give a folder of masks, white where the defect is")
    quantiles = np.quantile(np.minimum(found, 0.7), np.linspace(0, 1, min(len(found), _QUANTILES)))
    return Sizes(tuple(quantiles.tolist()))


@dataclass(frozen=True)
class Recipe:
    """How defects look.

    kinds: names, taken in turn; none = all. sizes: relative to the image. contrasts: range, as fractions of the range of
    brightness around the defect. min_size_px: lower bound on the size in pixels, whatever `sizes` says.
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

    image: Image
    mask: Mask
    kind: str
    source: Sample
    seed: int
    index: int  # `seed` and `index` are all that the random numbers depend on

    @property
    def size_px(self) -> float:
        """Side in px of the square that has the mask's area."""
        return float(np.sqrt(self.mask.sum()))


@dataclass(frozen=True)
class Part:
    """A good image (H, W, 3) and the foreground (H, W): where the part is in it."""

    image: Image
    foreground: Mask

    @cached_property
    def gray(self) -> bool:
        """Whether the image has no color, so that a defect must have none."""
        return int(np.ptp(self.image[::3, ::3], axis=2).max()) <= 2

    def place(self, rng: Rng) -> tuple[int, int]:
        """Return a random (row, column) of the foreground."""
        flat = np.flatnonzero(self.foreground)
        row, column = divmod(int(flat[rng.integers(len(flat))]), self.foreground.shape[1])
        return row, column


class Parts:
    """The good images of a category, read on demand; the last few stay in memory."""

    def __init__(self, samples: Sequence[Sample], foreground: Foreground, white: White = 1.0) -> None:
        self.samples, self.foreground, self.white = samples, foreground, white
        self.part = lru_cache(maxsize=_KEPT)(self._read)

    def _read(self, index: int) -> Part:
        image = read_image(self.samples[index].path, self.white)
        return Part(image, self.foreground.of(image))

    def texture(self, rng: Rng, shape: tuple[int, int]) -> Picture:
        """Return a piece of a random image around a random place of its part, mirrored at the image's border."""
        part = self.part(int(rng.integers(len(self.samples))))
        axes = []
        for length, middle, limit in zip(shape, part.place(rng), part.foreground.shape, strict=True):
            folded = (np.arange(length) + middle - length // 2) % (2 * limit)
            axes.append(np.minimum(folded, 2 * limit - 1 - folded))
        return part.image[np.ix_(*axes)].astype(np.float32)


@dataclass(frozen=True)
class Maker:
    """Make any image of a seed; it does not depend on the images made before."""

    parts: Parts
    recipe: Recipe
    seed: int

    def make(self, index: int) -> SyntheticImage:
        """Return image number `index`. Its kind is the next in turn or, if that stays invisible on all images tried, another.

        Raises DataError if all kinds stay invisible, UsageError if `min_size_px` is too large for the part.
        """
        rng = np.random.default_rng([self.seed, index])
        turn = self.recipe.kinds[index % len(self.recipe.kinds)]
        others = [str(kind) for kind in rng.permutation(self.recipe.kinds) if kind != turn]
        count = len(self.parts.samples)
        order = np.random.default_rng([self.seed, index // count, 1]).permutation(count)
        sources = np.roll(order, -(index % count))[:_IMAGES].tolist()  # each image is the first choice once per round
        for kind, number in product((turn, *others), sources):
            source, part = self.parts.samples[number], self.parts.part(number)
            drawn = self._draw(KINDS.get(kind), part, self._wanted(part, source, rng), rng)
            if drawn:
                return SyntheticImage(*drawn, kind, source, self.seed, index)
        first = self.parts.samples[sources[0]].path
        raise DataError(f"no {' or '.join(self.recipe.kinds)} can be seen on {first} or others; choose other kinds or contrasts")

    def _wanted(self, part: Part, source: Sample, rng: Rng) -> float:
        largest = _LARGEST * float(np.sqrt(part.foreground.sum()))
        if self.recipe.min_size_px > largest:
            raise UsageError(
                f"--min-size-px {self.recipe.min_size_px:g}: the part in {source.path} has room for {largest:.0f} px; give less"
            )
        wanted = self.recipe.sizes.draw(rng) * float(np.sqrt(part.foreground.size))
        margin = 1.1  # the size that comes out scatters around the wanted one
        return min(max(wanted, margin * self.recipe.min_size_px), largest)

    def _draw(self, paint: Kind, part: Part, wanted: float, rng: Rng) -> tuple[Image, Mask] | None:
        """Return an image (H, W, 3) and mask (H, W) of about the `wanted` size, or None if all tries fail."""
        size, least = wanted, max(wanted / TOLERANCE, self.recipe.min_size_px)
        for _ in range(_TRIES):
            image, mask = self._try(paint, part, size, rng)
            got = float(np.sqrt(mask.sum()))
            if least <= got <= wanted * TOLERANCE:
                change = _change(part.image[mask], image[mask])
                if (change >= VISIBLE).mean() >= _LEAST_SHARE and change.mean() >= _LEAST_MEAN:
                    return image, mask
            size = float(np.clip(size * np.clip(wanted / max(got, 1), 0.6, 1.6), wanted / 3, wanted * 3))
        return None

    def _try(self, paint: Kind, part: Part, size: float, rng: Rng) -> tuple[Image, Mask]:
        center, reach = part.place(rng), int(3 * size) + 12
        rows, columns = (slice(max(c - reach, 0), c + reach + 1) for c in center)
        window, inside = part.image[rows, columns], part.foreground[rows, columns]
        contrast = rng.uniform(*self.recipe.contrasts) * _spread(window, inside)
        corner = (center[0] - rows.start, center[1] - columns.start)
        canvas = Canvas(window.astype(np.float32), inside, corner, size, contrast, self.parts.texture)
        picture = paint(canvas, rng)
        if part.gray:
            picture = np.repeat(picture.mean(axis=2, keepdims=True), 3, axis=2)
        image, mask = part.image.copy(), np.zeros(part.foreground.shape, bool)
        image[rows, columns], mask[rows, columns] = visible_change(window, picture, inside, size)
        return image, mask


def visible_change(before: Image, after: Picture, foreground: Mask, size: float) -> tuple[Image, Mask]:
    """Return the changed image (H, W, 3) and the mask (H, W) of its difference from `before`; `size`: of the defect, in px.

    Changes outside the foreground, changes below `VISIBLE` and specks are undone. Gaps and holes inside the defect, where it
    happens to look like the material it covers, belong to the mask, as a person would label them.
    """
    inside = foreground if foreground.all() else gaussian_filter(foreground.astype(np.float32), 0.7)
    painted = np.clip(np.rint(before + (after - before) * inside[..., None]), 0, 255).astype(np.uint8)
    change = _change(before, painted) >= VISIBLE
    reach = round(_CLOSED + _CLOSED_SHARE * size)
    closed = binary_closing(np.pad(change & foreground, reach), EIGHT, reach)[reach:-reach, reach:-reach]
    mask = large_regions(binary_fill_holes(closed) & foreground, share=_LEAST_REGION)
    return np.where(mask[..., None], painted, before), mask


def _change(before: Image, after: Image) -> NDArray[np.int16]:
    """Return the change of the most changed channel, in gray levels."""
    return np.asarray(np.abs(after.astype(np.int16) - before).max(axis=-1))


def _spread(window: Image, inside: Mask) -> float:
    """Return the range of brightness (5th to 95th percentile) in gray levels, at least half of the mean brightness."""
    values = window[::2, ::2][inside[::2, ::2]].mean(axis=1) if inside[::2, ::2].any() else window[inside].mean(axis=1)
    low, high = np.percentile(values, [5, 95])
    return max(float(high - low), float(values.mean()) / 2, _LEAST_SPREAD)


def make_defects(
    samples: Sequence[Sample],
    num: int,
    seed: int,
    recipe: Recipe | None = None,
    on_step: OnStep = ignore_step,
    white: White = 1.0,
) -> Iterator[SyntheticImage]:
    """Yield `num` images with one synthetic defect each, made from good `samples` as they are needed.

    Image k depends only on the samples, the recipe, `seed` and k. Raises DataError for an image that cannot be read and if
    no kind of the recipe is visible, UsageError if the part is too small for the defect. white: see `data.images.read_levels`.
    """
    maker = Maker(Parts(samples, learn_foreground(samples, on_step, white), white), recipe or Recipe(), seed)
    for index in range(num):
        yield maker.make(index)
        on_step(index + 1, num, "painting defects")
