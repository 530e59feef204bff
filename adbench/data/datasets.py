"""Open a dataset by its folder, or by the name of a generated one. What is passed over is said."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from unicodedata import normalize

from adbench.core.errors import DataError, UsageError
from adbench.core.registry import match
from adbench.data.image_lists import folders, image_files, images_of, unused_images
from adbench.data.layouts import DATASETS, Dataset
from adbench.data.remarks import Remarks, collected, say_once
from adbench.types import Category, OnStep, ignore_step

_REMEDY = (
    "give --data (or ADBENCH_DATA) a folder that holds CATEGORY/train/good/*.png (and CATEGORY/test/KIND/*.png), or "
    "good/*.png (and bad/*.png), or good images only, or give the word demo"
)


class _Opened(NamedTuple):
    """A dataset with the names of the categories chosen, all if the user named none."""

    dataset: Dataset
    root: Path
    chosen: list[str]
    all: bool


def open_dataset(data: str, cache: Path, names: Sequence[str] = (), on_step: OnStep = ignore_step) -> list[Category]:
    """Return the categories called `names` (all when empty) of the folder or generated dataset `data`.

    `on_step` reports the generation of images. What was passed over, or read in an unusual way, is logged once. Raises
    UsageError for an unknown category, with the nearest name; DataError if the folder is missing, has no known layout, or a
    chosen category has no training image.
    """
    opened = _open(data, cache, names, on_step)
    with collected() as remarks:
        found = [opened.dataset.load(opened.root, name) for name in opened.chosen]
    _check_training(opened, found, remarks)
    if not opened.dataset.generated:
        remarks.unlabeled.update(path for category in found for path in category.unlabeled)
        remarks.unused |= _unused(opened, found) - remarks.stray_masks
        _say(opened, remarks)
    return found


def open_training(data: str, cache: Path, names: Sequence[str] = (), on_step: OnStep = ignore_step) -> list[Category]:
    """Return the categories as `open_dataset` does, but without test samples: test images and masks are not even listed."""
    opened = _open(data, cache, names, on_step)
    dataset, root = opened.dataset, opened.root
    with collected() as remarks:
        found = [Category(dataset.recorded, name, dataset.training(root, name), ()) for name in opened.chosen]
    _check_training(opened, found, remarks)
    _say(opened, remarks)
    return found


def category_names(data: str) -> list[str]:
    """Return the names of the categories of a folder or a generated dataset, without generating it."""
    kind = DATASETS.items().get(data)
    dataset, root = (kind(data), Path()) if kind and kind.generated else _existing(data)
    return dataset.categories(root)


def _open(data: str, cache: Path, names: Sequence[str], on_step: OnStep) -> _Opened:
    kind = DATASETS.items().get(data)
    dataset, root = (kind(data), kind(data).generate(cache, on_step)) if kind and kind.generated else _existing(data)
    known = dataset.categories(root)
    chosen = list(dict.fromkeys(_category(name, known, data) for name in names))
    return _Opened(dataset, root, chosen or known, all=not chosen)


def _category(name: str, known: Sequence[str], data: str) -> str:
    same = [each for each in known if normalize("NFC", each) == normalize("NFC", name)]  # macOS writes another form
    if same:
        return name if name in same else same[0]
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
    for fallback in (False, True):  # those of last resort look into all folders
        if found := [layout for layout in _layouts() if layout.fallback is fallback and layout.matches(root)]:
            return max(found, key=lambda layout: (layout.lists_images, len(type(layout).__mro__))), root
    raise DataError(f"no data in {data}: {_content(root)}")


def _layouts() -> list[Dataset]:
    return [kind(name) for name, kind in DATASETS.items().items() if not kind.generated]


def _content(root: Path) -> str:
    """Return what a folder without a layout holds instead, and what to do."""
    inside = folders(root)
    nested = [f for f in inside if any(layout.matches(f) for layout in _layouts() if not layout.fallback)]
    if nested:
        return f"the data lie deeper; give --data {nested[0]}"
    with collected() as remarks:
        image_files(root)
        counts = {folder.name: len(images_of(folder)) for folder in inside}
    places = ", ".join(f"{name} {count}" for name, count in counts.items() if count)
    others = f"; {remarks.count_others()}" if remarks.others else ""
    return (f"its images lie in folders of no known layout, {places}" if places else "no image in it") + f"{others}; {_REMEDY}"


def _check_training(opened: _Opened, found: Sequence[Category], remarks: Remarks) -> None:
    for category in found:
        if not category.train:
            others = f"; {remarks.count_others()}" if remarks.others else ""
            raise DataError(f"category '{category.name}' in {opened.root} has no training image; {opened.dataset.remedy}{others}")


def _unused(opened: _Opened, found: Sequence[Category]) -> set[Path]:
    """Return the images in the folders of the chosen categories, or in all of the dataset, that no sample has."""
    root, samples = opened.root, [sample for c in found for sample in (*c.train, *c.validation, *c.test)]
    inside = {opened.dataset.folder(root, name) for name in opened.chosen}
    used = {path for sample in samples for path in (sample.path, *(sample.masks or ()))}
    used |= {path for category in found for path in category.unlabeled}
    return {path for folder in ({root} if opened.all else inside) for path in unused_images(folder, used)}


def _say(opened: _Opened, remarks: Remarks) -> None:
    for line in remarks.lines(opened.root, opened.dataset.reads):
        say_once(line)
