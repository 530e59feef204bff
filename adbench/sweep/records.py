"""Results and planned jobs as lines of JSON, and back.

A line begins with the CRC-32 of what follows it. A line whose checksum fits but that this version cannot read was written by a
newer one. The oldest files have no checksum; there the job's key is computed again and compared.
"""

import json
import math
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, fields
from sys import intern
from types import GenericAlias, MappingProxyType
from typing import Any, get_type_hints

import msgspec

from adbench.types import JOB_FIELDS, Job, Result, Status

SCHEMA = 1  # of every file in a results folder
_CRC = re.compile(rb'\{"crc32": "([0-9a-f]{8})", ')
_ENCODE = json.JSONEncoder(sort_keys=True).encode
_Values = dict[str, int | float | None]
_POOL: dict[str, Any] = {}  # equal dictionaries of many records, held once
_NO_JOBS: Mapping[str, Job] = MappingProxyType({})


class NewerVersionError(ValueError):
    """A line that is undamaged, but has fields or values that this version does not know."""


class _Header(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    crc32: str = ""
    schema: int = SCHEMA


class _PlanHeader(_Header):
    jobs: int
    command: str = ""


class _Stub(msgspec.Struct):
    """The fields that tell whether a file is the result of a finished job; the others are skipped."""

    key: str
    status: Status
    schema: int


class _Shown(msgspec.Struct):
    """The one detail that every report shows; the others are skipped while a result is read."""

    receptive_field_px: Any = None


def _with_job(name: str, *others: tuple[str, Any]) -> Any:
    """Return the type of a line that has some fields and those of a job, each with the job's type and default."""
    types = get_type_hints(Job)
    defaults = {f.name: () if f.default is MISSING else (f.default,) for f in fields(Job)}
    own = [(name, types[name], *default) for name, default in defaults.items()]
    return msgspec.defstruct(name, [*others, *own], bases=(_Header,), kw_only=True, forbid_unknown_fields=True)


def _result_line(details: Any) -> Any:
    outcome = {"status": Status, "reason": str | None, "metrics": _Values, "cost": _Values, "environment": dict[str, Any]}
    return _with_job("ResultLine", ("key", str), ("layer", str), *outcome.items(), ("details", details))


_JOB, _PLANNED = _with_job("JobRecord"), _with_job("PlanLine", ("key", str))
_JSON_PLAN = msgspec.defstruct(  # as version 0.1.0 wrote it: one document
    "JsonPlan",
    [("jobs", GenericAlias(dict, (str, _JOB))), ("command", str, "")],
    bases=(_Header,),
    kw_only=True,
    forbid_unknown_fields=True,
)
_RESULT, _RESULT_WITHOUT_DETAILS = _result_line(dict[str, Any]), _result_line(_Shown)


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


def dump_result(result: Result) -> str:
    """Return the content of a result's file: numpy values as Python's, infinities and NaN as null."""
    record = result.record()
    outcome = {name: _plain(record[name]) for name in ("metrics", "cost", "environment", "details")}
    return dump(record | outcome | {"schema": SCHEMA})


def dump_plan(jobs: Sequence[Job], command: str) -> Iterator[str]:
    """Yield the lines of a plan: a header, then one job a line."""
    yield dump({"schema": SCHEMA, "command": command, "jobs": len(jobs)})
    for job in jobs:
        yield dump(job.record() | {"key": job.key})


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_result(
    content: bytes,
    key: str,
    done: bool,
    known: Mapping[str, Job] = _NO_JOBS,
    details: Callable[[str], Mapping[str, Any]] | None = None,
) -> Result:
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
    return result


def is_finished(content: bytes, key: str) -> bool:
    """Return whether a file has the result of the finished job `key`; raise as `read_result` does if it has not."""
    found, checked = _decode(content, _Stub)
    return (checked and (found.key, found.status) == (key, "done")) or bool(read_result(content, key, done=True))


def read_plan(lines: Iterable[bytes]) -> list[Job]:
    """Return the jobs of a plan; raise ValueError or NewerVersionError as `read_result` does."""
    lines = iter(lines)
    expected = _decode(next(lines, b""), _PlanHeader)[0].jobs
    jobs = [_job_of(line, line.key if checked else None) for line, checked in (_decode(line, _PLANNED) for line in lines)]
    if len(jobs) != expected:
        raise ValueError(f"{len(jobs)} of its {expected} jobs are left")
    return jobs


def read_plan_command(header: bytes) -> str:
    """Return the command in the first line of a plan."""
    return str(_decode(header, _PlanHeader)[0].command)


def read_json_plan(content: bytes) -> tuple[list[Job], str]:
    """Return the jobs and the command of a plan that version 0.1.0 wrote."""
    plan, checked = _decode(content, _JSON_PLAN)
    return [_job_of(found, key if checked else None) for key, found in plan.jobs.items()], plan.command


def _decode(line: bytes, kind: Any) -> tuple[Any, bool]:
    """Return a line as an object of a type, and whether it has a checksum."""
    checksum = _CRC.match(line)
    if checksum and int(checksum[1], 16) != zlib.crc32(memoryview(line)[checksum.end() :]):
        raise ValueError("its checksum does not fit")
    try:
        found = _validated(line, kind)
        if found.schema != SCHEMA:
            raise ValueError(f"schema version {found.schema}, not {SCHEMA}")
    except ValueError as error:
        raise NewerVersionError(str(error)) if checksum else error from None
    return found, checksum is not None


def _validated(line: bytes, kind: Any) -> Any:
    try:
        return msgspec.json.decode(line, type=kind)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:  # json also writes lone surrogates (names that are not UTF-8) and NaN
        return msgspec.convert(json.loads(line), kind)


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
        return tuple(map(intern, value))
    return _POOL.setdefault(repr(value), value) if isinstance(value, dict) else value
