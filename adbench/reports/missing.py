"""The lines below a table: what failed or was skipped and why, what has not run, which metrics are undefined."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from adbench.reports.keys import Entry
from adbench.reports.means import Mean
from adbench.types import Job, Result


def partial_note(means: Iterable[Iterable[Mean]]) -> list[str]:
    """Return what a number with a share behind it means, if there is one."""
    partial = any(mean.share and mean.text != mean.number for row in means for mean in row)
    return ["a number with (n/N) is over n of N planned categories (or jobs) and is not ranked"] if partial else []


def missing_notes(found: Sequence[Entry], superseded: int) -> list[str]:
    """Return one line per reason why something is missing, failures first; none if nothing is."""
    results = [entry.result for entry in found if entry.result]
    notes = [*_unfinished(results, "failed"), *_unfinished(results, "skipped")]
    if waiting := len(found) - len(results):
        notes.append(f"{waiting} of {len(found)} planned jobs not run yet")
    notes += _undefined(results)
    if superseded:
        notes.append(
            f"{_count(superseded, 'result')} of older data, weights or methods left out: the plan has newer jobs"
        )
    return notes


def _unfinished(results: Iterable[Result], status: str) -> list[str]:
    grouped: dict[str, list[Job]] = defaultdict(list)
    for result in results:
        if result.status == status:
            grouped[_line(result.reason)].append(result.job)
    largest_first = sorted(grouped.items(), key=lambda item: -len(item[1]))
    return [f"{_count(len(jobs), 'job')} {status}: {reason} ({_example(jobs)})" for reason, jobs in largest_first]


def _undefined(results: Iterable[Result]) -> list[str]:
    grouped: dict[tuple[str, str], list[Job]] = defaultdict(list)
    for result in results:
        names = ", ".join(sorted(name for name, value in result.metrics.items() if value is None))
        if names and result.status == "done":
            grouped[names, _line(result.reason)].append(result.job)
    return [
        f"{names} undefined in {_count(len(jobs), 'job')}: {reason} ({_example(jobs)})"
        for (names, reason), jobs in sorted(grouped.items(), key=lambda item: -len(item[1]))
    ]


def _line(reason: str | None) -> str:
    return " ".join((reason or "no reason given").split())


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _example(jobs: Sequence[Job]) -> str:
    job = jobs[0]
    words = (job.dataset, job.category, job.backbone, job.weights, job.layer, job.image_size, job.detector)
    return f"{'e.g. ' if len(jobs) > 1 else ''}{' '.join(map(str, words))}, seed {job.seed}"
