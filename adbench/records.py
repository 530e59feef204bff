"""One result as the text of its file, and back. What was written by us and fits its checksum is taken as it is."""

import json
from collections.abc import Mapping
from typing import Any

from adbench.documents import compact, dump, intact, simple
from adbench.types import OUTCOME_FIELDS, Job, Result

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
