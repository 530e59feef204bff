"""List image files: those in a folder, those that a user names, and a picture's name for each."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath
from typing import NamedTuple

from adbench.core.errors import DataError
from adbench.core.files import fitting
from adbench.data.images import SUFFIXES
from adbench.data.writing import MANIFEST, is_marked

log = logging.getLogger("adbench")


def folders(parent: Path) -> list[Path]:
    """Return the folders in `parent` that are not hidden, sorted by name; an empty list if `parent` is missing."""
    return [path for path in _visible(parent) if path.is_dir()]


def image_files(parent: Path, drawn: list[Path] | None = None) -> list[Path]:
    """Return the image files in `parent` that are not hidden, sorted by name; an empty list if `parent` is missing.

    Broken links are included, so that the check of all files can name them. Pictures that adbench drew are skipped if the
    first file is one, as adbench fills whole folders with them. They are added to `drawn`; without it, a warning counts them.
    """
    found = [path for path in _visible(parent) if path.suffix.lower() in SUFFIXES]
    found = [path for path in found if path.is_file() or (path.is_symlink() and not path.is_dir())]
    if not found or not is_marked(found[0]):
        return found
    marked = dict.fromkeys(path for path in found if is_marked(path))
    if drawn is None:
        _say_skipped(list(marked))
    else:
        drawn += marked
    return [path for path in found if path not in marked]


def _visible(parent: Path) -> list[Path]:
    try:
        return sorted(path for path in parent.iterdir() if not path.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise DataError(f"cannot list {parent}: {error.strerror}; make it readable") from error


def images_below(folder: Path, seen: set[Path] | None = None, drawn: list[Path] | None = None) -> Iterator[Path]:
    """Yield the image files in and below `folder`; follow links, but enter no folder twice and none of `seen`.

    A dataset that adbench has painted is entered only if `folder` is it, or lies in it.
    """
    seen = set() if seen is None else seen
    if folder.resolve() in seen:
        return
    seen.add(folder.resolve())
    yield from image_files(folder, drawn)
    for child in folders(folder):
        if (child / MANIFEST).is_file():
            log.warning("%s is skipped: 'adbench synth' made it; name it to use its images", child)
        else:
            yield from images_below(child, seen, drawn)


class NewImage(NamedTuple):
    """An image file, and its name relative to the folder it was found in."""

    path: Path
    name: PurePath


def find_images(sources: Sequence[Path], skip: Path | None = None) -> list[NewImage]:
    """Return the images that `sources` name, each file once: a file as it is, a folder with all images below it.

    Folders are walked in the order of their names; hidden files, hidden folders and the folder `skip` are skipped. So are
    pictures that adbench drew, with a warning. Raises DataError for a source that does not exist and for one without images.
    """
    found: dict[Path, NewImage] = {}
    drawn: list[Path] = []
    for source in sources:
        if not (source.is_file() or source.is_dir()):
            raise DataError(f"no image {source}: no such file or folder; name images or folders of images")
        own: list[Path] = []
        inside = [source] if source.is_file() else list(images_below(source, {skip.resolve()} if skip else set(), own))
        marked = dict.fromkeys(path for path in inside if is_marked(path))  # also single ones, among images
        inside, own = [path for path in inside if path not in marked], [*own, *marked]
        if not inside and own:
            raise DataError(f"no image in {source}: adbench itself drew {_counted(len(own))}; name images of parts")
        if not inside:
            raise DataError(f"no image in {source}: nothing in it or below ends in .png, .jpg, .bmp, .tif or .webp")
        drawn += own
        root = source.parent if source.is_file() else source
        found |= {path.absolute(): NewImage(path, path.relative_to(root)) for path in inside}
    if drawn:
        _say_skipped(drawn)
    return list(found.values())


def _say_skipped(drawn: Sequence[Path]) -> None:
    log.warning("%s skipped that adbench itself drew, e.g. %s", _counted(len(drawn)), drawn[0])


def _counted(pictures: int) -> str:
    return f"{pictures} picture{'s' * (pictures != 1)}"


def picture_names(images: Sequence[NewImage]) -> list[PurePath]:
    """Return a JPEG file name for each image: its own, numbered where it is taken (in upper or lower case)."""
    taken: set[str] = set()
    names = []
    for image in images:
        name, number = image.name.with_name(fitting(f"{image.name.stem}.jpg")), 1
        while str(name).casefold() in taken:
            number += 1
            name = image.name.with_name(fitting(f"{image.name.stem}-{number}.jpg"))
        taken.add(str(name).casefold())
        names.append(name)
    return names
