"""Jobs of two results folders that belong together."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adbench.errors import DataError
from adbench.reports.keys import Entry, entries
from adbench.reports.pivot import choices, current
from adbench.results import ResultStore
from adbench.types import Job, Result

Names = dict[str, set[str]]


@dataclass(frozen=True)
class Pair:
    """The same job in both folders; `entry` has its keys in words."""

    entry: Entry
    first: Result
    second: Result


@dataclass(frozen=True)
class Pairs:
    """Jobs done in both folders, and how many are not: `alone` = done in one only, by folder; `ignored` = parameters of one."""

    found: Sequence[Pair]
    alone: tuple[int, int]
    ignored: Sequence[str]


def match_jobs(first: Path, second: Path) -> Pairs:
    """Return the jobs that are done in both folders; raise DataError if there are none.

    Jobs belong together if a user chose the same: names of data, backbone, weights and detector, layer, sizes, seed, and every
    parameter that both folders' jobs of the detector have (a newer version may have more).
    """
    one, two = _done(first), _done(second)
    shared = _shared(one, two)
    ours, theirs = _by_choice(one, shared), _by_choice(two, shared)
    common = [key for key in ours if key in theirs]
    if not common:
        raise DataError(
            f"'{first}' and '{second}' have no job in common: none agrees in data set, category, backbone, weights, layer, "
            "sizes, detector, parameters and seed"
        )
    results = [_closest(ours[key], theirs[key]) for key in common]
    named = entries([(a.job, a) for a, _ in results])
    pairs = [Pair(entry, a, b) for entry, (a, b) in zip(named, results, strict=True)]
    return Pairs(pairs, (len(ours) - len(common), len(theirs) - len(common)), _unshared(one, two, shared))


def _done(folder: Path) -> list[Result]:
    store = ResultStore(folder)
    found, _ = current(store.all(), store.planned())
    done = [entry.done for entry in found if entry.done]
    if not done:
        raise DataError(f"no results in '{folder}': run 'adbench sweep' first, or name the folder that it wrote to")
    return done


def _shared(one: Sequence[Result], two: Sequence[Result]) -> Names:
    """Return the parameters that both folders know, by the detectors that both have."""
    ours, theirs = _names(one), _names(two)
    return {detector: ours[detector] & theirs[detector] for detector in ours if detector in theirs}


def _names(results: Sequence[Result]) -> Names:
    found: Names = defaultdict(set)
    for result in results:
        found[result.job.detector] |= set(result.job.params)
    return found


def _unshared(one: Sequence[Result], two: Sequence[Result], shared: Names) -> list[str]:
    both = [(detector, name) for names in (_names(one), _names(two)) for detector in names for name in names[detector]]
    return sorted(
        {f"{name} of {detector}" for detector, name in both if detector in shared and name not in shared[detector]}
    )


def _by_choice(results: Sequence[Result], shared: Names) -> dict[Any, list[Result]]:
    found: dict[Any, list[Result]] = defaultdict(list)
    for result in results:
        found[_choice(result.job, shared)].append(result)
    return found


def _choice(job: Job, shared: Names) -> tuple[Any, ...]:
    params = {name: value for name, value in job.params.items() if name in shared.get(job.detector, ())}
    return (json.dumps(params, sort_keys=True), *choices(job)[1:])


def _closest(ours: Sequence[Result], theirs: Sequence[Result]) -> tuple[Result, Result]:
    """Return a result of each side, of several those on the same state of data, weights and method, else the last."""

    def likeness(pair: tuple[Result, Result]) -> int:
        a, b = (result.job for result in pair)
        return (a.fingerprint == b.fingerprint) + (a.weights_sha256 == b.weights_sha256) + (a.revision == b.revision)

    return max([(a, b) for a in reversed(ours) for b in reversed(theirs)], key=likeness)
