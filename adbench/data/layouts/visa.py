"""VisA (Zou et al., ECCV 2022) as published: images by category, the split in split_csv/1cls.csv.

The columns of the csv are object, split, label, image, mask; paths are relative to the root, with slashes or backslashes. Masks
hold class numbers: any value above 0 is defective.
"""

import csv
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PureWindowsPath

from adbench.core.errors import DataError
from adbench.data.image_lists import folded, is_good
from adbench.data.layouts import Dataset, register
from adbench.types import Category, Sample

_SPLIT = "split_csv/1cls.csv"
_COLUMNS = ("object", "split", "label", "image", "mask")


@register("visa")
class VisA(Dataset):
    """Sample names follow MVTec AD's layout (test/anomaly/000.JPG), so that maps are stored in the same way."""

    lists_images = True
    reads = f"those that {_SPLIT} lists"
    remedy = f"list good images as 'train' in {_SPLIT}"

    def matches(self, root: Path) -> bool:
        return (root / _SPLIT).is_file()

    def categories(self, root: Path) -> list[str]:
        return sorted({row["object"] for row in _rows(root)})

    def load(self, root: Path, category: str) -> Category:
        rows = sorted((row for row in _rows(root) if row["object"] == category), key=lambda row: row["image"].replace("\\", "/"))
        train, test = (_samples(root, [row for row in rows if row["split"] == split]) for split in ("train", "test"))
        if wrong := [sample.path for sample in train if sample.anomalous]:
            raise DataError(f"{root / _SPLIT}: {wrong[0]} is to be trained on but not labeled normal; correct its row")
        return Category(self.name, category, tuple(train), tuple(test))


def _rows(root: Path) -> list[dict[str, str]]:
    """Return the rows, their values without spaces around them, splits and labels of good images in one spelling."""
    path = root / _SPLIT
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read {path}: {error}; get it again from the dataset's publisher") from error
    if not rows or any(row.get(column) is None for row in rows for column in _COLUMNS):
        raise DataError(f"{path}: not every row has the columns {', '.join(_COLUMNS)}; get it again")
    rows = [{column: row[column].strip() for column in _COLUMNS} for row in rows]
    for line, row in enumerate(rows, 2):
        if not (name := row["object"]) or PureWindowsPath(name).name != name or "\0" in name:
            raise DataError(f"{path} line {line}: object '{name}' is no name of a folder; correct the row")
        row["split"] = row["split"].lower()
        row["label"] = "good" if is_good(row["label"]) else row["label"]
        if row["split"] not in ("train", "test"):
            raise DataError(f"{path} line {line}: split '{row['split']}' is neither train nor test; correct the row")
    return rows


def _samples(root: Path, rows: Sequence[dict[str, str]]) -> list[Sample]:
    """Return the samples of one split; images of one name get their folders into their samples' names."""
    images = [_inside(root, row["image"]) for row in rows]
    count = Counter((row["label"], image.name) for row, image in zip(rows, images, strict=True))
    found = []
    for row, image in zip(rows, images, strict=True):
        short = image.name if count[row["label"], image.name] == 1 else image.relative_to(root).as_posix()
        name = f"{row['split']}/{row['label']}/{short}"
        masks = (_inside(root, row["mask"]),) if row["mask"] and row["label"] != "good" else ()
        found.append(Sample(image, name, row["label"], masks))
    return found


def _inside(root: Path, name: str) -> Path:
    """Return `root`/`name`; raise DataError for a path that leads out of `root`."""
    windows = PureWindowsPath(name)  # the stricter rules: both separators, and drives
    if windows.is_absolute() or windows.drive or windows.root or ".." in windows.parts or not windows.parts:
        raise DataError(f"{root / _SPLIT}: path '{name}' leads out of {root}; correct the file")
    path = root / windows.as_posix()
    return path if os.path.exists(path) else _alike(root, windows.parts) or path  # noqa: PTH110  False for a name too long


def _alike(root: Path, parts: Sequence[str]) -> Path | None:
    """Return the file of this name in another Unicode form or in other case, or None."""
    found = root
    for part in parts:
        try:
            found = next(child for child in sorted(found.iterdir()) if folded(child.name) == folded(part))
        except (OSError, StopIteration):
            return None
    return found
