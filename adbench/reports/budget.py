"""Rows that are too slow or take too much memory, left out of everything that a report shows."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from adbench.core.errors import DataError
from adbench.reports.tables import choices
from adbench.types import Job, Result


@dataclass(frozen=True)
class Budget:
    """The most that a row may take: median milliseconds of one image, megabytes at the peak of any of its jobs."""

    latency_ms: float | None = None
    memory_mb: float | None = None


def latency_ms(results: Sequence[Result]) -> float | None:
    """Return the mean over jobs of the median latency of one image; None if none was measured."""
    known = [value for r in results if (value := r.cost.get("latency_ms")) is not None]
    return fmean(known) if known else None


def memory_mb(results: Sequence[Result]) -> float | None:
    """Return the largest peak of any job, of the process or of the accelerator; None if none was measured."""
    keys = ("peak_memory_mb", "accelerator_memory_mb")
    return max((value for r in results for key in keys if (value := r.cost.get(key)) is not None), default=None)


def within(budget: Budget, results: Sequence[Result], planned: Sequence[Job]) -> tuple[list[Result], list[Job], list[str]]:
    """Return the results and planned jobs of the rows that fit, and a note that counts those that do not.

    A row is all that differs in category and seed alone. What was not measured does not fit. Raises DataError if none does.
    """
    rows = defaultdict(list)
    for result in results:
        rows[_row(result.job)].append(result)
    reasons = {row: _reason(budget, [r for r in rows[row] if r.status == "done"]) for row in {*rows, *map(_row, planned)}}
    counts = Counter(reason for reason in reasons.values() if reason)
    counted = ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items()))
    if None not in reasons.values():
        raise DataError(f"no row is left: {counted}; raise --max-latency or --max-memory")
    notes = [f"{counts.total()} of {len(reasons)} rows left out: {counted}"] if counts else []
    kept = [result for result in results if reasons[_row(result.job)] is None]
    return kept, [job for job in planned if reasons[_row(job)] is None], notes


def _row(job: Job) -> tuple[Any, ...]:
    return choices(job, without=("category", "seed"))


def _reason(budget: Budget, done: Sequence[Result]) -> str | None:
    """Return why a row does not fit, or None."""
    latency, memory = latency_ms(done), memory_mb(done)
    if budget.latency_ms is not None and (latency is None or latency > budget.latency_ms):
        return "of unknown latency" if latency is None else f"slower than {budget.latency_ms:g} ms per image"
    if budget.memory_mb is not None and (memory is None or memory > budget.memory_mb):
        return "of unknown memory" if memory is None else f"above {budget.memory_mb:g} MB at the peak"
    return None
