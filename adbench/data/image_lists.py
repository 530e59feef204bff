"""New images as a user names them: files, and folders that are walked; and a picture's name for each."""

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath
from typing import NamedTuple

from adbench.core.errors import DataError
from adbench.data.layouts import folders, image_files


class NewImage(NamedTuple):
    """An image file, and its name below the folder that it was found in."""

    path: Path
    name: PurePath


def find_images(sources: Sequence[Path], leave_out: Path | None = None) -> list[NewImage]:
    """Return the images that `sources` name, each file once: a file as it is, a folder with all that lies below it.

    Folders are walked in the order of their names; hidden files, hidden folders and the folder `leave_out` are passed
    over. Raises DataError for a source that is not there or a folder without images.
    """
    images = {image.path.absolute(): image for source in sources for image in _named(source, leave_out)}
    return list(images.values())


def _named(source: Path, leave_out: Path | None) -> list[NewImage]:
    if source.is_file():
        return [NewImage(source, PurePath(source.name))]
    if not source.is_dir():
        raise DataError(f"no image {source}: no such file or folder; name images or folders of images")
    found = [NewImage(p, p.relative_to(source)) for p in _below(source, {leave_out.resolve()} if leave_out else set())]
    if not found:
        raise DataError(f"no image in {source}: nothing in it or below ends in .png, .jpg, .bmp, .tif or .webp")
    return found


def _below(folder: Path, seen: set[Path]) -> Iterator[Path]:
    """Yield the image files in and below `folder`; links are followed, but none twice."""
    if folder.resolve() in seen:
        return
    seen.add(folder.resolve())
    yield from image_files(folder)
    for child in folders(folder):
        yield from _below(child, seen)


def picture_names(images: Sequence[NewImage]) -> list[PurePath]:
    """Return a JPEG's name for each image: its own, with a number where another image has that one, in any case."""
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
