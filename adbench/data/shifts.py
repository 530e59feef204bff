"""Another day: what changes of light, lens and mount do to a test image, in three strengths.

An image is changed at its own size, before it is resized for the network, and rounded to 8 bits as a camera does. Whether it
becomes brighter or darker, where it moves, and its noise follow from its name and content alone, so a shift gives the same bytes
on every run, and three strengths of one kind differ in strength only. A definition never changes: features in caches and the
numbers of results are known by the kind's name.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from adbench.core.errors import UsageError
from adbench.core.registry import match
from adbench.data.images import White, read_image
from adbench.data.pixels import Pixels, middle, resize

Image = NDArray[np.uint8]  # (H, W, 3)
Item = TypeVar("Item", bound=np.generic)
Size = tuple[int, int]
AMOUNTS = {
    "brightness": (1.1, 1.25, 1.5),  # all values times or divided by this
    "contrast": (1.1, 1.25, 1.5),  # the distances from the image's mean times or divided by this
    "blur": (0.002, 0.004, 0.008),  # sigma of a Gaussian as a share of the image's side sqrt(H x W)
    "noise": (4.0, 8.0, 16.0),  # gray levels: standard deviation, each pixel and channel on its own
    "shift": (0.01, 0.02, 0.04),  # pixels as a share of the side, in one of all directions; the border is repeated
}
STRENGTHS = (1, 2, 3)
EXPECTED = f"a kind of shift ({', '.join(AMOUNTS)}), or one of its strengths, e.g. blur:2"


def parse_shifts(texts: Iterable[str]) -> tuple[str, ...]:
    """Return the shifts KIND:STRENGTH that a user wrote, each once; a kind alone stands for its three strengths.

    Raise UsageError for an unknown kind or strength.
    """
    found = []
    for text in texts:
        name, colon, strength = (part.strip() for part in str(text).partition(":"))
        kind = match("shift", name, AMOUNTS)
        if colon and strength not in map(str, STRENGTHS):
            raise UsageError(f"shift '{text}': the strength is 1, 2 or 3, e.g. {kind}:2")
        found += [f"{kind}:{strength}"] if colon else [f"{kind}:{number}" for number in STRENGTHS]
    return tuple(dict.fromkeys(found))


def seed_of(shift: str, name: str, sha256: str) -> int:
    """Return the seed of an image with this name and content, the same for all strengths of a kind."""
    text = "\0".join((shift.partition(":")[0], name, sha256))
    return int(hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16], 16)


def shifted(image: Image, shift: str, seed: int) -> Image:
    """Return an image (H, W, 3) as it looks after a shift KIND:STRENGTH."""
    kind, amount = _parts(shift)
    if kind == "shift":
        return moved(image, offset(shift, seed, (image.shape[0], image.shape[1])))
    changed = _CHANGES[kind](image.astype(np.float32), amount, np.random.default_rng(seed))
    rounded: Image = np.clip(np.rint(changed), 0, 255).astype(np.uint8)
    return rounded


def reader(shift: str, seeds: Mapping[Path, int]) -> Callable[[Path, Size, float, White], Pixels]:
    """Return a function that reads the pixels of an image after a shift, as `read_pixels` does without one; `seeds` by path."""

    def read(path: Path, size: Size, crop: float, white: White) -> Pixels:
        image = shifted(read_image(path, white), shift, seeds[path])
        return resize(image[middle(image.shape, crop)], size)

    return read


def offset(shift: str, seed: int, size: Size) -> tuple[int, int]:
    """Return how far (down, right) a shift moves an image of this (height, width), in pixels; (0, 0) if it moves none."""
    kind, amount = _parts(shift)
    if kind != "shift":
        return 0, 0
    angle, length = np.random.default_rng(seed).uniform(0, 2 * math.pi), amount * math.sqrt(math.prod(size))
    return round(length * math.sin(angle)), round(length * math.cos(angle))


def moved(pixels: NDArray[Item], by: tuple[int, int]) -> NDArray[Item]:
    """Return an image (H, W, ...) or a mask (H, W) moved by (down, right) pixels; its border is repeated."""
    rows, columns = (np.clip(np.arange(length) - step, 0, length - 1) for length, step in zip(pixels.shape, by, strict=False))
    result: NDArray[Item] = pixels[rows][:, columns]
    return result


def _parts(shift: str) -> tuple[str, float]:
    kind, _, strength = shift.partition(":")
    return kind, AMOUNTS[kind][int(strength) - 1]


def _either_way(amount: float, rng: np.random.Generator) -> float:
    return amount if rng.integers(2) else 1 / amount


def _brightness(image: NDArray[np.float32], amount: float, rng: np.random.Generator) -> NDArray[Any]:
    return np.asarray(image * np.float32(_either_way(amount, rng)))


def _contrast(image: NDArray[np.float32], amount: float, rng: np.random.Generator) -> NDArray[Any]:
    mean = image.mean(dtype=np.float64)
    return np.asarray(mean + (image - mean) * _either_way(amount, rng))


def _blur(image: NDArray[np.float32], amount: float, rng: np.random.Generator) -> NDArray[Any]:
    from scipy.ndimage import gaussian_filter

    sigma = amount * math.sqrt(image.shape[0] * image.shape[1])
    return np.asarray(gaussian_filter(image, (sigma, sigma, 0), mode="nearest"))


def _noise(image: NDArray[np.float32], amount: float, rng: np.random.Generator) -> NDArray[Any]:
    return np.asarray(image + np.float32(amount) * rng.standard_normal(image.shape, dtype=np.float32))


_CHANGES = {"brightness": _brightness, "contrast": _contrast, "blur": _blur, "noise": _noise}
