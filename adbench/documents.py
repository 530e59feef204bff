"""JSON documents with a checksum, of which many are alike: what recurs is held once, so that 100,000 fit into memory."""

import json
import math
import re
import zlib
from sys import intern
from typing import Any

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
    return f'{{"crc32": "{zlib.crc32(rest.encode()):08x}", {rest}'


def intact(content: bytes) -> bool:
    """Return whether a file holds its own checksum and fits it; raise ValueError if it does not fit. Old files hold none."""
    found = _CRC.match(content)
    if found and int(found[1], 16) != zlib.crc32(content[found.end() :]):
        raise ValueError("its checksum does not fit")
    return found is not None
