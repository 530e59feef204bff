"""List image files: those in a folder, those that a user names, and a picture's name for each."""

import os
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePath
from typing import NamedTuple

from adbench.core.errors import DataError
from adbench.core.files import fitting
from adbench.data.images import SUFFIXES, has_image_signature
from adbench.data.remarks import collected, noted, say_once
from adbench.data.writing import MANIFEST, is_marked
from adbench.types import Sample

GOOD = frozenset({"good", "ok", "normal", "nominal"})  # folders and labels of good images, in any case
MASK_FOLDERS = frozenset({"ground_truth", "gt", "mask", "masks"})  # among images, they hold none
_SYSTEM = frozenset({"thumbs.db", "desktop.ini", "predictions.csv"})  # of systems and of `adbench predict`; as if hidden


def folded(name: str) -> str:
    """Return the form of a file or folder name that is compared: one Unicode form (macOS uses another one), any case."""
    return unicodedata.normalize("NFC", name).casefold()


def is_good(name: str) -> bool:
    """Return whether a folder or label of this name means good images."""
    return folded(name) in GOOD


def folders(parent: Path) -> list[Path]:
    """Return the folders in `parent` that are not hidden, sorted by name; an empty list if `parent` is missing."""
    return [parent / entry.name for entry in _visible(parent) if _is_folder(entry)]


def folders_at(parent: Path, path: str) -> list[Path]:
    """Return the folders `parent`/`path`, whatever the case of their names."""
    found = [parent]
    for name in path.split("/"):
        found = [child for folder in found for child in folders(folder) if folded(child.name) == name]
    return found


def good_folders(parent: Path) -> list[Path]:
    """Return the folders in `parent` whose name means good; note those of unusual names."""
    found = [folder for folder in folders(parent) if is_good(folder.name)]
    noted().as_good.update(folder for folder in found if folder.name not in ("good", "ok"))  # BTAD says "ok"
    return found


def image_files(parent: Path, drawn: list[Path] | None = None) -> list[Path]:
    """Return the image files in `parent` that are not hidden, sorted by name; an empty list if `parent` is missing.

    An image has a usual suffix, or else the content of a PNG, JPEG or WebP file. The other files are noted (remarks.py).
    Broken links are included, so that the check of all files can name them. Pictures that adbench drew are skipped if the
    first file is one, as adbench fills whole folders with them. They are added to `drawn`; without it, a warning counts them.
    """
    remarks, images = noted(), []
    for entry in _visible(parent):
        path = parent / entry.name
        if _is_folder(entry):
            continue
        if path.suffix.lower() in SUFFIXES and _is_file_or_lost(entry):
            images.append(path)
        elif path.is_file() and has_image_signature(path):
            remarks.by_content.add(path)
            images.append(path)
        else:
            remarks.others.add(path)
    if not images or not is_marked(images[0]):
        return images
    marked = dict.fromkeys(path for path in images if is_marked(path))
    remarks.drawn.update(marked)
    if drawn is None:
        _say_skipped(list(marked))
    else:
        drawn += marked
    return [path for path in images if path not in marked]


def images_of(folder: Path) -> list[Path]:
    """Return the images in and below `folder`, sorted by their names relative to it, without those in folders of masks."""
    found = {path: path.relative_to(folder) for path in images_below(folder)}
    masks = {path for path, name in found.items() if any(folded(part) in MASK_FOLDERS for part in name.parts[:-1])}
    return sorted(found.keys() - masks, key=lambda path: found[path].as_posix())


def unused_images(folder: Path, used: Iterable[Path]) -> set[Path]:
    """Return the files in and below `folder` that have the suffix of an image and are none of `used`, however links lead there.

    No file is opened.
    """
    known: dict[Path, set[str]] = {}
    for path in used:
        known.setdefault(path.parent, set()).add(path.name)
    real: dict[Path, set[str]] = {}
    for parent, names in known.items():
        real.setdefault(parent.resolve(), set()).update(names)
    unused = set()
    for each in _folders_below(folder, set()):
        entries = [entry for entry in _visible(each) if PurePath(entry.name).suffix.lower() in SUFFIXES]
        names = {entry.name for entry in entries if _is_file_or_lost(entry)}
        unused |= {each / name for name in names - real.get(each.resolve(), set())}
    return unused


def _visible(parent: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(parent) as entries:
            visible = (entry for entry in entries if not entry.name.startswith(".") and entry.name.lower() not in _SYSTEM)
            return sorted(visible, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise DataError(f"cannot list {parent}: {error.strerror}; make it readable") from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()  # noqa: PTH112  False for a link to itself


def _is_file_or_lost(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a file or a broken link."""
    return not _is_folder(entry) if entry.is_symlink() else entry.is_file()


def images_below(folder: Path, seen: set[Path] | None = None, drawn: list[Path] | None = None) -> Iterator[Path]:
    """Yield the image files in and below `folder`; follow links, but enter no folder twice and none of `seen`.

    A dataset that adbench has painted is entered only if `folder` is it, or lies in it.
    """
    for each in _folders_below(folder, set() if seen is None else seen):
        yield from image_files(each, drawn)


def _folders_below(folder: Path, seen: set[Path]) -> Iterator[Path]:
    if folder.resolve() in seen:
        return
    seen.add(folder.resolve())
    yield folder
    for child in folders(folder):
        if (child / MANIFEST).is_file():
            say_once(f"{child} is skipped: 'adbench synth' made it; name it to use its images")
        else:
            yield from _folders_below(child, seen)


class NewImage(NamedTuple):
    """An image file, and its name relative to the folder it was found in."""

    path: Path
    name: PurePath


def find_images(sources: Sequence[Path], skip: Path | None = None) -> list[NewImage]:
    """Return the images that `sources` name, each file once: a file as it is, a folder with all images below it.

    Folders are walked in the order of their names; hidden files, hidden folders and the folder `skip` are skipped. So are
    pictures that adbench drew, with a warning. Log how many other files were passed over. Raises DataError for a source that
    does not exist and for one without images.
    """
    found: dict[Path, NewImage] = {}
    drawn: list[Path] = []
    for source in sources:
        if not (source.is_file() or source.is_dir()):
            raise DataError(f"no image {source}: no such file or folder; name images or folders of images")
        own: list[Path] = []
        inside = [source] if source.is_file() else list_below(source, skip, own)
        marked = dict.fromkeys(path for path in inside if is_marked(path))  # also single ones, among images
        inside, own = [path for path in inside if path not in marked], [*own, *marked]
        if not inside:
            raise DataError(f"no image in {source}: adbench itself drew {_counted(len(own))}; name images of parts")
        drawn += own
        root = source.parent if source.is_file() else source
        found |= {path.absolute(): NewImage(path, path.relative_to(root)) for path in inside}
    if drawn:
        _say_skipped(drawn)
    return list(found.values())


def list_below(folder: Path, skip: Path | None = None, drawn: list[Path] | None = None) -> list[Path]:
    """Return the images in and below `folder` but not in `skip`; log what was passed over.

    Pictures that adbench drew are added to `drawn`. Raises DataError if there is no picture of either kind.
    """
    with collected() as remarks:
        images = list(images_below(folder, {skip.resolve()} if skip else set(), drawn))
    if not images and not drawn:
        others = f"; {remarks.count_others()}" if remarks.others else ""
        raise DataError(f"no image in {folder}: nothing in it or below ends in .png, .jpg, .bmp, .tif or .webp{others}")
    for line in remarks.lines(folder):
        say_once(line)
    return images


def _say_skipped(drawn: Sequence[Path]) -> None:
    say_once(f"{_counted(len(drawn))} skipped that adbench itself drew, e.g. {drawn[0]}")


def _counted(pictures: int) -> str:
    return f"{pictures} picture{'s' * (pictures != 1)}"


def picture_names(images: Sequence[NewImage]) -> list[PurePath]:
    """Return a JPEG file name for each image: its own, numbered where it is taken (in upper or lower case)."""
    return unique_names(image.name.with_name(f"{image.name.stem}.jpg") for image in images)


def sample_names(samples: Sequence[Sample], suffix: str) -> list[PurePath]:
    """Return a file name for the picture of each sample: KIND/NAME, with the subfolder of KIND that the image lies in."""
    parts = [PurePath(sample.name).parts for sample in samples]  # split/KIND/NAME
    inner = [PurePath(*(names[2:] or names[-1:])) for names in parts]
    wanted = (PurePath(s.defect) / name.with_name(f"{s.path.stem}{suffix}") for s, name in zip(samples, inner, strict=True))
    return unique_names(wanted)


def unique_names(wanted: Iterable[PurePath]) -> list[PurePath]:
    """Return the names, each numbered before its suffix where it is taken (in upper or lower case)."""
    taken: set[str] = set()
    names = []
    for first in wanted:
        name, number = first.with_name(fitting(first.name)), 1
        while folded(str(name)) in taken:
            number += 1
            name = first.with_name(fitting(f"{first.stem}-{number}{first.suffix}"))
        taken.add(folded(str(name)))
        names.append(name)
    return names
