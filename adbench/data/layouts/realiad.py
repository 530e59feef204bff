"""Real-IAD (Wang et al., CVPR 2024) as published: images in realiad_{256,512,1024,raw}/CAT, the split in realiad_jsons/CAT.json.

A JSON file has meta (prefix, normal_class) and the lists train and test of image_path, mask_path and anomaly_class, relative to
prefix. Labels follow the dataset's own code: all images of `train` are good, also the contaminated ones of the `fuiad` splits,
and an image of `test` is good if it has no mask, or the normal class. So a view in which a part's defect cannot be seen is good.

Where DIR has images of several sizes, name one: DIR/realiad_256. To use another split, name it: DIR/realiad_jsons_sv.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from adbench.core.errors import DataError
from adbench.data.image_lists import folders
from adbench.data.layouts import Dataset, register
from adbench.data.remarks import say_once
from adbench.types import Category, Sample

_JSONS, _IMAGES = "realiad_jsons", "realiad_"


class _Places(NamedTuple):
    """The folder of the split, and the folders of images that could be meant."""

    jsons: Path
    images: list[Path]


@register("realiad")
class RealIAD(Dataset):
    """Sample names follow MVTec AD's layout: test/KIND/S0001/NAME.jpg."""

    lists_images = True
    reads = f"those that {_JSONS}/CATEGORY.json lists"
    remedy = f"list good images in 'train' of its JSON file in {_JSONS}"

    def matches(self, root: Path) -> bool:
        return bool((places := _places(root)) and places.images)

    def categories(self, root: Path) -> list[str]:
        places = _places(root)
        return sorted(path.stem for path in places.jsons.glob("*.json")) if places else []

    def load(self, root: Path, category: str) -> Category:
        jsons, images = _found(root)
        path = jsons / f"{category}.json"
        split = _read(path)
        train = [_sample(images, path, split, "train", entry) for entry in split["train"]]
        test = [_sample(images, path, split, "test", entry) for entry in split["test"]]
        normal = split["meta"]["normal_class"]
        if hidden := sum(entry["mask_path"] is None and entry["anomaly_class"] != normal for entry in split["test"]):
            say_once(
                f"{path}: {hidden} test views of defective parts have no mask and count as good, as in the dataset's own code"
            )
        train, test = (sorted(part, key=lambda sample: sample.name) for part in (train, test))
        return Category(self.name, category, tuple(train), tuple(test))

    def folder(self, root: Path, category: str) -> Path:
        return _found(root)[1] / category


def _places(root: Path) -> _Places | None:
    """Return where the split and the images are, for a root that is the folder of either, or the one that has both."""
    if _is_split(root):
        return _Places(root, _images(root.parent) or _images(root.parent.parent))
    single = root.name.startswith(_IMAGES) and not root.name.startswith(_JSONS)
    top = root.parent if single else root
    splits = [path for path in (top / _JSONS, top / _JSONS / _JSONS) if _is_split(path)] or list(_splits(top))
    return _Places(splits[0], [root] if single else _images(root)) if splits else None


def _found(root: Path) -> tuple[Path, Path]:
    """Return the places, the images as one folder; raise DataError if several could be meant."""
    places = _places(root)
    if not places or len(places.images) != 1:
        names = ", ".join(str(path) for path in places.images) if places else ""
        raise DataError(f"{root} has images of several sizes: {names}; name one of these folders with --data")
    return places.jsons, places.images[0]


def _is_split(folder: Path) -> bool:
    return folder.name.startswith(_JSONS) and folder.is_dir() and next(folder.glob("*.json"), None) is not None


def _splits(top: Path) -> Iterator[Path]:
    for folder in folders(top):
        if folder.name.startswith(_JSONS):
            yield from filter(_is_split, (folder, *folders(folder)))


def _images(top: Path) -> list[Path]:
    return [each for each in folders(top) if each.name.startswith(_IMAGES) and not each.name.startswith(_JSONS)]


def _read(path: Path) -> Mapping[str, Any]:
    """Return a split; raise DataError unless it has all that is read of it."""
    try:
        split = json.loads(path.read_text(encoding="utf-8"))
        paths = [split["meta"]["prefix"], split["meta"]["normal_class"]]
        for entry in (*split["train"], *split["test"]):
            paths += [entry["image_path"], entry["anomaly_class"], entry["mask_path"] or ""]
        if all(isinstance(text, str) for text in paths):
            return dict(split)
        raise TypeError("a path is no text")
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"cannot read {path}: {type(error).__name__} {error}; get it again from the dataset's publisher"
        ) from error


def _sample(images: Path, path: Path, split: Mapping[str, Any], part: str, entry: Mapping[str, Any]) -> Sample:
    normal = part == "train" or entry["mask_path"] is None or entry["anomaly_class"] == split["meta"]["normal_class"]
    kind = "good" if normal else entry["anomaly_class"]
    within = PurePosixPath(entry["image_path"]).parts
    name = PurePosixPath(part, kind, *within[-2:])  # the folder of the part, S0001, and the file
    masks = () if normal else (_inside(images, path, split, entry["mask_path"]),)
    return Sample(_inside(images, path, split, entry["image_path"]), name.as_posix(), kind, masks)


def _inside(images: Path, path: Path, split: Mapping[str, Any], name: str) -> Path:
    """Return the file of a path in the split; raise DataError for one that leads out of the folder of images."""
    for top in dict.fromkeys((split["meta"]["prefix"], path.stem)):
        relative = PurePosixPath(top, name)
        if relative.is_absolute() or ".." in relative.parts:
            raise DataError(f"{path}: path '{relative}' leads out of {images}; correct the file")
        if (images / relative).is_file():
            break
    return images / relative
