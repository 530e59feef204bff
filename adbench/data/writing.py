"""Write generated datasets: folders that appear whole or not at all, and their images."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from PIL import Image

from adbench.core.files import unwritable


@contextmanager
def whole_folder(target: Path, unless: Callable[[], bool] = lambda: False) -> Iterator[Path]:
    """Yield a temporary folder beside `target` that replaces it at the end; remove it after an error.

    It is also removed if `unless` is true by then, e.g. because another process has made `target` meanwhile.
    Raises DataError if a file cannot be written.
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
        raise unwritable(target, error) from error


def save_png(pixels: NDArray[Any], path: Path) -> None:
    """Write uint8 pixels, (H, W) or (H, W, 3), as a PNG; make its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, compress_level=1)
