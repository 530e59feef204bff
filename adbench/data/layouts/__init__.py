"""Datasets by folder layout; one file each, found by import. Opening one lists files, it decodes nothing."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from adbench.core.errors import DataError, UsageError
from adbench.core.registry import Registry, match
from adbench.data.images import SUFFIXES
from adbench.types import Category, OnStep, Sample, ignore_step

_REMEDY = "give --data a folder that holds CATEGORY/train/good/*.png, or the word demo"


@dataclass(frozen=True)
class Dataset:
    """The contract: one folder layout. `name` is the word it is registered under.

    `root` is an existing folder, absolute. Where several layouts match, the most derived class wins. A generated
    dataset matches no folder; it is asked for by its name, and `generate` makes its folder in the cache.
    """

    name: str
    generated = False

    def matches(self, root: Path) -> bool:
        """Return whether `root` has this layout, as a dataset of several categories or as one category."""
        raise NotImplementedError

    def categories(self, root: Path) -> list[str]:
        """Return the categories' names, sorted."""
        raise NotImplementedError

    def load(self, root: Path, category: str) -> Category:
        """Return the samples of one of `categories(root)`, sorted by name; DataError if its files contradict the layout."""
        raise NotImplementedError

    def training(self, root: Path, category: str) -> tuple[Sample, ...]:
        """Return the training samples alone. A layout that keeps test images apart overrides this to leave them unread."""
        return self.load(root, category).train

    def generate(self, cache: Path, on_step: OnStep = ignore_step) -> Path:
        """Return the root of a generated dataset below `cache`, made at the first call."""
        raise NotImplementedError


DATASETS: Registry[type[Dataset]] = Registry("dataset", __name__)
register = DATASETS.register


def open_dataset(data: str, cache: Path, names: Sequence[str] = (), on_step: OnStep = ignore_step) -> list[Category]:
    """Return the categories called `names` (all when empty) of the folder or generated dataset `data`.

    `on_step` hears of generated images. Raises UsageError for an unknown category, with the nearest name; DataError if
    the folder is missing, has no known layout, or a chosen category has no training image.
    """
    dataset, root, chosen = _open(data, cache, names, on_step)
    return [_with_training(dataset.load(root, name), root) for name in chosen]


def open_training(data: str, cache: Path, names: Sequence[str] = (), on_step: OnStep = ignore_step) -> list[Category]:
    """Return the categories as `open_dataset` does, but without test samples: no test image or mask is even listed."""
    dataset, root, chosen = _open(data, cache, names, on_step)
    found = (Category(dataset.name, name, dataset.training(root, name), ()) for name in chosen)
    return [_with_training(category, root) for category in found]


def _open(data: str, cache: Path, names: Sequence[str], on_step: OnStep) -> tuple[Dataset, Path, list[str]]:
    dataset, root = _generated(data, cache, on_step) or _existing(data)
    known = dataset.categories(root)
    return dataset, root, list(dict.fromkeys(_category(name, known, data) for name in names)) or known


def _category(name: str, known: Sequence[str], data: str) -> str:
    try:
        return match("category", name, known, where=f" in {data}")
    except UsageError as error:
        if "did you mean" in str(error):
            raise
        raise UsageError(f"unknown category '{name}' in {data}; choose from: {', '.join(known)}") from error


def _generated(data: str, cache: Path, on_step: OnStep) -> tuple[Dataset, Path] | None:
    kind = DATASETS.items().get(data)
    if kind is None or not kind.generated:
        return None
    return kind(data), kind(data).generate(cache, on_step)


def _existing(data: str) -> tuple[Dataset, Path]:
    root = Path(os.path.abspath(Path(data).expanduser()))  # noqa: PTH100  keeps the name of a folder that is a link
    if not root.is_dir():
        raise DataError(f"no data in {data}: {'not a folder' if root.exists() else 'no such folder'}; {_REMEDY}")
    layouts = [kind(name) for name, kind in DATASETS.items().items() if not kind.generated]
    found = [layout for layout in layouts if layout.matches(root)]
    if not found:
        raise DataError(f"no data in {data}: neither it nor a folder in it has train/good; {_REMEDY}")
    return max(found, key=lambda layout: len(type(layout).__mro__)), root


def _with_training(category: Category, root: Path) -> Category:
    if not category.train:
        raise DataError(f"category '{category.name}' in {root} has no training image; put good images into its train/good")
    return category


def folders(parent: Path) -> list[Path]:
    """Return the folders in `parent` that are not hidden, sorted by name; none if `parent` is missing."""
    return [path for path in _visible(parent) if path.is_dir()]


def image_files(parent: Path) -> list[Path]:
    """Return the image files in `parent` that are not hidden, sorted by name; none if `parent` is missing.

    A link that leads nowhere is among them: the check of all files then names it.
    """
    return [path for path in _visible(parent) if path.suffix.lower() in SUFFIXES and _is_file(path)]


def _is_file(path: Path) -> bool:
    return path.is_file() or (path.is_symlink() and not path.is_dir())


def _visible(parent: Path) -> list[Path]:
    try:
        return sorted(path for path in parent.iterdir() if not path.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise DataError(f"cannot list {parent}: {error.strerror}; make it readable") from error
