"""Labels of a test split at the evaluation grid, with what resizing the masks has lost."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from adbench.core.errors import DataError, UsageError
from adbench.data import shifts
from adbench.data.check import Facts, category_fingerprint
from adbench.data.decoding import decode
from adbench.data.images import read_mask, white_of
from adbench.data.pixels import middle
from adbench.data.remarks import say_once
from adbench.features.view import View
from adbench.metrics import Regions, components, reason
from adbench.metrics.support.regions import label
from adbench.metrics.support.saturation import Saturation, read_config
from adbench.types import Category, Masks, Sample, Saturated, Size, Truth

Pixel = TypeVar("Pixel", np.bool_, np.int32)
STILL = (0, 0)  # the step of an image that is not moved


@lru_cache(maxsize=64)
def nearest(inputs: int, outputs: int) -> NDArray[np.intp]:
    """Return for each output pixel the input pixel under its center; positions add up in the same floats as Pillow's."""
    steps = np.full(outputs, inputs / outputs)
    steps[0] /= 2
    return np.minimum(np.cumsum(steps).astype(np.intp), inputs - 1)


def resize_mask(mask: NDArray[Pixel], size: tuple[int, int]) -> NDArray[Pixel]:
    """Return a (H, W) mask resized to `size` by nearest neighbor, the same pixels as Pillow's NEAREST."""
    return mask[np.ix_(nearest(mask.shape[0], size[0]), nearest(mask.shape[1], size[1]))]


def lost_components(mask: NDArray[np.bool_], size: tuple[int, int]) -> tuple[int, int]:
    """Return how many 8-connected regions of a (H, W) mask have no pixel left after `resize_mask`, and how many there are.

    Regions that merge are not lost.
    """
    labels, count = label(mask)
    kept = resize_mask(labels, size)
    return count - np.unique(kept[kept > 0]).size, count


def typical_size(sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Return the (height, width) of the median area and the median aspect of images of these sizes."""
    area, aspect = np.median([height * width for height, width in sizes]), np.median([height / width for height, width in sizes])
    return round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))


@dataclass(frozen=True)
class Labels:
    """The truth of N test images, its defect regions, and remarks on what it lacks (for a result's `reason`).

    image_px: the median of the images' sides, sqrt(height x width) of the files.
    """

    truth: Truth
    regions: Regions | None
    remarks: list[str]
    image_px: int | None = None


def read_labels(
    samples: Sequence[Sample], size: Size, native: Sequence[tuple[int, int]], saturation: Path | None = None, crop: float = 1.0,
    steps: Mapping[Path, tuple[int, int]] = MappingProxyType({}),
) -> Labels:  # fmt: skip
    """Return labels at `size` (pixels of a square grid, or "native": each image's own (height, width) in `native`).

    Masks are resized with nearest neighbor; 8-connected regions that vanish are counted in the remarks. saturation: the file with
    the saturation areas of the defects, each of which has a mask file of its own. crop: see `data.pixels.middle`; regions outside
    of the middle square are counted, too. steps: how far the masks of an image are moved, (down, right) in pixels of the file, by
    the image's path.
    """
    masks: Masks | None = None
    lost = total = outside = 0
    if all(sample.masks is not None for sample in samples):
        unions = zip(samples, [read_union(s, shape) for s, shape in zip(samples, native, strict=True)], strict=True)
        whole = [shifts.moved(mask, steps.get(sample.path, STILL)) for sample, mask in unions]
        masks = [mask[middle(mask.shape, crop)] for mask in whole]
        outside = 0 if crop == 1 else sum(_outside(mask, crop) for mask in whole)
        if size != "native":
            lost, total = np.sum([lost_components(mask, (size, size)) for mask in masks], axis=0)
            masks = np.stack([resize_mask(mask, (size, size)) for mask in masks])
    truth = Truth(np.array([sample.anomalous for sample in samples], dtype=bool), masks)
    if saturation and masks is not None:
        areas = read_config(saturation)
        defects = [list(saturated_defects(sample, size, areas, crop, steps.get(sample.path, STILL))) for sample in samples]
        truth = replace(truth, defects=defects, kinds=[sample.defect for sample in samples])
    remarks = [reason(truth), f"{lost} of {total} defect regions vanish at {size} px" if lost else None]
    remarks += [f"defect regions outside of the crop: {outside}" if outside else None]
    sides = [math.sqrt(height * width) for height, width in _sizes_within(native, crop)]
    side = round(float(np.median(sides))) if sides else None
    return Labels(truth, None if masks is None else components(masks), [remark for remark in remarks if remark], side)


def saturated_defects(
    sample: Sample, size: Size, areas: Mapping[int, Saturation], crop: float = 1.0, step: tuple[int, int] = STILL
) -> Iterator[Saturated]:
    """Yield the defects of a sample at `size`, one for each mask file with a pixel there; `areas` by the file's gray value."""
    for path in sample.masks or ():
        mask, value = shifts.moved(read_mask(path), step), int(np.max(decode(path.read_bytes()).values))
        if value not in areas:
            raise DataError(f"mask {path}: gray value {value} is not in the dataset's defects_config.json; get both again")
        mask = mask[middle(mask.shape, crop)]
        own = mask if size == "native" else resize_mask(mask, (size, size))
        if count := int(np.count_nonzero(own)):
            yield Saturated(np.flatnonzero(own), areas[value].area(count, own.size / mask.size))


def _outside(mask: NDArray[np.bool_], crop: float) -> int:
    """Return how many 8-connected regions of a mask have no pixel in its middle square."""
    labels, count = label(mask)
    inside = np.unique(labels[middle(mask.shape, crop)])
    return count - int(np.count_nonzero(inside))


def _sizes_within(sizes: Sequence[tuple[int, int]], crop: float) -> list[tuple[int, int]]:
    """Return the (height, width) of the middle square of images of these sizes; their own for a crop of 1."""
    found = []
    for height, width in sizes:
        rows, columns = middle((height, width), crop)
        found.append((len(range(height)[rows]), len(range(width)[columns])))
    return found


def read_union(sample: Sample, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the union (H, W) of a sample's mask files; all False for a nominal image."""
    union = np.zeros(shape, dtype=bool)
    for path in sample.masks or ():
        union |= read_mask(path)
    return union


@dataclass
class CategoryInputs:
    """A category with the facts about its files (digest, size), and what was read of its labels so far.

    `sources`: the index of the original that each test image was made from, where several share one (`draw_replicates`).
    reference: the images whose sizes decide that of a native view, where these are not just the category's training images.
    fitted_size, fitted_white: of the images that a saved detector was fitted to, which then decide.
    """

    category: Category
    facts: Facts
    sources: tuple[int, ...] | None = None
    reference: tuple[Sample, ...] = ()
    fitted_size: tuple[int, int] | None = None
    fitted_white: float | None = None
    _labels: dict[tuple[Size, float, str], Labels] = field(default_factory=dict, repr=False)

    @cached_property
    def fingerprint(self) -> str:
        return category_fingerprint(self.category, self.facts)

    @cached_property
    def white(self) -> float:
        """The share of white that the training images use, see `data.images.white_of`."""
        known = (self.facts[sample.path].brightest for sample in self.reference or self.category.train)
        return white_of(known) if self.fitted_white is None else self.fitted_white

    @cached_property
    def native_size(self) -> tuple[int, int]:
        """The (height, width) to which a native view resizes all images; said once if the training images have several sizes."""
        if self.fitted_size:
            return self.fitted_size
        every = [(self.facts[s.path].height, self.facts[s.path].width) for s in self.reference or self.category.train]
        sizes = sorted(set(every), key=math.prod)
        if len(sizes) == 1:
            return sizes[0]
        found = typical_size(every)
        least, most, size = (f"{height} x {width}" for height, width in (sizes[0], sizes[-1], found))
        say_once(
            f"category '{self.category.name}': training images have {len(sizes)} sizes, {least} to {most} px; 'native' resizes "
            f"all images to {size} px, their median area and aspect"
        )
        return found

    def native(self, view: View) -> tuple[int, int]:
        """Return the (height, width) that a native view starts from, (0, 0) for another view.

        Raise UsageError, which names the category, if the images are too small for the view.
        """
        if not view.is_native:
            return 0, 0
        try:
            view.at(self.native_size)
        except UsageError as error:
            raise UsageError(f"category '{self.category.name}': {error}") from None
        return self.native_size

    def split(self, name: str) -> tuple[Sample, ...]:
        """Return the samples of "train", "validation" or "test"."""
        return {"train": self.category.train, "validation": self.category.validation, "test": self.category.test}[name]

    def native_sizes(self, crop: float = 1.0) -> list[tuple[int, int]]:
        """(height, width) of each test image, or of its middle square (see `data.pixels.middle`)."""
        sizes = [(self.facts[s.path].height, self.facts[s.path].width) for s in self.category.test]
        return _sizes_within(sizes, crop)

    def labels(self, size: Size, crop: float = 1.0, shift: str = "") -> Labels:
        """Return the test labels at the evaluation grid, read once; masks move with the images of a shift that moves them."""
        sizes, steps = self.native_sizes(), self._steps(shift) if shift else {}
        key = size, crop, shift if steps else ""
        if key not in self._labels:
            self._labels[key] = read_labels(self.category.test, size, sizes, self.category.saturation, crop, steps)
        return self._labels[key]

    def _steps(self, shift: str) -> dict[Path, tuple[int, int]]:
        """Return how far each test image is moved, (down, right); those that are not are absent."""
        pairs = zip(self.seeds(shift).items(), self.native_sizes(), strict=True)
        steps = {path: shifts.offset(shift, seed, size) for (path, seed), size in pairs}
        return {path: step for path, step in steps.items() if step != STILL}

    def seeds(self, shift: str) -> dict[Path, int]:
        """Return the seed of each test image for a shift."""
        return {s.path: shifts.seed_of(shift, s.name, self.facts[s.path].sha256) for s in self.category.test}
