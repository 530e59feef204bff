"""List image files: those in a folder, those that a user names, and a picture's name for each."""

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath
from typing import NamedTuple

from adbench.core.errors import DataError
from adbench.data.images import SUFFIXES


def folders(parent: Path) -> list[Path]:
    """Return the folders in `parent` that are not hidden, sorted by name; an empty list if `parent` is missing."""
    return [path for path in _visible(parent) if path.is_dir()]


def image_files(parent: Path) -> list[Path]:
    """Return the image files in `parent` that are not hidden, sorted by name; an empty list if `parent` is missing.

    Broken links are included, so that the check of all files can name them.
    """
    found = [path for path in _visible(parent) if path.suffix.lower() in SUFFIXES]
    return [path for path in found if path.is_file() or (path.is_symlink() and not path.is_dir())]


def _visible(parent: Path) -> list[Path]:
    try:
        return sorted(path for path in parent.iterdir() if not path.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise DataError(f"cannot list {parent}: {error.strerror}; make it readable") from error


def images_below(folder: Path, seen: set[Path] | None = None) -> Iterator[Path]:
    """Yield the image files in and below `folder`; follow links, but enter no folder twice and none of `seen`."""
    seen = set() if seen is None else seen
    if folder.resolve() in seen:
        return
    seen.add(folder.resolve())
    yield from image_files(folder)
    for child in folders(folder):
        yield from images_below(child, seen)


class NewImage(NamedTuple):
    """An image file, and its name relative to the folder it was found in."""

    path: Path
    name: PurePath


def find_images(sources: Sequence[Path], skip: Path | None = None) -> list[NewImage]:
    """Return the images that `sources` name, each file once: a file as it is, a folder with all images below it.

    Folders are walked in the order of their names; hidden files, hidden folders and the folder `skip` are skipped.
    Raises DataError for a source that does not exist and for a folder without images.
    """
    found: dict[Path, NewImage] = {}
    for source in sources:
        if not (source.is_file() or source.is_dir()):
            raise DataError(f"no image {source}: no such file or folder; name images or folders of images")
        inside = [source] if source.is_file() else list(images_below(source, {skip.resolve()} if skip else set()))
        if not inside:
            raise DataError(f"no image in {source}: nothing in it or below ends in .png, .jpg, .bmp, .tif or .webp")
        root = source.parent if source.is_file() else source
        found |= {path.absolute(): NewImage(path, path.relative_to(root)) for path in inside}
    return list(found.values())


def picture_names(images: Sequence[NewImage]) -> list[PurePath]:
    """Return a JPEG file name for each image: its own, numbered where it is taken (in upper or lower case)."""
    taken: set[str] = set()
    names = []
    for image in images:
        name, number = image.name.with_suffix(".jpg"), 1
        while str(name).casefold() in taken:
            number += 1
            name = image.name.with_name(f"{image.name.stem}-{number}.jpg")
        taken.add(str(name).casefold())
        names.append(name)
    return names
