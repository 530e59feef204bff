"""A sweep: a specification becomes jobs, jobs become groups that share a forward pass, groups become results."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from adbench.datasets.check import split_fingerprint
from adbench.errors import AdbenchError
from adbench.kept_maps import keep_maps
from adbench.memory import ADVICE, out_of_memory
from adbench.pipeline import UnsupportedError, assess, entry_key, features, fit, layer_times
from adbench.planning import Group
from adbench.results import ResultStore
from adbench.running import group_name, sign
from adbench.store import EntryKey
from adbench.types import Job, Result
from adbench.workplace import Workplace

log = logging.getLogger("adbench")


def measure(place: Workplace, group: Group, job: Job, maps: Path) -> Result:
    """Return the Result of one of the group's jobs, from features to metrics; pictures to be kept go into `maps`."""
    detector, cost = fit(place, group.network, group.inputs, job)
    result, scores = assess(place, group.network, group.inputs, job, detector, cost, group.field(job))
    if group.keep_maps and scores:
        masks = group.inputs.labels(job.eval_size).truth.masks
        keep_maps(maps, group.inputs.category.test, scores, masks, detector.smoothing, group.keep_maps)
    return result


Measure = Callable[[Workplace, Group, Job, Path], Result]


def run_group(place: Workplace, group: Group, results: ResultStore, run: Measure = measure) -> Iterator[Result]:
    """Extract what the group lacks in one pass, then run and write its jobs one by one, yielding each result.

    A job that another sweep has finished in the meantime is not run again: its result is yielded.
    """
    found = [(job, results.read(job.key)) for job in group.jobs]
    yield from (result for _, result in found if result)
    left = replace(group, jobs=tuple(job for job, result in found if result is None))
    if left.jobs:
        with sign(results.folder, group_name(left.jobs[0])) as at:
            yield from _run_rest(place, left, results, run, at)


def _run_rest(
    place: Workplace, group: Group, results: ResultStore, run: Measure, at: Callable[[str], None]
) -> Iterator[Result]:
    first, layers = group.jobs[0], list(dict.fromkeys(layer for job in group.jobs for layer in job.layers))
    try:
        for split in ("train", "test"):
            if group.inputs.split(split):
                features(place, group.network, group.inputs, split, layers, first.image_size, first.dtype)
        layer_times(place, group.network, layers, first.image_size, first.dtype)
    except Exception as error:
        log.debug("extraction failed", exc_info=True)
        yield from (_written(results, failure(job, error)) for job in group.jobs)
        return
    for index, job in enumerate(group.jobs):
        place.on_step(index, len(group.jobs), f"{job.detector} on {job.layer}")
        at(job.key)
        yield results.read(job.key) or _written(results, _attempt(place, group, job, results.maps(job.key), run))
    if group.cache_limit is not None:
        place.store.evict(_entry_keys(group, layers), group.cache_limit)


def _entry_keys(group: Group, layers: Sequence[str]) -> Iterator[EntryKey]:
    for split in ("train", "test"):
        images = split_fingerprint(group.inputs.split(split), group.inputs.facts)
        for layer in layers:
            yield entry_key(group.network, images, layer, group.jobs[0].image_size, group.jobs[0].dtype)


def _attempt(place: Workplace, group: Group, job: Job, maps: Path, run: Measure) -> Result:
    try:
        return run(place, group, job, maps)
    except UnsupportedError as error:
        return Result(job, "skipped", str(error))
    except Exception as error:  # one job's failure is a record, and the others go on
        log.debug("job failed", exc_info=True)
        return failure(job, error)


def failure(job: Job, error: Exception) -> Result:
    """Return the record of a job that ended in an error."""
    text = " ".join(str(error).split()) or type(error).__name__
    if out_of_memory(error):
        return Result(job, "failed", f"out of memory; {ADVICE} ({text[:200]})")
    return Result(job, "failed", text if isinstance(error, AdbenchError) else f"{type(error).__name__}: {text[:300]}")


def _written(results: ResultStore, result: Result) -> Result:
    results.write(result)
    return replace(result, replicates=None)
