"""Why jobs have no result: each reason once, with the jobs that share it."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from adbench.types import Job

_AXES = ("category", "backbone", "weights", "layer", "image_size", "tile", "overlap", "detector", "shots", "rotations",
         "shift", "seed")  # fmt: skip
_MOST_VALUES = 6  # of an axis that are named


def by_reason(found: Iterable[tuple[Job, str | None]], among: Sequence[Job]) -> list[dict[str, Any]]:
    """Return {reason, jobs, cells} for each reason, the one with most jobs first; `among` are all jobs.

    cells: the values of each axis in which these jobs are fewer than all, e.g. {"weights": ["moco"]}. An axis whose values
    follow from those of the axes before it is absent.
    """
    jobs: dict[str, list[Job]] = {}
    for job, reason in found:
        jobs.setdefault(reason or "no reason was recorded", []).append(job)
    ordered = sorted(jobs.items(), key=lambda item: -len(item[1]))
    return [{"reason": reason, "jobs": len(those), "cells": _cells(those, among)} for reason, those in ordered]


def _cells(jobs: Sequence[Job], among: Sequence[Job]) -> dict[str, list[Any]]:
    cells = {}
    for axis in _AXES:
        values = _values(jobs, axis)
        if len(values) < len(_values(among, axis)):
            cells[axis] = values
            among = [job for job in among if getattr(job, axis) in values]
    return cells


def _values(jobs: Sequence[Job], axis: str) -> list[Any]:
    return list(dict.fromkeys(getattr(job, axis) for job in jobs))


def sentence(entry: Mapping[str, Any], what: str) -> str:
    """Return an entry of `by_reason` in words: how many jobs, which cells, what became of them, and why."""
    cells = "; ".join(f"{axis.replace('_', ' ')} {_listed(values)}" for axis, values in entry["cells"].items())
    count = f"{entry['jobs']} job{'s' * (entry['jobs'] != 1)}{f' ({cells})' if cells else ''}"
    return f"{count} {what}: {entry['reason']}"


def _listed(values: Sequence[Any]) -> str:
    more = len(values) - _MOST_VALUES
    return ", ".join(map(str, values[:_MOST_VALUES])) + (f" and {more} more" if more > 0 else "")
