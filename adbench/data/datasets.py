"""Open a dataset by its folder, or by the name of a generated one: choose the layout and the categories."""

import os
from collections.abc import Sequence
from pathlib import Path

from adbench.core.errors import DataError, UsageError
from adbench.core.registry import match
from adbench.data.layouts import DATASETS, Dataset
from adbench.types import Category, OnStep, ignore_step

_REMEDY = "give --data a folder that holds CATEGORY/train/good/*.png, or the word demo"


def open_dataset(data: str, cache: Path, names: Sequence[str] = (), on_step: OnStep = ignore_step) -> list[Category]:
    """Return the categories called `names` (all when empty) of the folder or generated dataset `data`.

    `on_step` reports the generation of images. Raises UsageError for an unknown category, with the nearest name; DataError
    if the folder is missing, has no known layout, or a chosen category has no training image.
    """
    dataset, root, chosen = _open(data, cache, names, on_step)
    return [_with_training(dataset.load(root, name), root) for name in chosen]


def open_training(data: str, cache: Path, names: Sequence[str] = (), on_step: OnStep = ignore_step) -> list[Category]:
    """Return the categories as `open_dataset` does, but without test samples: test images and masks are not even listed."""
    dataset, root, chosen = _open(data, cache, names, on_step)
    found = (Category(dataset.name, name, dataset.training(root, name), ()) for name in chosen)
    return [_with_training(category, root) for category in found]


def category_names(data: str) -> list[str]:
    """Return the names of the categories of a folder or a generated dataset, without generating it."""
    kind = DATASETS.items().get(data)
    dataset, root = (kind(data), Path()) if kind and kind.generated else _existing(data)
    return dataset.categories(root)


def _open(data: str, cache: Path, names: Sequence[str], on_step: OnStep) -> tuple[Dataset, Path, list[str]]:
    kind = DATASETS.items().get(data)
    dataset, root = (kind(data), kind(data).generate(cache, on_step)) if kind and kind.generated else _existing(data)
    known = dataset.categories(root)
    return dataset, root, list(dict.fromkeys(_category(name, known, data) for name in names)) or known


def _category(name: str, known: Sequence[str], data: str) -> str:
    try:
        return match("category", name, known, where=f" in {data}")
    except UsageError as error:
        if "did you mean" in str(error):
            raise
        raise UsageError(f"unknown category '{name}' in {data}; choose from: {', '.join(known)}") from error


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
