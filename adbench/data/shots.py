"""Few good images: which of a category's training images a job with `shots` is fitted to."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from adbench.core.errors import UsageError
from adbench.types import ALL, Category, Sample, Shots


def shortage(category: Category, shots: Shots, held_out: int = 0) -> str | None:
    """Return why a category has too few training images for so many shots, or None; `held_out`: how many it lacks for that."""
    count = len(category.train)
    if shots == ALL or shots <= count:
        return None
    images = f"{count} training image{'s' * (count != 1)}"
    images += f" besides {held_out} held out for the threshold" if held_out else ""
    return f"shots {shots}: category '{category.name}' has {images}; take at most {count}, or add good images"


def draw(category: Category, shots: Shots, seed: int) -> list[int]:
    """Return the numbers of the training images that are drawn, ascending; raise UsageError if there are too few.

    The images are ranked by a hash of the seed, the category's name and the image's name, and the first ones are drawn. So the
    draw is the same for every backbone, layer and detector, and the images of fewer shots are among those of more.
    """
    if reason := shortage(category, shots):
        raise UsageError(reason)
    ranked = sorted(range(len(category.train)), key=lambda number: _rank(category, category.train[number], seed))
    return sorted(ranked if shots == ALL else ranked[:shots])


def drawn(category: Category, shots: Shots, seed: int) -> Sequence[Sample]:
    """Return the training images that `draw` draws."""
    return [category.train[number] for number in draw(category, shots, seed)]


def _rank(category: Category, sample: Sample, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}\0{category.name}\0{sample.name}".encode("utf-8", "surrogateescape")).digest()
