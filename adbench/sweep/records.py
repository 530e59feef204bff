"""The lines of a results folder: what a record of a job and a plan look like, and how they are read and checked.

A line of JSON begins with the CRC-32 of the rest. A line whose checksum fits but that this version cannot read was written by
a newer one. The oldest files have no checksum; there the job's key is computed again and compared.
"""

import json
import math
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import MISSING, fields
from sys import intern
from types import GenericAlias, MappingProxyType
from typing import Any, BinaryIO, get_type_hints

import msgspec

from adbench.types import ESTIMATED, JOB_FIELDS, Job, Result, Status

SCHEMA = 1  # of every file in a results folder
NO_JOBS: Mapping[str, Job] = MappingProxyType({})
_CRC = re.compile(rb'\{"crc32": "([0-9a-f]{8})", ')
_ENCODE = json.JSONEncoder(sort_keys=True).encode
_Values = dict[str, int | float | None]
_POOL: dict[str, Any] = {}  # equal dictionaries of many records, held once


class NewerVersionError(ValueError):
    """A line that is undamaged, but has fields or values that this version does not know."""


class _Header(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    crc32: str = ""
    schema: int = SCHEMA


class _Stub(msgspec.Struct):
    """The fields that tell whether a file is the result of a finished job; the others are skipped."""

    key: str
    status: Status
    schema: int


class _Shown(msgspec.Struct):
    """The details that every report shows; the others are skipped while a result is read."""

    receptive_field_px: Any = None
    receptive_field_kind: Any = None


def _line(*own: tuple[str, Any] | tuple[str, Any, Any]) -> Any:
    """Return the type of a line with these fields: name, type and default."""
    return msgspec.defstruct("Line", own, bases=(_Header,), kw_only=True, forbid_unknown_fields=True)


_TYPES = get_type_hints(Job)
_JOB = [(f.name, _TYPES[f.name], *(() if f.default is MISSING else (f.default,))) for f in fields(Job)]
_PLANNED = _line(("key", str), *_JOB)
# version 0.1.0 wrote a plan as one document, with all jobs in what is now the header
_PLAN_HEADER = _line(("jobs", GenericAlias(dict, (str, _line(*_JOB))) | int), ("command", str, ""))
_OUTCOME = {"status": Status, "reason": str | None, "metrics": _Values, "cost": _Values, "environment": dict[str, Any]}
_RESULT, _RESULT_WITHOUT_DETAILS = (
    _line(("key", str), ("layer", str), *_OUTCOME.items(), ("details", details), *_JOB) for details in (dict[str, Any], _Shown)
)


class Later(Mapping[str, Any]):
    """A mapping that calls `read` with its key when it is first used."""

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


def dump(record: dict[str, Any]) -> str:
    """Return the record as a line of JSON with sorted keys, behind the checksum of the rest."""
    rest = _ENCODE(record)[1:] + "\n"
    return f'{{"crc32": "{zlib.crc32(rest.encode()):08x}", {rest}'


def plain(value: Any) -> Any:
    """Return a JSON value: numpy values as Python's, infinities and NaN as null."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_result(
    content: bytes, key: str, done: bool, known: Mapping[str, Job] = NO_JOBS,
    details: Callable[[str], Mapping[str, Any]] | None = None,
) -> Result:  # fmt: skip
    """Return the result of the job `key`, on the same Job object as in `known` if it is there.

    details: if given, the result's details are read by it when they are first used. Raises ValueError for a damaged file and
    for one that is not a result of this job, NewerVersionError for one of a newer version.
    """
    found, checked = _decode(content, _RESULT_WITHOUT_DETAILS if details else _RESULT)
    job = known.get(key) or _job_of(found, found.key if checked else None)
    if not key == found.key == job.key:
        raise ValueError("its content does not belong to its name")
    if (found.status == "done") != done:
        raise ValueError(f"its status is {found.status}")
    metrics, cost = ({intern(name): value for name, value in values.items()} for values in (found.metrics, found.cost))
    environment = _held_once(found.environment)
    if details is None:
        return Result(job, found.status, found.reason, metrics, cost, environment, found.details)
    result = Result(job, found.status, found.reason, metrics, cost, environment, Later(details, job.key))
    vars(result)["receptive_field"] = found.details.receptive_field_px
    vars(result)["field_is_analytic"] = bool(found.details.receptive_field_px and found.details.receptive_field_kind != ESTIMATED)
    return result


def is_finished(content: bytes, key: str) -> bool:
    """Return whether a file has the result of the finished job `key`; raise as `read_result` does if it has not."""
    found, checked = _decode(content, _Stub)
    return (checked and (found.key, found.status) == (key, "done")) or bool(read_result(content, key, done=True))


def read_command(file: BinaryIO) -> str:
    return str(_decode(file.readline(), _PLAN_HEADER)[0].command)


def read_plan(lines: Iterable[bytes]) -> list[Job]:
    """Return the jobs of a plan; raise ValueError or NewerVersionError as `read_result` does."""
    lines = iter(lines)
    header, checked = _decode(next(lines, b""), _PLAN_HEADER)
    if isinstance(header.jobs, dict):
        return [_job_of(found, key if checked else None) for key, found in header.jobs.items()]
    jobs = [_job_of(line, line.key if checked else None) for line, checked in (_decode(line, _PLANNED) for line in lines)]
    if len(jobs) != header.jobs:
        raise ValueError(f"{len(jobs)} of its {header.jobs} jobs are left")
    return jobs


def _decode(line: bytes, kind: Any) -> tuple[Any, bool]:
    """Return a line as an object of a type, and whether it has a checksum."""
    checksum = _CRC.match(line)
    if checksum and int(checksum[1], 16) != zlib.crc32(memoryview(line)[checksum.end() :]):
        raise ValueError("its checksum does not fit")
    try:
        try:
            found = msgspec.json.decode(line, type=kind)
        except msgspec.ValidationError:
            raise
        except msgspec.DecodeError:  # json also writes lone surrogates (names that are not UTF-8) and NaN
            found = msgspec.convert(json.loads(line), kind)
        if found.schema != SCHEMA:
            raise ValueError(f"schema version {found.schema}, not {SCHEMA}")
    except ValueError as error:
        raise NewerVersionError(str(error)) if checksum else error from None
    return found, checksum is not None


def _job_of(found: Any, key: str | None) -> Job:
    """Return the job in a line; its key, if that is known, is not computed again, which takes longer than the rest."""
    job = Job(**{name: _held_once(getattr(found, name)) for name in JOB_FIELDS})
    if key is not None:
        vars(job)["key"] = key
    return job


def _held_once(value: Any) -> Any:
    """Return an equal value that other records hold, too: it must not be changed."""
    if isinstance(value, str):
        return intern(value)
    if isinstance(value, tuple):
        return tuple(map(_held_once, value))
    return _POOL.setdefault(repr(value), value) if isinstance(value, dict) else value


def plan_lines(jobs: Mapping[str, Job], command: str) -> Iterator[str]:
    """Yield a header, then the jobs."""
    yield dump({"schema": SCHEMA, "command": command, "jobs": len(jobs)})
    for key, job in jobs.items():
        yield dump(job.record() | {"key": key})
