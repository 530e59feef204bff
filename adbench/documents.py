"""JSON documents with a checksum, of which many are alike: what recurs is held once, so that 100,000 fit into memory."""

import json
import math
import re
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from sys import intern
from typing import Any

from adbench.files import replacing

_RECURRING = ("environment", "params")  # of few values among all results
_POOL: dict[str, Any] = {}
_CRC = re.compile(rb'\{"crc32": "([0-9a-f]{8})", ')


def loads(content: bytes) -> Any:
    """Return the document; equal names, texts and objects called `params` or `environment` are the same, not to be changed.

    Raises ValueError or RecursionError as `json.loads` does.
    """
    return json.loads(content, object_pairs_hook=_shared)


def _shared(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if isinstance(value, str):
            value = intern(value)
        elif name in _RECURRING:
            value = _POOL.setdefault(repr(value), value)
        found[intern(name)] = value
    return found


def simple(value: Any) -> Any:
    """Return the value as JSON can hold it: numpy values as Python's, infinities and NaN as null."""
    if isinstance(value, dict):
        return {str(key): simple(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [simple(item) for item in value]
    if hasattr(value, "tolist"):
        return simple(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def dump(record: dict[str, Any]) -> str:
    """Return the record as JSON whose first key is the CRC-32 of what follows it."""
    rest = json.dumps(record, sort_keys=True)[1:] + "\n"
    return _head(zlib.crc32(rest.encode())).decode() + rest


def write(target: Path, pieces: Callable[[], Iterable[str]]) -> None:
    """Write a document piece by piece, which together are what `dump` makes of it after the checksum; unless it is there."""
    if _holds(target, pieces()):  # a folder that is finished may be read-only
        return
    with replacing(target) as temporary, temporary.open("wb") as file:
        crc = 0
        file.write(_head(crc))
        for piece in pieces():
            block = piece.encode()
            crc = zlib.crc32(block, crc)
            file.write(block)
        file.seek(0)
        file.write(_head(crc))


def _holds(path: Path, pieces: Iterable[str]) -> bool:
    """Return whether the file has exactly these pieces behind their checksum."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head, crc = file.read(len(_head(0))), 0
        for piece in pieces:
            block = piece.encode()
            if file.read(len(block)) != block:
                return False
            crc = zlib.crc32(block, crc)
        return head == _head(crc) and not file.read(1)


def _head(crc: int) -> bytes:
    return f'{{"crc32": "{crc:08x}", '.encode()


def intact(content: bytes) -> bool:
    """Return whether a file holds its own checksum and fits it; raise ValueError if it does not fit. Old files hold none."""
    found = _CRC.match(content)
    if found and int(found[1], 16) != zlib.crc32(content[found.end() :]):
        raise ValueError("its checksum does not fit")
    return found is not None
