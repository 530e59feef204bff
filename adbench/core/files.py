"""Write files atomically (beside the target, then renamed), and hash them."""

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from adbench.core.errors import DataError

_UMASK = os.umask(0)  # the umask can only be read by setting it; at import no other thread does
os.umask(_UMASK)


@contextmanager
def replacing(target: Path, unless: Callable[[], bool] = lambda: False, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path in `target`'s folder; rename it to `target` at the end, remove it after an error.

    It is also removed if `unless()` is true by then, so that a file which another process has made meanwhile stays. durable: wait
    until the content is on the disk, so that it survives a power cut; this can take longer than computing it did.

    Raises DataError if the folder cannot be made or written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp")
    except OSError as error:
        raise unwritable(target, error) from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        if durable:
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_UMASK)
        if not unless():
            temporary.replace(target)
    except OSError as error:
        raise unwritable(target, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def stamp(path: Path) -> list[int]:
    """Return what changes when a file is written or replaced: size, modification time, change time and inode.

    A copy that keeps the time of its original has another inode or change time. Raises OSError if the file is missing.
    """
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def unwritable(target: Path, error: OSError) -> DataError:
    """Return the one-line error for a file or folder that cannot be written."""
    return DataError(f"cannot write {target}: {error.strerror or error}; choose another folder or free it")


def write_text(target: Path, text: str) -> None:
    """Write `text` as UTF-8 to `target`, atomically."""
    with replacing(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def sha256(path: Path) -> str:
    """Return the hex SHA-256 of a file's bytes; raise DataError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _sha256(path)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error


def _sha256(path: Path) -> str:  # Python 3.10 has no file_digest
    state = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            state.update(block)
    return state.hexdigest()
