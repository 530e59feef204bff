"""A budget of latency and memory: rows over it are excluded from everything that a report shows."""

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
    """The most that a row may take: median milliseconds per image, megabytes at the peak of any of its jobs."""

    latency_ms: float | None = None
    memory_mb: float | None = None

    def excess(self, done: Sequence[Result]) -> str | None:
        """Return why a row with these done results is over the budget, or None. Unmeasured costs count as over it."""
        latencies = [value for r in done if (value := r.cost.get("latency_ms")) is not None]
        if self.latency_ms is not None and not latencies:
            return "of unknown latency"
        if self.latency_ms is not None and fmean(latencies) > self.latency_ms:
            return f"slower than {self.latency_ms:g} ms per image"
        keys = ("peak_memory_mb", "accelerator_memory_mb")
        peaks = [value for r in done for key in keys if (value := r.cost.get(key)) is not None]
        if self.memory_mb is not None and not peaks:
            return "of unknown memory"
        if self.memory_mb is not None and max(peaks) > self.memory_mb:
            return f"above {self.memory_mb:g} MB at the peak"
        return None


def within(budget: Budget, results: Sequence[Result], planned: Sequence[Job]) -> tuple[list[Result], list[Job], list[str]]:
    """Return the results and planned jobs of the rows within the budget, and a note that counts the other rows.

    The jobs of a row differ only in category and seed. Raises DataError if no row is within the budget.
    """
    rows: dict[tuple[Any, ...], list[Result]] = defaultdict(list)
    for result in results:
        rows[_row(result.job)].append(result)
    excess = {row: budget.excess([r for r in rows[row] if r.status == "done"]) for row in {*rows, *map(_row, planned)}}
    counts = Counter(reason for reason in excess.values() if reason)
    counted = ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items()))
    if None not in excess.values():
        raise DataError(f"no row is left: {counted}; raise --max-latency or --max-memory")
    notes = [f"{counts.total()} of {len(excess)} rows left out: {counted}"] if counts else []
    kept = [result for result in results if excess[_row(result.job)] is None]
    return kept, [job for job in planned if excess[_row(job)] is None], notes


def _row(job: Job) -> tuple[Any, ...]:
    return choices(job, without=("category", "seed"))
