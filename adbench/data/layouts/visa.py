"""VisA (Zou et al., ECCV 2022) as published: images by category, the split in split_csv/1cls.csv.

The columns of the csv are object, split, label, image, mask; paths are relative to the root. Masks hold class numbers: any
value above 0 is defective.
"""

import csv
from pathlib import Path, PurePosixPath, PureWindowsPath

from adbench.core.errors import DataError
from adbench.data.layouts import Dataset, register
from adbench.types import Category, Sample

_SPLIT = "split_csv/1cls.csv"
_COLUMNS = ("object", "split", "label", "image", "mask")


@register("visa")
class VisA(Dataset):
    """Sample names follow MVTec AD's layout (test/anomaly/000.JPG), so that maps are stored in the same way."""

    def matches(self, root: Path) -> bool:
        return (root / _SPLIT).is_file()

    def categories(self, root: Path) -> list[str]:
        return sorted({row["object"] for row in _rows(root)})

    def load(self, root: Path, category: str) -> Category:
        rows = sorted((row for row in _rows(root) if row["object"] == category), key=lambda row: row["image"])
        train, test = ([_sample(root, row) for row in rows if row["split"] == split] for split in ("train", "test"))
        return Category(self.name, category, tuple(train), tuple(test))


def _rows(root: Path) -> list[dict[str, str]]:
    path = root / _SPLIT
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read {path}: {error}; get it again from the dataset's publisher") from error
    if not rows or any(row.get(column) is None for row in rows for column in _COLUMNS):
        raise DataError(f"{path}: not every row has the columns {', '.join(_COLUMNS)}; get it again")
    return rows


def _sample(root: Path, row: dict[str, str]) -> Sample:
    image = _inside(root, row["image"])
    defect = "good" if row["label"] == "normal" else row["label"]
    name = f"{row['split']}/{defect}/{image.name}"
    if defect == "good":
        return Sample(image, name)
    return Sample(image, name, defect, (_inside(root, row["mask"]),) if row["mask"] else ())


def _inside(root: Path, name: str) -> Path:
    """Return `root`/`name`; raise DataError for a path that leads out of `root`."""
    windows = PureWindowsPath(name)  # the stricter rules: both separators, and drives
    if windows.is_absolute() or windows.drive or windows.root or ".." in windows.parts or not windows.parts:
        raise DataError(f"{root / _SPLIT}: path '{name}' leads out of {root}; correct the file")
    return root / PurePosixPath(name)
