"""Datasets by folder layout: one file each, found by import. Opening a dataset lists its files and decodes none."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from adbench.core.registry import Registry
from adbench.types import Category, OnStep, Sample, ignore_step


@dataclass(frozen=True)
class Dataset:
    """The contract of one folder layout. `name` is the word it is registered under.

    `root` is an existing folder, absolute. Where several layouts match, the most derived class wins, and a `fallback` loses. A
    generated dataset matches no folder: users ask for it by name, and `generate` makes its folder in the cache.
    Layouts list files with the functions of image_lists.py, which note what they pass over. reads: which folders are read, for
    the message about images elsewhere. remedy: what to do if there are no training images. recorded_as: the dataset's name in
    jobs and results, if older versions read it as another layout.
    """

    name: str
    generated: ClassVar[bool] = False
    fallback: ClassVar[bool] = False
    lists_images: ClassVar[bool] = False  # in a file of its own, so it wins over names of folders
    reads: ClassVar[str] = ""
    remedy: ClassVar[str] = "put good images into its train/good"
    recorded_as: ClassVar[str] = ""

    @property
    def recorded(self) -> str:
        """The dataset's name in jobs and results."""
        return self.recorded_as or self.name

    def matches(self, root: Path) -> bool:
        """Return whether `root` has this layout, as a dataset of several categories or as one category."""
        raise NotImplementedError

    def categories(self, root: Path) -> list[str]:
        """Return the names of the categories, sorted."""
        raise NotImplementedError

    def load(self, root: Path, category: str) -> Category:
        """Return the samples of one of `categories(root)`, sorted by name; DataError if its files contradict the layout."""
        raise NotImplementedError

    def training(self, root: Path, category: str) -> tuple[Sample, ...]:
        """Return the training samples. Override this where they can be listed without reading the test folders."""
        return self.load(root, category).train

    def folder(self, root: Path, category: str) -> Path:
        """Return the folder in which images of this category lie, and none of another one."""
        return root / category

    def generate(self, cache: Path, on_step: OnStep = ignore_step) -> Path:
        """Return the root of a generated dataset below `cache`; make it at the first call."""
        raise NotImplementedError


DATASETS: Registry[type[Dataset]] = Registry("dataset", __name__)
register = DATASETS.register
