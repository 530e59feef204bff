"""The cost of a sweep, group by group: counts, and seconds and bytes from short trials on this machine."""

from __future__ import annotations

import math
import platform
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.stride_tricks import as_strided

from adbench.backbones.layers import Field, describe, map_shapes
from adbench.core.environment import accelerator_memory_mb, library_versions, memory_bytes, peak_memory_mb, reset_peak_memory
from adbench.core.errors import DetectorError
from adbench.core.memo import Memo
from adbench.data.pixels import read_pixels, read_turned
from adbench.detectors import Detector, make_detector
from adbench.features.extraction import BYTES_PER_PIXEL, DEVICE_BATCH, HOST_BATCH, decoded_bytes
from adbench.features.feature_maps import FeatureMaps, Shape
from adbench.features.latency import BUDGET_S
from adbench.features.runtime import Runtime
from adbench.features.tiling import Tiling
from adbench.features.view import View
from adbench.metrics.support.held_out import fitted_to
from adbench.sweep.job_features import device_name, entry_keys, layer_times, tiling_of, views_of
from adbench.sweep.pipeline import measure_scores
from adbench.sweep.plan import Group, Plan
from adbench.sweep.reasons import by_reason, sentence
from adbench.types import ALL, Job, Scores, Size

_TRIAL_S = 0.7
_FIRST_PHASE_S = 5.0  # the first phase of a fit, e.g. reading all features, is run to its end if it is this short
SCORED = DECODED = 4  # images whose scores and whose decoding are timed
MAPS = 3  # peak memory of the metrics, as a multiple of the maps on the evaluation grid


@dataclass(frozen=True)
class Cost:
    """Seconds of a fit and of one image's score, and bytes beyond the idle process; `reason` says why a fit is impossible."""

    fit_s: float = 0.0
    score_s: float = 0.0  # 0 after a fit that was stopped: scoring is fast compared with it
    memory_bytes: int = 0
    accelerator_bytes: int = 0
    reason: str | None = None


class _EnoughError(Exception):
    """Ends a fit that has run for long enough."""


class _Watch:
    """Takes the progress of a fit, and ends it when the rest can be extrapolated. A new count of steps begins a new phase."""

    def __init__(self) -> None:
        self.started = self.phase = time.perf_counter()
        self.first, self.done, self.total, self.rest_s, self.phases = 0, 0, 0, 0.0, 0

    def __call__(self, done: int, total: int, note: str) -> None:
        now = time.perf_counter()
        if total != self.total or done < self.done:
            self.phase, self.first, self.total, self.phases = now, done, total, self.phases + 1
        self.done = done
        if now - self.phase > _TRIAL_S and self.first < done < total:
            rest_s = (total - done) * (now - self.phase) / (done - self.first)
            if self.phases > 1 or rest_s > _FIRST_PHASE_S:
                self.rest_s = rest_s
                raise _EnoughError


def probe(detector: Detector, shapes: Sequence[Shape], train: int, device: torch.device, memo: Path) -> Cost:
    """Return the cost of `detector` on the features of `train` images of these shapes; the folder `memo` remembers it."""
    machine = (platform.node(), device_name(device), torch.get_num_threads(), library_versions())
    kind = (type(detector).__name__, asdict(detector), detector.revision)
    question = [str(kind), shapes, train, machine]
    return Cost(**Memo(memo / "costs.json").answer(question, lambda: asdict(try_out(detector, made_up(shapes, train), device))))


def try_out(detector: Detector, features: FeatureMaps, device: torch.device) -> Cost:
    """Return the cost of a detector on features; a fit is stopped after a moment and extrapolated."""
    reset_peak_memory()
    rest, watch, score_s = peak_memory_mb(), _Watch(), 0.0
    try:
        detector.fit(features, device=device, on_step=watch)
        fitted = time.perf_counter()
        few = features.part(slice(0, SCORED))
        detector.score(few, device=device)
        score_s = (time.perf_counter() - fitted) / len(few)
    except _EnoughError:
        fitted = time.perf_counter()
    except DetectorError as error:
        return Cost(reason=str(error))
    growth = max(0, int(1e6 * (peak_memory_mb() - rest)))
    needed = max(growth, detector.memory_bytes(len(features), features.shapes))
    return Cost(fitted - watch.started + watch.rest_s, score_s, needed, int(1e6 * (accelerator_memory_mb() or 0)))


def made_up(shapes: Sequence[Shape], count: int) -> FeatureMaps:
    """Return noise as features of `count` images: overlapping windows of one small array, all patches different."""
    maps = []
    for shape in shapes:
        cells = shape[1] * shape[2]
        step = cells + 1  # more than a channel's cells, so that windows of two images never coincide at the same channel
        noise = np.random.default_rng(0).normal(size=(count - 1) * step + math.prod(shape)).astype(np.float16)
        maps.append(as_strided(noise, (count, *shape), (2 * step, 2 * cells, 2 * shape[2], 2), writeable=False))
    return FeatureMaps(tuple(maps))


@dataclass(frozen=True)
class GroupForecast:
    """Counts of one group, and its seconds and bytes with one worker on this machine; `reasons`: why jobs are impossible."""

    group: str
    jobs: int
    forward_passes: int
    cache_bytes: int
    seconds: float
    memory_bytes: int
    accelerator_bytes: int
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Forecaster:
    """Forecasts groups; each trial is made once. memo: the folder that describes traced backbones.

    impossible: the jobs that were found not to fit, with the reason.
    """

    runtime: Runtime
    memo: Path
    trials: dict[object, float] = field(default_factory=dict)
    impossible: list[tuple[Job, str]] = field(default_factory=list)

    def counts(self, group: Group) -> tuple[int, int]:
        """Return a group's forward passes (images through the network) and the bytes that it adds to the cache."""
        passes, written = 0, 0
        first, tiling = group.jobs[0], self._tiling(group)
        for split, view in views_of(group):
            count, keys = len(group.inputs.split(split)) * view.copies, entry_keys(self.runtime, group, split, view)
            missing = [layer for layer, key in keys.items() if not self.runtime.cache.path(key).is_file()]
            passes += count * tiling.count if missing else 0
            cells = sum(map(math.prod, self._shapes(group, first, missing)))
            written += count * cells * (4 if first.dtype == "float32" else 2)
        return passes, written

    def group(self, group: Group) -> GroupForecast:
        """Return the forecast of one group: forward passes, then fit, scores, metrics and latency of each job."""
        passes, written = self.counts(group)
        costs = [self._job(group, job) for job in group.jobs]
        self.impossible.extend((job, c.reason) for job, c in zip(group.jobs, costs, strict=True) if c.reason)
        seconds = sum(self.job_seconds(group, job)[1] for job in group.jobs)
        seconds += sum(self.job_seconds(group, job)[0] for job in {job.unshifted.key: job for job in group.jobs}.values())
        if passes:
            seconds += passes * self._pass_s(group)
        pixels = max(sum(map(math.prod, _map_sizes(group, job.eval_size))) for job in group.jobs)
        maps = pixels * 4 * MAPS
        on_host, on_device = self._pass_bytes(self._tiling(group)) if passes else (0, 0)
        return GroupForecast(
            group.title, len(group.jobs), passes, written, seconds,
            int(1e6 * self._loaded_mb) + max([on_host, *(c.memory_bytes + maps for c in costs)]),
            max([on_device, *(c.accelerator_bytes for c in costs)]), tuple(dict.fromkeys(c.reason for c in costs if c.reason)),
        )  # fmt: skip

    @cached_property
    def _loaded_mb(self) -> float:
        return peak_memory_mb()  # of a process that has loaded everything

    def job_seconds(self, group: Group, job: Job) -> tuple[float, float]:
        """Return the seconds of a job's fit, and of its scores, metrics and latencies, without forward passes."""
        cost, tests = self._job(group, job), len(group.inputs.category.test)
        return cost.fit_s, tests * (cost.score_s + self._metrics_s(group, job)) + (BUDGET_S / 2 if tests else 0)

    def pass_seconds(self, group: Group) -> float:
        """Return the seconds of a group's forward passes."""
        passes, _ = self.counts(group)
        return passes * self._pass_s(group) if passes else 0.0

    def _job(self, group: Group, job: Job) -> Cost:
        shapes = self._shapes(group, job, job.layers)
        detector = make_detector(job.detector, job.params, seed=0)  # no cost depends on it
        if reason := detector.unsupported(shapes):
            return Cost(reason=reason)
        images = len(fitted_to(group.inputs, job).category.train) if job.shots == ALL else job.shots
        return probe(detector, shapes, images * View.of(job).copies, self.runtime.device, self.memo.parent / "probes")

    def _tiling(self, group: Group) -> Tiling:
        return tiling_of(self.runtime, group.network, group.inputs, View.of(group.jobs[0]))

    def _shapes(self, group: Group, job: Job, layers: Sequence[str]) -> list[Shape]:
        tiling = self._tiling(group)
        return [tiling.shape(s) for s in map_shapes(describe(job.backbone, self.memo), layers, tiling.inputs, self.memo)]

    def _pass_s(self, group: Group) -> float:
        """Return an input's seconds from its file through the network. On a CPU, decoding competes for the same threads."""
        first, few = group.jobs[0], group.inputs.category.train[:DECODED]
        tiling = self._tiling(group)
        times = layer_times(self.runtime, group.network, group.layers, tiling, first.dtype)
        forward = max(t.batched_ms for t in times.values()) / 1000
        read = partial(read_turned, degrees=45) if tiling.view.rotations else read_pixels
        key = ("decode", first.category, tiling.view.size, bool(tiling.view.rotations))
        if key not in self.trials:
            started = time.perf_counter()
            for sample in few:
                read(sample.path, tiling.view.size, tiling.view.crop, tiling.view.levels)
            self.trials[key] = (time.perf_counter() - started) / len(few)
        decode = self.trials[key] / torch.get_num_threads()
        seconds = forward + decode if self.runtime.device.type == "cpu" else max(forward, decode)
        return seconds / tiling.count

    def _metrics_s(self, group: Group, job: Job) -> float:
        """Return the seconds per test image of metrics, intervals and breakdowns, measured on noise."""
        key = ("metrics", job.category, job.eval_size)
        test = group.inputs.category.test
        if test and key not in self.trials:
            labels = group.inputs.labels(job.eval_size, job.crop)
            rng = np.random.default_rng(0)
            maps: Any = [rng.random(size, np.float32) for size in _map_sizes(group, job.eval_size)]
            scores = Scores(rng.random(len(test), np.float32), maps if job.eval_size == "native" else np.stack(maps))
            field = group.receptive_field(job) or Field(self._tiling(group).inputs[0])
            started = time.perf_counter()
            measure_scores(scores, labels, group.inputs, job, field)
            self.trials[key] = (time.perf_counter() - started) / len(test)
        return self.trials.get(key, 0.0)

    def _pass_bytes(self, tiling: Tiling) -> tuple[int, int]:
        """Return the most memory of a forward pass, on the host and on an accelerator."""
        pixels, images = math.prod(tiling.inputs), 0 if tiling.is_whole else decoded_bytes(tiling)
        if self.runtime.device.type == "cpu":
            return torch.get_num_threads() * max(HOST_BATCH, pixels) * BYTES_PER_PIXEL + images, 0
        return HOST_BATCH * BYTES_PER_PIXEL + images, max(DEVICE_BATCH, pixels) * BYTES_PER_PIXEL


def forecast(
    plan: Plan, runtime: Runtime, memo: Path, workers: int = 1, limit: int | None = None, among: Sequence[Job] = ()
) -> dict[str, Any]:
    """Return counts, seconds with so many workers, bytes, the forecast of each group, and obstacles, each with its remedy.

    cannot_run: the reasons for which jobs cannot run, see `by_reason`; those found here are obstacles, too.
    limit: bytes of the cache beyond which finished features are deleted. among: all jobs of the sweep, if the plan has fewer.
    """
    among = among or plan.jobs
    forecaster = Forecaster(runtime, memo)
    groups = []
    for number, group in enumerate(plan.groups):
        runtime.on_step(number, len(plan.groups), f"trying out {group.title}")
        groups.append(forecaster.group(group))
    used = max(1, min(workers, len(groups)))
    missing = by_reason([(result.job, result.reason) for result in plan.skipped], among)
    impossible = by_reason(forecaster.impossible, among)
    return {
        "groups": len(groups),
        "forward_passes": sum(group.forward_passes for group in groups),
        "cache_bytes": sum(group.cache_bytes for group in groups),
        "seconds": sum(group.seconds for group in groups) / used,
        "workers": used,
        "memory_bytes": sum(sorted((group.memory_bytes for group in groups), reverse=True)[:used]),
        "accelerator_bytes": max((group.accelerator_bytes for group in groups), default=0),
        "per_group": [asdict(group) for group in groups],
        "cannot_run": missing + impossible,
        "obstacles": [*_obstacles(groups, runtime, used, limit), *(sentence(entry, "cannot run") for entry in impossible)],
    }


def _obstacles(groups: Sequence[GroupForecast], runtime: Runtime, workers: int, limit: int | None) -> Iterator[str]:
    folder = runtime.cache.folder  # which need not exist yet
    free = shutil.disk_usage(next(parent for parent in (folder, *folder.parents) if parent.exists())).free
    written = sum(group.cache_bytes for group in groups)
    if limit is not None:
        written = min(written, limit + workers * max((group.cache_bytes for group in groups), default=0))
    if written > free:
        yield (
            f"cache {folder}: {_gb(written)} of features do not fit into the {_gb(free)} that are free; "
            "free some, name another folder by --cache, or delete finished features by --cache-limit SIZE"
        )
    needed, memory = sum(sorted((g.memory_bytes for g in groups), reverse=True)[:workers]), memory_bytes()
    if needed > memory:
        who, remedy = (f"{workers} workers need", "fewer --jobs") if workers > 1 else ("a job needs", "a smaller image_size")
        yield f"{who} up to {_gb(needed)} of memory, this machine has {_gb(memory)}; take {remedy}"
    if runtime.device.type == "cuda":
        needed = max((g.accelerator_bytes for g in groups), default=0)
        memory = torch.cuda.get_device_properties(runtime.device).total_memory
        if needed > memory:
            yield f"a job needs up to {_gb(needed)} of GPU memory, {runtime.device} has {_gb(memory)}; take a smaller image_size"


def _gb(count: float) -> str:
    return f"{count / 1e9:.1f} GB"


def _map_sizes(group: Group, size: Size) -> Sequence[tuple[int, int]]:
    """Return (height, width) of each test map on the evaluation grid."""
    return group.inputs.native_sizes(group.jobs[0].crop) if size == "native" else [(size, size)] * len(group.inputs.category.test)
