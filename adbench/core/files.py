"""Write files atomically (beside the target, then renamed), and hash them."""

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from adbench.core.errors import DataError

_LONGEST = 255  # bytes of a file name on common file systems
_SUFFIX = 20  # characters; what is longer is no suffix
_UMASK = os.umask(0)  # the umask can only be read by setting it; at import no other thread does
os.umask(_UMASK)


@contextmanager
def replacing(target: Path, unless: Callable[[], bool] = lambda: False, durable: bool = True, by: str = "") -> Iterator[Path]:
    """Yield a temporary path in `target`'s folder; rename it to `target` at the end, remove it after an error.

    It is also removed if `unless()` is true by then, so that a file which another process has made meanwhile stays. durable: wait
    until the content is on the disk, so that it survives a power cut; this can take longer than computing it did.

    Raises DataError if the folder cannot be made or written; `by` names the settings that choose another.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # shorter than the name of `target`, which may be as long as the file system permits
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{fitting(target.name, _LONGEST - 16)}.", suffix=".tmp")
    except OSError as error:
        raise unwritable(target, error, by) from error
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
        raise unwritable(target, error, by) from error
    finally:
        temporary.unlink(missing_ok=True)


def stamp(path: Path) -> list[int]:
    """Return what changes when a file is written or replaced: size, modification time, change time and inode.

    A copy that keeps the time of its original has another inode or change time. Raises OSError if the file is missing.
    """
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def fitting(name: str, longest: int = _LONGEST) -> str:
    """Return a file name of at most `longest` bytes: a longer one is cut, and a digest of the whole keeps it unique.

    The suffix stays.
    """
    if len(os.fsencode(name)) <= longest:
        return name
    suffix = Path(name).suffix if len(Path(name).suffix) < _SUFFIX else ""
    end = f"-{hashlib.sha256(os.fsencode(name)).hexdigest()[:8]}{suffix}"
    return os.fsencode(name)[: longest - len(os.fsencode(end))].decode(errors="ignore") + end


def unwritable(target: Path, error: OSError, by: str = "") -> DataError:
    """Return the one-line error for a file or folder that cannot be written; `by` names the settings that choose another."""
    settings = f" ({by})" if by else ""
    if in_the_way := _file_in_the_way(target):
        return DataError(f"cannot write {target}: {in_the_way} is a file; name a folder{settings}")
    return DataError(f"cannot write {target}: {error.strerror or error}; choose another folder or free it{settings}")


def _file_in_the_way(target: Path) -> Path | None:
    exists, is_dir = os.path.exists, os.path.isdir  # unlike pathlib's, they raise for no path
    return next((parent for parent in target.parents if exists(parent) and not is_dir(parent)), None)


def check_folder(option: str, folder: Path) -> None:
    """Raise DataError if a file lies where an option names a folder to write into."""
    if in_the_way := _file_in_the_way(folder / "file"):
        raise DataError(f"{option} {folder}: {in_the_way} is a file; name a folder")


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
