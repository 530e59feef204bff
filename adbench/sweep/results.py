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
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from operator import itemgetter
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from adbench.core.errors import DataError
from adbench.core.files import replacing, write_text
from adbench.metrics import ORDER
from adbench.sweep.records import SCHEMA, Later, belongs, check_schema, compact, intact, members, parse, text_of, write
from adbench.types import Job, Result

T = TypeVar("T")
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
            write_text(folder / f"{key}.json", text_of(result))
            if result.status != "done":
                return
        with suppress(FileNotFoundError):
            (self._failed / f"{key}.json").unlink()

    def read(self, key: str) -> Result | None:
        """Return the done result of the job `key`; a damaged file is reported, deleted and counts as missing."""
        return self._read(self.folder, key)

    def has(self, key: str) -> bool:
        """Return whether `read` would return a result, where the checksum tells without a look at the content."""
        path = self.folder / f"{key}.json"
        return bool(_load(path, lambda content: belongs(content, key)))

    def outcome(self, key: str) -> Result | None:
        """Return what is known of the job `key`: its done result, else its failure."""
        return self.read(key) or self._read(self._failed, key)

    def done(self) -> set[str]:
        """Return the keys of all done jobs, without reading their results."""
        return _keys(self.folder)

    def failures(self, known: Mapping[str, Job] = MappingProxyType({})) -> list[Result]:
        """Return every failed and skipped result of a job that is not done; `known` as in `all`."""
        found = (self._read(self._failed, key, known) for key in _keys(self._failed) - self.done())
        return [result for result in found if result]

    def _read(self, folder: Path, key: str, known: Mapping[str, Job] = MappingProxyType({})) -> Result | None:
        return _load(folder / f"{key}.json", lambda text: parse(text, key, folder is self.folder, known))

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

    def all(self, planned: Iterable[Job] = ()) -> list[Result]:
        """Return every done, failed and skipped result, in an order that does not depend on when they were run.

        Results of jobs that are `planned` are about the very same objects, so that a job is held once. 100,000 fit into memory.
        """
        known = {job.key: job for job in planned}
        done = (self._read(self.folder, key, known) for key in self.done())
        found = [*(self._without_details(result) for result in done if result), *self.failures(known)]
        return [result for _, result in sorted(((_order(r), r) for r in found), key=itemgetter(0))]

    def _without_details(self, result: Result) -> Result:
        """Let a result's details be read again when they are looked into: they are most of it, and few reports do."""
        known = {"receptive_field": result.receptive_field}  # every report looks for it
        vars(result).update(known, details=Later(self._details, result.job.key))  # just read: nobody has it yet
        return result

    def _details(self, key: str) -> Mapping[str, Any]:
        result = self.read(key)
        if result is None:
            raise DataError(f"the result {key} vanished from {self.folder} while it was reported on; run the command again")
        return result.details

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
    return (job.dataset, job.category, job.backbone, job.weights, job.image_size, job.layer, job.detector, job.seed, job.key)


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


def _plan_pieces(jobs: dict[str, Job], command: str) -> Iterator[str]:
    """Yield the text of a plan, job by job: the whole of it would be several times as large as the jobs."""
    encode = json.JSONEncoder(sort_keys=True).encode
    yield f'"command": {encode(command)}, "jobs": {{'
    for index, key in enumerate(sorted(jobs)):
        yield f'{", " if index else ""}"{key}": {encode(jobs[key].record())}'
    yield f'}}, "schema": {SCHEMA}}}\n'


def _parse_plan(content: bytes) -> dict[str, Job]:
    if not intact(content):
        record = json.loads(content)
        check_schema(record)
        return {key: _planned(job) for key, job in record["jobs"].items()}
    check_schema(json.loads(b"{" + content[content.rindex(b'"schema"') :]))
    jobs = {}
    for key, job in members(content, "jobs"):
        jobs[key] = _planned(job)
        vars(jobs[key])["key"] = key  # to hash the jobs anew takes longer than the rest
    return jobs


def _planned(record: dict[str, Any]) -> Job:
    return Job(**compact(record) | {"layers": tuple(record["layers"])})


def _command(content: bytes) -> str:
    first = _COMMAND.match(content) if intact(content) else None  # the jobs behind it may be many
    return str(json.loads(first[1])) if first else str(_record(content).get("command", ""))


def _parse_replicates(content: bytes) -> NDArray[np.float32]:
    found = np.load(io.BytesIO(content), allow_pickle=False)
    if found.dtype != np.float32 or found.ndim != 2 or len(found) < len(ORDER):
        raise ValueError(f"{found.dtype} of shape {found.shape}, not float32 of {len(ORDER)} metrics")
    return np.asarray(found)


def _record(content: bytes) -> Any:
    intact(content)
    return json.loads(content)
