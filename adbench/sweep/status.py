"""The state of sweeps, read from their results folder alone: while they run, and from any machine."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from adbench.core.errors import DataError
from adbench.sweep.heartbeat import Heartbeat, group_name, heartbeats
from adbench.sweep.results import ResultStore
from adbench.types import Job

STATES = ("done", "running", "waiting", "skipped", "failed")


def status(results: ResultStore, jobs: Sequence[Job]) -> dict[str, Any]:
    """Return the number of jobs in each state, in all and by group, and the running workers.

    Raises DataError if there are no jobs.
    """
    if not jobs:
        raise DataError(f"no sweep in {results.folder}: it holds no plan; give --out the folder of the sweep")
    living = [found for _, found, lives in heartbeats(results.folder) if lives]
    states = {result.job.key: str(result.status) for result in results.failures()}
    states |= {found.job: "running" for found in living if found.job} | dict.fromkeys(results.done(), "done")
    groups: dict[str, list[Job]] = {}
    for job in sorted(jobs, key=lambda job: job.group):
        groups.setdefault(group_name(job), []).append(job)
    counts = {name: Counter(states.get(job.key, "waiting") for job in own) for name, own in groups.items()}
    return {
        "planned": len(jobs),
        **{state: sum(count[state] for count in counts.values()) for state in STATES},
        "out": str(results.folder),
        "workers": [_worker(found, groups[found.group]) for found in living if found.group in groups],
        "groups": [_facts(own[0]) | {state: counts[name][state] for state in STATES} for name, own in groups.items()],
    }


def _facts(job: Job) -> dict[str, Any]:
    return {name: getattr(job, name) for name in ("category", "backbone", "weights", "image_size")}


def _worker(found: Heartbeat, jobs: list[Job]) -> dict[str, Any]:
    running = next((job for job in jobs if job.key == found.job), None)
    now = {name: getattr(running, name, None) for name in ("layer", "detector", "seed")}
    return {"host": found.host, "pid": found.pid, "seconds": time.time() - found.started} | _facts(jobs[0]) | now
