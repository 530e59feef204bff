"""A sweep: a specification becomes jobs, jobs become groups that share a forward pass, groups become results."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import accumulate, groupby, product
from pathlib import Path

from adbench.datasets.check import split_fingerprint
from adbench.errors import AdbenchError, WeightsError
from adbench.extraction import Network
from adbench.kept_maps import keep_maps
from adbench.layers import Description, describe
from adbench.memory import ADVICE, out_of_memory
from adbench.models import make_detector
from adbench.pipeline import Inputs, UnsupportedError, Workplace, assess, entry_key, features, fit, job_for, layer_times
from adbench.results import ResultStore
from adbench.running import group_name, sign
from adbench.spec import Spec
from adbench.store import EntryKey
from adbench.types import Job, OnStep, Result, digest, ignore_step
from adbench.weights import Weights, resolve

log = logging.getLogger("adbench")
NO_WEIGHTS = "missing"


@dataclass(frozen=True)
class Group:
    """Jobs that share one backbone with its weights, one category and one input size: one forward pass per image."""

    inputs: Inputs
    network: Network
    jobs: tuple[Job, ...]
    fields: dict[str, int]  # analytic receptive field of each layer, in input pixels, where it is known
    keep_maps: int = 0  # pictures to keep of each job: so many best, worst and false alarms
    cache_limit: int | None = None  # bytes of features beyond which the group's are deleted when it is finished

    @property
    def title(self) -> str:
        job = self.jobs[0]
        return f"{job.category} {job.backbone} {job.weights} {job.image_size} px"

    def field(self, job: Job) -> int | None:
        """Return the receptive field of a job's layers in input pixels: the largest of them, None if one is not known."""
        known = [self.fields[layer] for layer in job.layers if layer in self.fields]
        return max(known) if len(known) == len(job.layers) else None


@dataclass(frozen=True)
class Plan:
    """All groups of a sweep, and the jobs that cannot run, each with its reason and remedy."""

    name: str
    groups: tuple[Group, ...]
    skipped: tuple[Result, ...]

    @property
    def jobs(self) -> list[Job]:
        return [job for group in self.groups for job in group.jobs] + [result.job for result in self.skipped]

    @property
    def runnable(self) -> int:
        """How many jobs the groups hold."""
        return sum(len(group.jobs) for group in self.groups)

    def pending(self, results: ResultStore) -> Plan:
        """Return the plan without jobs that have a result."""
        return self.only(lambda job: not results.has(job.key))

    def only(self, wanted: Callable[[Job], bool]) -> Plan:
        """Return the plan without the jobs of its groups that are not `wanted`."""
        return self._keep(tuple(job for job in group.jobs if wanted(job)) for group in self.groups)

    def first(self, limit: int) -> Plan:
        """Return the plan cut to its first `limit` jobs."""
        starts = accumulate((len(group.jobs) for group in self.groups), initial=0)
        return self._keep(g.jobs[: max(0, limit - start)] for g, start in zip(self.groups, starts, strict=False))

    def keeping(self, maps: int, cache_limit: int | None = None) -> Plan:
        """Return the plan with so many maps kept of each job, and at most `cache_limit` bytes of finished features."""
        kept = (replace(group, keep_maps=maps, cache_limit=cache_limit) for group in self.groups)
        return replace(self, groups=tuple(kept))

    def _keep(self, jobs: Iterable[tuple[Job, ...]]) -> Plan:
        kept = (replace(group, jobs=left) for group, left in zip(self.groups, jobs, strict=True) if left)
        return replace(self, groups=tuple(kept))


def make_plan(
    spec: Spec, inputs: Sequence[Inputs], memo: Path, offline: bool = False, on_step: OnStep = ignore_step
) -> Plan:
    """Return all jobs of `spec` over the categories; `memo` is the folder that remembers traced backbones.

    Raises UsageError for unknown backbones, layers, weights, detectors and parameters. Missing weights skip their jobs.
    """
    groups: list[Group] = []
    skipped: list[Result] = []
    detectors = [(c, make_detector(c.name, c.params, seed)) for c, seed in product(spec.detectors, spec.seeds)]
    for choice, label in ((c, label) for c in spec.backbones for label in c.weights or spec.weights):
        description = describe(choice.name, memo)
        layers = [parse_layers(text, description) for text in choice.layers or spec.layers or description.stages]
        fields = {layer.name: layer.field for layer in description.layers if layer.field}
        network, reason = _network(description, label, offline, on_step)
        for item, size in product(inputs, spec.image_sizes):
            rest = {"image_size": size, "eval_size": spec.eval_size, "dtype": spec.dtype, "pro_limit": spec.pro_limit}
            cells = product(detectors, dict.fromkeys(layers))
            jobs = tuple(job_for(item, network, cell, d, canonical(c.name), **rest) for (c, d), cell in cells)
            if reason:
                skipped += [Result(job, "skipped", reason) for job in jobs]
            else:
                groups.append(Group(item, network, jobs, fields))
    names = [item.category.name for item in inputs]
    return Plan(digest([asdict(spec), names]), tuple(sorted(groups, key=_order)), tuple(skipped))


def canonical(detector: str) -> str:
    """Return a detector's registered name."""
    from adbench.detectors import DETECTORS

    return DETECTORS.canonical(detector)


def _order(group: Group) -> tuple[str, str]:
    """Categories one after the other: decoded files stay in the system's cache."""
    return (group.inputs.category.dataset, group.inputs.category.name)


def parse_layers(text: str, description: Description) -> tuple[str, ...]:
    """Return the layers that `A` or `A+B` names, in the order of the graph; raise UsageError for an unknown one."""
    names = {description.layer(part.strip()).name for part in text.split("+")}
    return tuple(layer.name for layer in description.layers if layer.name in names)


def _network(description: Description, label: str, offline: bool, on_step: OnStep) -> tuple[Network, str | None]:
    name = description.backbone
    try:
        return Network(name, resolve(name, label, offline=offline, on_step=on_step)), None
    except WeightsError as error:
        return Network(name, Weights(label, NO_WEIGHTS, (), (), None)), str(error)


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


def by_status(results: Sequence[Result]) -> dict[str, int]:
    """Return how many results are done, skipped and failed."""
    counts = {status: len(list(group)) for status, group in groupby(sorted(r.status for r in results))}
    return {status: counts.get(status, 0) for status in ("done", "skipped", "failed")}
