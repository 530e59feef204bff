"""The results folder: one immutable JSON file per done job, failures kept apart, and the plans that say what is to come.

FOLDER/KEY.json is a done job, FOLDER/replicates/KEY.npy its bootstrap replicates, FOLDER/failed/KEY.json a job that failed
or was skipped, FOLDER/plans/NAME.json the jobs of a sweep. Every file is written whole or not at all, so the folder can
be read while sweeps write to it.
"""

import io
import json
import logging
import os
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from adbench.documents import dump, intact, loads, simple, write
from adbench.errors import DataError
from adbench.files import replacing, write_text
from adbench.metrics import ORDER
from adbench.types import Job, Result

T = TypeVar("T")
SCHEMA = 1  # of every file in the folder
_NAME = re.compile(r"[0-9a-f]{20}\.json")  # anything else in the folder belongs to the user
_COMMAND = re.compile(rb'\{"crc32": "[0-9a-f]{8}", "command": ("(?:[^"\\]|\\.)*"), ')
_LOG = logging.getLogger("adbench")


class ResultStore:
    """The results of all jobs that were run into one folder; made at the first write."""

    def __init__(self, folder: Path) -> None:
        if folder.exists() and not folder.is_dir():
            raise DataError(f"cannot use {folder} for results: it is a file; name a folder")
        self.folder = folder
        self._failed = folder / "failed"
        self._plans = folder / "plans"
        self._replicates = folder / "replicates"

    def write(self, result: Result) -> None:
        """Store a result. A valid done one that is there already is kept; failures give way to a later success."""
        key = result.job.key
        if self.read(key) is None:
            if result.replicates is not None:  # first: whoever sees the record finds them
                self._write_replicates(key, result.replicates)
            folder = self.folder if result.status == "done" else self._failed
            write_text(folder / f"{key}.json", dump(_plain(result)))
            if result.status != "done":
                return
        with suppress(FileNotFoundError):
            (self._failed / f"{key}.json").unlink()

    def read(self, key: str) -> Result | None:
        """Return the done result of the job `key`; a damaged file is reported, deleted and counts as missing."""
        return _read(self.folder / f"{key}.json", done=True)

    def has(self, key: str) -> bool:
        """Return whether `read` would return a result, where the checksum tells without a look at the content."""
        path = self.folder / f"{key}.json"
        return bool(_load(path, lambda text: (intact(text) and _own(key) in text) or _parse(_record(text), key, True)))

    def outcome(self, key: str) -> Result | None:
        """Return what is known of the job `key`: its done result, else its failure."""
        return self.read(key) or _read(self._failed / f"{key}.json", done=False)

    def done(self) -> set[str]:
        """Return the keys of all done jobs, without reading their results."""
        return _keys(self.folder)

    def failures(self) -> list[Result]:
        """Return every failed and skipped result of a job that is not done."""
        found = (_read(self._failed / f"{key}.json", done=False) for key in _keys(self._failed) - self.done())
        return [result for result in found if result]

    def forget_failures(self, keys: Collection[str]) -> None:
        """Delete the failures of jobs that are tried again."""
        for key in _keys(self._failed).intersection(keys):
            (self._failed / f"{key}.json").unlink(missing_ok=True)

    def replicates(self, key: str) -> NDArray[np.float32] | None:
        """Return the bootstrap replicates (metrics, R) of the job `key`, or None; a damaged file is reported and deleted."""
        return _load(self._replicates / f"{key}.npy", _parse_replicates, "no differences are tested with it")

    def _write_replicates(self, key: str, found: NDArray[np.float32]) -> None:
        content = io.BytesIO()  # into a file, numpy does not say why it cannot write
        np.save(content, found, allow_pickle=False)
        with replacing(self._replicates / f"{key}.npy") as temporary:
            temporary.write_bytes(content.getbuffer())

    def all(self) -> list[Result]:
        """Return every done, failed and skipped result, in an order that does not depend on when they were run."""
        found = [*map(self.read, self.done()), *self.failures()]
        return [result for _, result in sorted(((_order(r), r) for r in found if r), key=itemgetter(0))]

    def maps(self, key: str) -> Path:
        """Return the folder for pictures of the job `key`."""
        return self.folder / "maps" / key

    def write_plan(self, name: str, jobs: Sequence[Job], command: str = "") -> None:
        """Store what the sweep `name` is going to run and the command that asked for it, in place of its earlier plan."""
        path = self._plans / f"{re.sub(r'[^0-9A-Za-z_-]+', '_', name)}.json"
        write(path, partial(_plan_pieces, {job.key: job for job in jobs}, command))

    def planned(self) -> list[Job]:
        """Return the jobs of all plans, each once."""
        plans = [_load(path, _parse_plan) or {} for path in self._plan_files()]
        return list({key: job for plan in plans for key, job in plan.items()}.values())

    def commands(self) -> list[str]:
        """Return the command behind each plan that knows it, each once."""
        found = [_load(path, _command) for path in self._plan_files()]
        return [command for command in dict.fromkeys(found) if command]

    def _plan_files(self) -> list[Path]:
        return sorted(self._plans.glob("*.json"))


def _keys(folder: Path) -> set[str]:
    try:
        names = os.listdir(folder)  # noqa: PTH208  as paths, a hundred thousand take a second
    except (FileNotFoundError, NotADirectoryError):
        return set()
    except OSError as error:
        raise DataError(f"cannot list {folder}: {error.strerror}; make it readable") from error
    return {name[:-5] for name in names if _NAME.fullmatch(name)}


def _order(result: Result) -> tuple[str | int, ...]:
    job = result.job
    return (
        job.dataset,
        job.category,
        job.backbone,
        job.weights,
        job.image_size,
        job.layer,
        job.detector,
        job.seed,
        job.key,
    )


def _read(path: Path, done: bool) -> Result | None:
    return _load(path, lambda content: _result(content, path.stem, done))


def _result(content: bytes, key: str, done: bool) -> Result:
    """Return the result in a file; one that fits its checksum is as it was written, so that nothing else is checked."""
    if not (intact(content) and _own(key) in content):
        return _parse(loads(content), key, done)
    record = loads(content)
    _check_schema(record)
    result = Result.from_record(record)
    if (result.status == "done") != done:
        raise ValueError("its outcome is not valid")
    vars(result.job)["key"] = key  # to hash the job anew takes longer than the rest
    return result


def _own(key: str) -> bytes:
    return f'"key": "{key}"'.encode()


def _load(path: Path, parse: Callable[[bytes], T], consequence: str = "its job counts as not run") -> T | None:
    """Return what `parse` makes of the content of `path`, or None if there is no such file or it had to be deleted."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}; make it readable or delete it") from error
    try:
        return parse(content)
    except (ValueError, KeyError, TypeError, AttributeError, EOFError, MemoryError, RecursionError) as error:
        _LOG.warning("deleted the damaged file %s (%s); %s", path, error, consequence)
        with suppress(OSError):  # a folder that is only readable can still be reported on
            path.unlink()
        return None


def _parse(record: Any, key: str, done: bool) -> Result:
    _check_schema(record)
    result = Result.from_record(record)
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


def _plan_pieces(jobs: dict[str, Job], command: str) -> Iterator[str]:
    """Yield the text of a plan, job by job: the whole of it would be several times as large as the jobs."""
    encode = json.JSONEncoder(sort_keys=True).encode
    yield f'"command": {encode(command)}, "jobs": {{'
    for index, key in enumerate(sorted(jobs)):
        yield f'{", " if index else ""}"{key}": {encode(jobs[key].record())}'
    yield f'}}, "schema": {SCHEMA}}}\n'


def _parse_plan(content: bytes) -> dict[str, Job]:
    trusted, record = intact(content), loads(content)
    _check_schema(record)
    jobs = {key: Job(**job | {"layers": tuple(job["layers"])}) for key, job in record["jobs"].items()}
    for key, job in jobs.items() if trusted else ():
        vars(job)["key"] = key  # to hash the jobs anew takes longer than the rest
    return jobs


def _command(content: bytes) -> str:
    first = _COMMAND.match(content) if intact(content) else None  # the jobs behind it may be many
    return str(loads(first[1])) if first else str(_record(content).get("command", ""))


def _parse_replicates(content: bytes) -> NDArray[np.float32]:
    found = np.load(io.BytesIO(content), allow_pickle=False)
    if found.dtype != np.float32 or found.ndim != 2 or len(found) != len(ORDER):
        raise ValueError(f"{found.dtype} of shape {found.shape}, not float32 of {len(ORDER)} metrics")
    return np.asarray(found)


def _check_schema(record: Any) -> None:
    if record["schema"] != SCHEMA:
        raise ValueError(f"schema version {record['schema']}, not {SCHEMA}")


def _plain(result: Result) -> dict[str, Any]:
    """Return the record as JSON can hold it: numpy values as Python's, infinities and NaN as null. Never the job's part."""
    record = result.record()
    outcome = {name: simple(record[name]) for name in ("metrics", "cost", "environment", "details")}
    return record | outcome | {"schema": SCHEMA}


def _record(content: bytes) -> Any:
    intact(content)
    return loads(content)
