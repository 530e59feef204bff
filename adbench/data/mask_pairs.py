"""Pair images with their masks by name. Of an image 000.png, from the best name to the worst:

000.png_mask.*, 000.png.*; 000_mask.png (its own suffix), 000_mask.*; 000.png, 000.*; a folder 000.png or 000 of several masks.

A mask lies in the image's own subfolder, or directly in the folder of masks. Names are compared in one Unicode form, first by
case, then in any case. A mask that is another image's by its suffix is not taken.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from unicodedata import normalize

from adbench.core.errors import DataError
from adbench.data.image_lists import folded, folders, image_files
from adbench.data.remarks import noted

_SHOWN = 5  # clashes named in a message
Fold = Callable[[str], str]
_Place = tuple[str, str]  # folder below that of the masks, and name


def pair_masks(images: Sequence[Path], kind: Path, truth: Path) -> dict[Path, tuple[Path, ...]]:
    """Return the mask files in and below `truth` of each of the images in and below `kind`, () where there is none.

    Note masks of no image. Raises DataError that names the masks where one image has several, or several images have one.
    """
    names = {image: image.relative_to(kind) for image in images}
    exact = _Table.read(truth, names.values(), _one_form)
    found = {image: exact.find(name) for image, name in names.items()}
    if missing := [image for image, masks in found.items() if not masks]:
        any_case = _Table.read(truth, names.values(), folded)
        found |= {image: any_case.find(names[image]) for image in missing}
    if clashes := list(_clashes(found)):
        more = f" | and {len(clashes) - _SHOWN} more" if len(clashes) > _SHOWN else ""
        raise DataError(" | ".join(clashes[:_SHOWN]) + more)
    pairs = {image: masks[0] if masks else () for image, masks in found.items()}
    noted().stray_masks.update(exact.every() - {mask for masks in pairs.values() for mask in masks})
    return pairs


def _one_form(name: str) -> str:
    return normalize("NFC", name)


def _clashes(found: dict[Path, list[tuple[Path, ...]]]) -> Iterator[str]:
    owners = defaultdict[Path, list[Path]](list)
    for image, masks in found.items():
        if len(masks) > 1:
            yield (f"image {image} has {len(masks)} masks, {_names(files[0] for files in masks)}; keep one, or call it "
                   f"{image.name}_mask{masks[0][0].suffix}")  # fmt: skip
        elif masks:
            owners[masks[0][0]].append(image)
    for mask, images in owners.items():
        if len(images) > 1:
            yield (f"mask {mask} fits {len(images)} images, {_names(images)}; give each its own, called e.g. "
                   f"{images[0].name}_mask{mask.suffix}")  # fmt: skip


def _names(paths: Iterable[Path]) -> str:
    return " and ".join(str(path) for path in paths)


@dataclass(frozen=True)
class _Table:
    """Mask files by folder and stem, folders of several masks by folder and name; all names `fold`ed."""

    fold: Fold
    images: frozenset[tuple[str, str, str]]  # folder, stem, suffix of every image
    files: dict[_Place, list[Path]] = field(default_factory=lambda: defaultdict(list))
    sets: dict[_Place, tuple[Path, ...]] = field(default_factory=dict)

    @staticmethod
    def read(truth: Path, names: Iterable[PurePath], fold: Fold) -> "_Table":
        """Return the table of the masks in and below `truth`, for images of these relative names."""
        split = [(fold(name.parent.as_posix()), fold(name.stem), name.suffix.casefold()) for name in names]
        table = _Table(fold, frozenset(split))
        places = {place for place, _, _ in split}
        owners = {(place, fold(word)) for name in names for word in (name.name, name.stem)
                  for place in (fold(name.parent.as_posix()), ".")}  # fmt: skip
        table.fill(truth, PurePath(), owners, places)
        return table

    def fill(self, folder: Path, at: PurePath, owners: set[_Place], places: set[str]) -> None:
        """Add the masks of a folder and those below it."""
        place = self.fold(at.as_posix())
        for path in image_files(folder):
            self.files[place, self.fold(path.stem)].append(path)
        for child in folders(folder):
            key, below = (place, self.fold(child.name)), at / child.name
            if key in owners and self.fold(below.as_posix()) not in places:
                self.sets[key] = tuple(image_files(child))
            else:
                self.fill(child, below, owners, places)

    def find(self, name: PurePath) -> list[tuple[Path, ...]]:
        """Return the masks of the image `name`: all those of the best kind of name that is there."""
        own = self.fold(name.parent.as_posix())
        places = dict.fromkeys((own, "."))
        return next(filter(None, (self._at(place, own, name) for place in places)), [])

    def _at(self, place: str, own: str, name: PurePath) -> list[tuple[Path, ...]]:
        whole, stem, suffix = self.fold(name.name), self.fold(name.stem), name.suffix.casefold()
        for word, mark in ((whole, "_mask"), (whole, ""), (stem, "_mask"), (stem, "")):
            files = self.files.get((place, word + mark), [])
            same = [path for path in files if path.suffix.casefold() == suffix] if word == stem else []
            free = [path for path in files if (own, stem, path.suffix.casefold()) not in self.images or word == whole]
            if masks := same or free:
                return [(path,) for path in masks]
        return [found for word in (whole, stem) if (found := self.sets.get((place, word)))][:1]

    def every(self) -> set[Path]:
        """Return all mask files in the table."""
        return {path for group in (*self.files.values(), *self.sets.values()) for path in group}
