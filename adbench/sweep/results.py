"""The results folder: one immutable JSON file per finished job, failures in a folder of their own, and the plans of sweeps.

FOLDER/KEY.json is a finished job, FOLDER/replicates/KEY.npy its bootstrap replicates, FOLDER/influence/KEY.npy the influence
values of its test images, FOLDER/failed/KEY.json a job that failed or was skipped, FOLDER/plans/NAME.jsonl the jobs of a
sweep. Every file is written beside its place and renamed, so the folder can be read while sweeps write to it.

A line of JSON begins with the CRC-32 of the rest. A line whose checksum fits but that this version cannot read was written by
a newer one. The oldest files have no checksum; there the job's key is computed again and compared.
"""

import io
import json
import logging
import math
import os
import re
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import MISSING, fields
from itertools import zip_longest
from operator import attrgetter
from pathlib import Path
from sys import intern
from types import GenericAlias, MappingProxyType
from typing import Any, BinaryIO, TypeVar, get_type_hints

import msgspec
import numpy as np
from numpy.typing import NDArray

from adbench.core.errors import DataError
from adbench.core.files import replacing, write_text
from adbench.types import ESTIMATED, JOB_FIELDS, Job, Result, Status

T = TypeVar("T")
_NAME = re.compile(r"[0-9a-f]{20}\.json")  # other files in the folder belong to the user
_LOG = logging.getLogger("adbench")
_NO_PLAN = "run its sweep again to write the plan anew"
_ORDER = attrgetter(*map("job.{}".format, ("dataset", "category", "backbone", "weights")))
_REST = attrgetter(*map("job.{}".format, ("layer", "detector", "seed", "key")))
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


def _order(result: Result) -> tuple[Any, ...]:
    """Return the sort key of a result; sizes that are numbers come first."""
    size = result.job.image_size
    return (_ORDER(result), (size, "") if isinstance(size, int) else (1 << 30, size), result.job.tile, _REST(result))


def dump(record: dict[str, Any]) -> str:
    """Return the record as a line of JSON with sorted keys, behind the checksum of the rest."""
    rest = _ENCODE(record)[1:] + "\n"
    return f'{{"crc32": "{zlib.crc32(rest.encode()):08x}", {rest}'


def _plain(value: Any) -> Any:
    """Return a JSON value: numpy values as Python's, infinities and NaN as null."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _read_result(
    content: bytes, key: str, done: bool, known: Mapping[str, Job] = _NO_JOBS,
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


def _is_finished(content: bytes, key: str) -> bool:
    """Return whether a file has the result of the finished job `key`; raise as `_read_result` does if it has not."""
    found, checked = _decode(content, _Stub)
    return (checked and (found.key, found.status) == (key, "done")) or bool(_read_result(content, key, done=True))


def _read_command(file: BinaryIO) -> str:
    return str(_decode(file.readline(), _PLAN_HEADER)[0].command)


def _read_plan(lines: Iterable[bytes]) -> list[Job]:
    """Return the jobs of a plan; raise ValueError or NewerVersionError as `_read_result` does."""
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


class ResultStore:
    """The results of all jobs that were run into one folder, which is made at the first write."""

    def __init__(self, folder: Path) -> None:
        if folder.exists() and not folder.is_dir():
            raise DataError(f"cannot use {folder} for results: it is a file; name a folder")
        self.folder = folder
        self._failed = folder / "failed"
        self._plans = folder / "plans"
        self._replicates, self._influence = folder / "replicates", folder / "influence"

    def write(self, result: Result) -> None:
        """Store a result. A finished one that is there already is kept; a success replaces earlier failures."""
        key = result.job.key
        if self.read(key) is None:
            for folder, values in ((self._replicates, result.replicates), (self._influence, result.influence)):
                if values is not None:  # first, so that they are there when the record is
                    _write_array(folder / f"{key}.npy", values)
            folder = self.folder if result.status == "done" else self._failed
            record = result.record()
            outcome = {name: _plain(record[name]) for name in ("metrics", "cost", "environment", "details")}
            write_text(folder / f"{key}.json", dump(record | outcome | {"schema": SCHEMA}))
            if result.status != "done":
                return
        with suppress(FileNotFoundError):
            (self._failed / f"{key}.json").unlink()

    def delete(self, key: str) -> None:
        """Delete the record of a finished job and its replicates; later ones first, so that none is left without its record."""
        for path in (self._replicates / f"{key}.npy", self.folder / f"{key}.json"):
            path.unlink(missing_ok=True)

    def read(self, key: str) -> Result | None:
        """Return the result of the finished job `key`, or None. A damaged file is reported, deleted and counts as missing."""
        return self._read(self.folder, key)

    def has(self, key: str) -> bool:
        """Return whether the job `key` is finished and its result is undamaged."""
        return bool(_load(self.folder / f"{key}.json", lambda file: _is_finished(file.read(), key)))

    def outcome(self, key: str) -> Result | None:
        """Return the result of the job `key` if it is finished, else its failure, else None."""
        return self.read(key) or self._read(self._failed, key)

    def done(self) -> set[str]:
        """Return the keys of all finished jobs, without reading their results."""
        return _keys(self.folder)

    def failures(self, known: Mapping[str, Job] = _NO_JOBS) -> list[Result]:
        """Return every failed and skipped result of a job that is not finished, on the Job objects in `known`."""
        found = (self._read(self._failed, key, known) for key in _keys(self._failed) - self.done())
        return [result for result in found if result]

    def _read(self, folder: Path, key: str, known: Mapping[str, Job] = _NO_JOBS, without_details: bool = False) -> Result | None:
        details = self._details if without_details else None
        path, done = folder / f"{key}.json", folder is self.folder
        return _load(path, lambda file: _read_result(file.read(), key, done, known, details))

    def forget_failures(self, keys: Collection[str]) -> None:
        """Delete the failures of jobs that are tried again."""
        for key in _keys(self._failed).intersection(keys):
            (self._failed / f"{key}.json").unlink(missing_ok=True)

    def replicates(self, key: str) -> NDArray[np.float32] | None:
        """Return the bootstrap replicates (metrics of the record, R) of the job `key`, or None.

        A file that is damaged or lacks a metric of the record is reported and deleted.
        """
        return self._array(self._replicates, key, 0)

    def influence(self, key: str) -> NDArray[np.float32] | None:
        """Return the influence values (metrics of the record + 1, U) of the job `key`, or None; the last row are the strata."""
        return self._array(self._influence, key, 1)

    def _array(self, folder: Path, key: str, more: int) -> NDArray[np.float32] | None:
        """Return an array with a row for each metric of the record, and `more`."""
        result = self._read(self.folder, key, without_details=True)
        rows = len(result.metrics) + more if result else 0
        return _load(folder / f"{key}.npy", lambda file: _read_array(file, rows), "no differences are tested with it")

    def all(self, planned: Iterable[Job] = ()) -> list[Result]:
        """Return every finished, failed and skipped result, in an order that does not depend on when they were run.

        Results of `planned` jobs refer to the same objects, and details are read when they are first used: 100,000 results fit
        into memory.
        """
        known = {job.key: job for job in planned}
        done = (self._read(self.folder, key, known, without_details=True) for key in self.done())
        found = [*(result for result in done if result), *self.failures(known)]
        return sorted(found, key=_order)

    def _details(self, key: str) -> Mapping[str, Any]:
        result = self.read(key)
        if result is None:
            raise DataError(f"the result {key} vanished from {self.folder} while it was reported on; run the command again")
        return result.details

    def times(self, results: Iterable[Result]) -> list[float]:
        """Return when the files of results were written, in seconds since 1970, the first of them first."""
        paths = ((self.folder if r.status == "done" else self._failed) / f"{r.job.key}.json" for r in results)
        return sorted(path.stat().st_mtime for path in paths if path.is_file())

    def maps(self, key: str) -> Path:
        """Return the folder for pictures of the job `key`."""
        return self.folder / "maps" / key

    def write_plan(self, name: str, jobs: Sequence[Job], command: str = "") -> None:
        """Store the jobs of the sweep `name` and the command that started it, in place of its earlier plan."""
        path = self._plans / f"{re.sub(r'[^0-9A-Za-z_-]+', '_', name)}.jsonl"
        old = path.with_suffix(".json")  # by version 0.1.0
        own = {job.key: job for job in sorted(jobs, key=lambda job: job.key)}
        earlier = _load(old, _read_plan)
        # a finished folder may be read-only: nothing is written without need
        if earlier is not None and own.keys() == {job.key for job in earlier}:
            return
        if not _has_lines(path, _plan_lines(own, command)):
            with replacing(path) as temporary, temporary.open("w", encoding="ascii", newline="") as file:
                file.writelines(_plan_lines(own, command))
        with suppress(OSError):
            old.unlink(missing_ok=True)

    def planned(self) -> list[Job]:
        """Return the jobs of all plans, each once."""
        found = (_load(path, _read_plan, _NO_PLAN) or () for path in self._plan_files())
        return list({job.key: job for jobs in found for job in jobs}.values())

    def commands(self) -> list[str]:
        """Return the command behind each plan that knows it, each once."""
        found = (_load(path, _read_command, _NO_PLAN) for path in self._plan_files())
        return list(filter(None, dict.fromkeys(found)))

    def _plan_files(self) -> list[Path]:
        return sorted(self._plans.glob("*.jsonl")) + sorted(self._plans.glob("*.json"))


def _keys(folder: Path) -> set[str]:
    try:
        names = os.listdir(folder)  # noqa: PTH208  as paths, a hundred thousand take a second
    except (FileNotFoundError, NotADirectoryError):
        return set()
    except OSError as error:
        raise DataError(f"cannot list {folder}: {error.strerror}; make it readable") from error
    return {name[:-5] for name in names if _NAME.fullmatch(name)}


def _load(path: Path, parse: Callable[[BinaryIO], T], consequence: str = "its job counts as not run") -> T | None:
    """Return what `parse` makes of a file, or None if there is no such file or it was damaged and had to be deleted."""
    try:
        with path.open("rb") as file:
            return parse(file)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}; make it readable or delete it") from error
    except NewerVersionError as error:
        raise DataError(f"{path} was written by a newer version of adbench ({error}); update adbench to read it") from error
    except (ValueError, TypeError, EOFError, MemoryError, RecursionError) as error:
        _LOG.warning("deleted the damaged file %s (%s); %s", path, error, consequence)
        with suppress(OSError):  # a read-only folder can still be reported on
            path.unlink()
        return None


def _plan_lines(jobs: Mapping[str, Job], command: str) -> Iterator[str]:
    """Yield a header, then the jobs."""
    yield dump({"schema": SCHEMA, "command": command, "jobs": len(jobs)})
    for key, job in jobs.items():
        yield dump(job.record() | {"key": key})


def _has_lines(path: Path, lines: Iterable[str]) -> bool:
    """Return whether a file has exactly these lines."""
    try:
        with path.open("rb") as file:
            return all(old == new for old, new in zip_longest(file, (line.encode() for line in lines)))
    except OSError:
        return False


def _write_array(path: Path, values: NDArray[np.float32]) -> None:
    content = io.BytesIO()  # numpy itself does not say why it cannot write a file
    np.save(content, values, allow_pickle=False)
    with replacing(path) as temporary:
        temporary.write_bytes(content.getbuffer())


def _read_array(file: BinaryIO, rows: int) -> NDArray[np.float32]:
    found = np.load(io.BytesIO(file.read()), allow_pickle=False)
    if found.dtype != np.float32 or found.ndim != 2 or len(found) < rows:
        raise ValueError(f"{found.dtype} of shape {found.shape}, not float32 of {rows} rows")
    return np.asarray(found)
