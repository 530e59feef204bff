"""One result as the text of its file, and back. What was written by us and fits its checksum is taken as it is."""

import json
import math
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from sys import intern
from typing import Any

from adbench.core.files import replacing
from adbench.types import OUTCOME_FIELDS, Job, Result

_RECURRING = ("environment", "params")  # of few values among all results
_POOL: dict[str, Any] = {}
_CRC = re.compile(rb'\{"crc32": "([0-9a-f]{8})", ')


def compact(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record of which equal texts, names and objects called `params` or `environment` are the same as in others.

    They are not to be changed.
    """
    return {name: _held_once(name, value) for name, value in record.items()}


def _held_once(name: str, value: Any) -> Any:
    if isinstance(value, str):
        return intern(value)
    if name in _RECURRING:
        return _POOL.setdefault(repr(value), value)
    return {intern(key): item for key, item in value.items()} if isinstance(value, dict) else value


class Later(Mapping[str, Any]):
    """What `read` returns for a key, read when it is first looked into."""

    __slots__ = ("_found", "_key", "_read")

    def __init__(self, read: Callable[[str], Mapping[str, Any]], key: str) -> None:
        self._read, self._key = read, key
        self._found: Mapping[str, Any] | None = None

    def _mapping(self) -> Mapping[str, Any]:
        if self._found is None:
            self._found = self._read(self._key)
        return self._found

    def __getitem__(self, name: str) -> Any:
        return self._mapping()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._mapping())

    def __len__(self) -> int:
        return len(self._mapping())


def members(content: bytes, name: str) -> Iterator[tuple[str, Any]]:
    """Yield the members of the object `name`, at the top of a document that `write` wrote, one by one.

    All of them at once would take several times the memory.
    """
    text = content.decode()
    found = re.compile(f'"{name}": {{').search(text)
    decoder, member = json.JSONDecoder(), re.compile(r'(?:, )?"([^"\\]*)": ')
    at = found.end() if found else len(text)
    while key := member.match(text, at):
        value, at = decoder.raw_decode(text, key.end())
        yield key[1], value
    if not text.startswith("}", at):
        raise ValueError(f"{name} end at character {at}")


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
    if found and int(found[1], 16) != zlib.crc32(memoryview(content)[found.end() :]):
        raise ValueError("its checksum does not fit")
    return found is not None


SCHEMA = 1  # of every file in the folder


def text_of(result: Result) -> str:
    """Return the content of a result's file."""
    return dump(_plain(result))


def _plain(result: Result) -> dict[str, Any]:
    """Return the record as JSON can hold it: numpy values as Python's, infinities and NaN as null. Never the job's part."""
    record = result.record()
    outcome = {name: simple(record[name]) for name in ("metrics", "cost", "environment", "details")}
    return record | outcome | {"schema": SCHEMA}


def belongs(content: bytes, key: str) -> bool:
    """Return whether a file's content is the result of the job `key`; raise ValueError or what else damage makes it raise."""
    return _trusted(content, key) or _checked(json.loads(content), key, True) is not None


def parse(content: bytes, key: str, done: bool, jobs: Mapping[str, Job]) -> Result:
    """Return the result in a file, about the same Job as in `jobs` if it is there; raise ValueError etc. for a damaged one."""
    if not _trusted(content, key):
        return _checked(json.loads(content), key, done)
    record = json.loads(content)
    check_schema(record)
    if (record["status"] == "done") != done:
        raise ValueError("its outcome is not valid")
    job = jobs.get(key)
    if job is None:
        job = Job.from_record(compact(record))
        vars(job)["key"] = key  # to hash the job anew takes longer than the rest
    return Result(job, **compact({name: record[name] for name in OUTCOME_FIELDS}))


def _trusted(content: bytes, key: str) -> bool:
    return intact(content) and f'"key": "{key}"'.encode() in content


def _checked(record: Any, key: str, done: bool) -> Result:
    check_schema(record)
    result = Result.from_record(compact(record))
    if result.job.key != key:
        raise ValueError("its content does not belong to its name")
    if (result.status == "done") != done or not _sound(result):
        raise ValueError("its outcome is not valid")
    return result


def _sound(result: Result) -> bool:
    """Return whether the outcome has the types that it is annotated with."""
    maps = (result.metrics, result.cost, result.environment, result.details)
    return (
        result.status in ("done", "skipped", "failed")
        and isinstance(result.reason, str | None)
        and all(isinstance(m, dict) for m in maps)
        and all(v is None or isinstance(v, float | int) for m in maps[:2] for v in m.values())
    )


def check_schema(record: Any) -> None:
    """Raise ValueError for a file of another version."""
    if record["schema"] != SCHEMA:
        raise ValueError(f"schema version {record['schema']}, not {SCHEMA}")
