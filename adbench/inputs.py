"""A category as the stages take it: its images, the facts about their files, its labels."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from adbench.datasets.check import Facts, category_fingerprint
from adbench.truth import Labels, read_labels
from adbench.types import Category, Sample, Size


@dataclass
class Inputs:
    """A category with the facts about its files (digest, size), and what was read of its labels so far.

    `sources`: of which original each test image was made, where several were made of one (`bootstrap.draw`).
    """

    category: Category
    facts: Facts
    sources: tuple[int, ...] | None = None
    _labels: dict[Size, Labels] = field(default_factory=dict, repr=False)

    @cached_property
    def fingerprint(self) -> str:
        return category_fingerprint(self.category, self.facts)

    def split(self, name: str) -> tuple[Sample, ...]:
        """Return the samples of "train" or "test"."""
        return self.category.train if name == "train" else self.category.test

    def native_sizes(self) -> list[tuple[int, int]]:
        """(height, width) of each test image."""
        return [(self.facts[s.path].height, self.facts[s.path].width) for s in self.category.test]

    def labels(self, size: Size) -> Labels:
        """Return the test labels at the evaluation grid, read once."""
        if size not in self._labels:
            self._labels[size] = read_labels(self.category.test, size, self.native_sizes())
        return self._labels[size]
