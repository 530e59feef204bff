"""The results folder: one immutable JSON file per finished job, failures in a folder of their own, and the plans of sweeps.

FOLDER/KEY.json is a finished job, FOLDER/replicates/KEY.npy its bootstrap replicates, FOLDER/influence/KEY.npy the influence
values of its test images, FOLDER/failed/KEY.json a job that failed or was skipped, FOLDER/plans/NAME.jsonl the jobs of a
sweep. Every file is written beside its place and renamed, so the folder can be read while sweeps write to it.
"""

import io
import logging
import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import zip_longest
from operator import attrgetter
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray

from adbench.core.errors import DataError
from adbench.core.files import replacing, write_text
from adbench.sweep.records import (
    NO_JOBS,
    SCHEMA,
    NewerVersionError,
    dump,
    is_finished,
    plain,
    plan_lines,
    read_command,
    read_plan,
    read_result,
)
from adbench.types import Job, Result

T = TypeVar("T")
_NAME = re.compile(r"[0-9a-f]{20}\.json")  # other files in the folder belong to the user
_LOG = logging.getLogger("adbench")
_NO_PLAN = "run its sweep again to write the plan anew"
_ORDER = attrgetter(*map("job.{}".format, ("dataset", "category", "backbone", "weights")))
_REST = attrgetter(*map("job.{}".format, ("layer", "detector", "seed", "key")))


def _order(result: Result) -> tuple[Any, ...]:
    """Return the sort key of a result; sizes that are numbers come first."""
    size = result.job.image_size
    return (_ORDER(result), (size, "") if isinstance(size, int) else (1 << 30, size), result.job.tile, _REST(result))


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
            outcome = {name: plain(record[name]) for name in ("metrics", "cost", "environment", "details")}
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
        return bool(_load(self.folder / f"{key}.json", lambda file: is_finished(file.read(), key)))

    def outcome(self, key: str) -> Result | None:
        """Return the result of the job `key` if it is finished, else its failure, else None."""
        return self.read(key) or self._read(self._failed, key)

    def done(self) -> set[str]:
        """Return the keys of all finished jobs, without reading their results."""
        return _keys(self.folder)

    def failures(self, known: Mapping[str, Job] = NO_JOBS) -> list[Result]:
        """Return every failed and skipped result of a job that is not finished, on the Job objects in `known`."""
        found = (self._read(self._failed, key, known) for key in _keys(self._failed) - self.done())
        return [result for result in found if result]

    def _read(self, folder: Path, key: str, known: Mapping[str, Job] = NO_JOBS, without_details: bool = False) -> Result | None:
        details = self._details if without_details else None
        path, done = folder / f"{key}.json", folder is self.folder
        return _load(path, lambda file: read_result(file.read(), key, done, known, details))

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
        earlier = _load(old, read_plan)
        # a finished folder may be read-only: nothing is written without need
        if earlier is not None and own.keys() == {job.key for job in earlier}:
            return
        if not _has_lines(path, plan_lines(own, command)):
            with replacing(path) as temporary, temporary.open("w", encoding="ascii", newline="") as file:
                file.writelines(plan_lines(own, command))
        with suppress(OSError):
            old.unlink(missing_ok=True)

    def planned(self) -> list[Job]:
        """Return the jobs of all plans, each once."""
        found = (_load(path, read_plan, _NO_PLAN) or () for path in self._plan_files())
        return list({job.key: job for jobs in found for job in jobs}.values())

    def commands(self) -> list[str]:
        """Return the command behind each plan that knows it, each once."""
        found = (_load(path, read_command, _NO_PLAN) for path in self._plan_files())
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
    """Return what `parse` makes of a file, or None if there is no such file or it was damaged and set aside."""
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
        done = "left as"
        with suppress(OSError):  # a read-only folder can still be reported on
            path = path.replace(path.with_name(f"{path.name}.damaged"))
            done = "set aside as"
        _LOG.warning("%s %s: damaged (%s); %s", done, path, error, consequence)
        return None


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
