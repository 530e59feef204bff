"""Write generated datasets: folders that appear whole or not at all, and their images."""

import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from PIL import Image

from adbench.core.errors import UsageError
from adbench.core.files import replacing, unwritable

MARK = "adbench picture"  # the EXIF tag `Software`, or the PNG text of that name, of every picture drawn for people
MANIFEST = "synthetic.json"  # in the folder of a dataset that adbench has painted
_SOFTWARE = 0x0131  # the number of that tag
_SEEN = 512  # bytes at the start of a file (of a WebP file, at its end) among which the mark stands


def save_picture(picture: Image.Image, target: Path, kind: str, durable: bool = True, **options: Any) -> None:
    """Write a picture for people as PNG, JPEG or WEBP, atomically, and marked so that `is_marked` recognizes it."""
    exif = Image.Exif()
    exif[_SOFTWARE] = MARK
    with replacing(target, durable=durable) as temporary:
        picture.save(temporary, format=kind, exif=exif, **options)


def is_marked(path: Path) -> bool:
    """Return whether a file is a picture that adbench drew: an overlay, a heat map, a figure or a contact sheet."""
    try:
        with path.open("rb") as file:
            head = file.read(_SEEN)
            if head.startswith(b"RIFF"):
                file.seek(max(0, path.stat().st_size - _SEEN))
                head = file.read()
    except OSError:  # whoever decodes it says why it cannot be read
        return False
    return MARK.encode() in head


def check_no_image_is_replaced(targets: Iterable[Path], images: Iterable[Path], option: str) -> None:
    """Raise UsageError if a picture would be written over one of the images that it is drawn from."""
    originals = {path.resolve() for path in images}
    if lost := next((target for target in targets if target.resolve() in originals), None):
        raise UsageError(f"{option}: {lost} is an image and would be replaced by its picture; choose another folder")


@contextmanager
def whole_folder(target: Path, unless: Callable[[], bool] = lambda: False, by: str = "") -> Iterator[Path]:
    """Yield a temporary folder beside `target` that replaces it at the end; remove it after an error.

    It is also removed if `unless` is true by then, e.g. because another process has made `target` meanwhile.
    Raises DataError if a file cannot be written; `by` names the settings that choose another folder.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
        try:
            yield folder
            folder.chmod(0o755)
            try:
                if not unless():
                    shutil.rmtree(target, ignore_errors=True)
                    folder.replace(target)
            except OSError:  # another process may have been faster
                if not unless():
                    raise
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        raise unwritable(target, error, by) from error


def save_png(pixels: NDArray[Any], path: Path) -> None:
    """Write uint8 pixels, (H, W) or (H, W, 3), as a PNG; make its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, compress_level=1)
