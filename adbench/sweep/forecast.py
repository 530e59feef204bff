"""What a sweep will cost, group by group: counted, and tried out for a moment on this machine."""

from __future__ import annotations

import math
import platform
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from adbench.backbones.layers import Description, describe
from adbench.core.environment import accelerator_memory_mb, forget_peaks, library_versions, memory_bytes, peak_memory_mb
from adbench.core.errors import DetectorError
from adbench.core.memo import Memo
from adbench.data.check import split_fingerprint
from adbench.data.pixels import read_pixels
from adbench.detectors import Detector, make_detector
from adbench.features.extraction import BYTES_PER_PIXEL, DEVICE_BATCH, HOST_BATCH
from adbench.features.feature_maps import FeatureMaps, Shape
from adbench.features.latency import BUDGET_S
from adbench.features.runtime import Runtime
from adbench.statistics.bootstrap import draw_replicates
from adbench.sweep.pipeline import entry_key, layer_times, measure_scores
from adbench.sweep.plan import Group, Plan
from adbench.types import Job, Scores, Size

_TRIAL_S = 0.7
SCORED = 4  # images whose scores are timed


@dataclass(frozen=True)
class Cost:
    """Seconds of a fit and of one image's score, bytes beyond those at rest; `reason` says why the fit cannot be."""

    fit_s: float = 0.0
    score_s: float = 0.0  # 0 where the fit was stopped: there it is small beside it
    memory_bytes: int = 0
    accelerator_bytes: int = 0
    reason: str | None = None


class _EnoughError(Exception):
    """Ends a fit that has been watched for long enough."""


class _Watch:
    """Listens to a fit: where its count of steps begins anew a phase begins."""

    def __init__(self) -> None:
        self.started = self.phase = time.perf_counter()
        self.first, self.done, self.total, self.rest_s = 0, 0, 0, 0.0

    def __call__(self, done: int, total: int, note: str) -> None:
        now = time.perf_counter()
        if total != self.total or done < self.done:
            self.phase, self.first, self.total = now, done, total
        self.done = done
        if now - self.started > _TRIAL_S and self.first < done < total:
            self.rest_s = (total - done) * (now - self.phase) / (done - self.first)
            raise _EnoughError


def probe(detector: Detector, shapes: Sequence[Shape], train: int, device: torch.device, memo: Path) -> Cost:
    """Return the cost of `detector` on `train` images' features of the shapes; kept in the folder `memo`."""
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    machine = (platform.node(), where, torch.get_num_threads(), library_versions())
    kind = (type(detector).__name__, asdict(detector), detector.revision)
    known = Memo(memo / "costs.json")
    question = [str(kind), shapes, train, machine]
    return Cost(**known.to(question, lambda: asdict(_tried(detector, made_up(shapes, train), device))))


def _tried(detector: Detector, features: FeatureMaps, device: torch.device) -> Cost:
    forget_peaks()
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
    """Return noise as features of `count` images: overlapping windows of few numbers, no two patches alike."""
    return FeatureMaps(tuple(_windows(shape, count) for shape in shapes))


def _windows(shape: Shape, count: int) -> NDArray[np.float16]:
    cells = shape[1] * shape[2]
    step = cells + 1  # more than a channel's cells: the windows of two images never meet at the same channel
    noise = np.random.default_rng(0).normal(size=(count - 1) * step + math.prod(shape)).astype(np.float16)
    strides = (2 * step, 2 * cells, 2 * shape[2], 2)
    return as_strided(noise, (count, *shape), strides, writeable=False)


DECODED = 4  # images whose decoding is timed
MAPS = 3  # times the memory of the maps on the evaluation grid


@dataclass(frozen=True)
class GroupForecast:
    """Counts of one group, and its seconds and bytes on one worker of this machine. `reasons`: of jobs that cannot be."""

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
    """Forecasts groups; `memo` is the folder of traced backbones. Each thing is tried out once, and kept in the cache."""

    runtime: Runtime
    memo: Path

    @cached_property
    def _trials(self) -> dict[object, float]:
        return {}

    def counts(self, group: Group) -> tuple[int, int]:
        """Return the forward passes (images through the network) of a group, and the bytes of cache to be written."""
        passes, written = 0, 0
        description, first = describe(group.network.backbone, self.memo), group.jobs[0]
        for split in ("train", "test"):
            samples = group.inputs.split(split)
            images = split_fingerprint(samples, group.inputs.facts)
            keys = {n: entry_key(group.network, images, n, first.image_size, first.dtype) for n in _layers(group)}
            missing = [n for n, key in keys.items() if samples and not self.runtime.store.path(key).is_file()]
            passes += len(samples) if missing else 0
            width = 4 if first.dtype == "float32" else 2
            cells = (np.prod(_shape(description, name, first.image_size)) for name in missing)
            written += sum(len(samples) * int(count) * width for count in cells)
        return passes, written

    def group(self, group: Group) -> GroupForecast:
        """Return the forecast of one group: its forward passes, then each job's fit, scores, metrics and latency."""
        passes, written = self.counts(group)
        costs = [self._job(group, job) for job in group.jobs]
        tests = len(group.inputs.category.test)
        jobs_s = sum(
            c.fit_s + tests * (c.score_s + self._metrics_s(group, job)) for c, job in zip(costs, group.jobs, strict=True)
        )
        if tests:
            jobs_s += len(group.jobs) * BUDGET_S / 2  # of latencies
        maps = max(_pixels(group, job.eval_size) for job in group.jobs) * 4 * MAPS
        on_host, on_device = self._pass_bytes(group.jobs[0].image_size) if passes else (0, 0)
        return GroupForecast(
            group.title, len(group.jobs), passes, written, passes * self._pass_s(group) + jobs_s if passes else jobs_s,
            int(1e6 * self._rest_mb) + max([on_host, *(c.memory_bytes + maps for c in costs)]),
            max([on_device, *(c.accelerator_bytes for c in costs)]), tuple(dict.fromkeys(c.reason for c in costs if c.reason)),
        )  # fmt: skip

    @cached_property
    def _rest_mb(self) -> float:
        """What a process that has loaded everything takes."""
        return peak_memory_mb()

    def _job(self, group: Group, job: Job) -> Cost:
        description = describe(job.backbone, self.memo)
        shapes = [_shape(description, layer, job.image_size) for layer in job.layers]
        detector = make_detector(job.detector, job.params, job.seed)
        if reason := detector.unsupported(shapes):
            return Cost(reason=reason)
        return probe(detector, shapes, len(group.inputs.category.train), self.runtime.device, self.memo.parent / "probes")

    def _pass_s(self, group: Group) -> float:
        """Seconds of an image from its file through the network; on a CPU decoding takes the same threads."""
        first = group.jobs[0]
        times = layer_times(self.runtime, group.network, _layers(group), first.image_size, first.dtype)
        forward = max(times.values(), key=lambda t: t.batched_ms).batched_ms / 1000
        decode = self._decode_s(group) / torch.get_num_threads()
        return forward + decode if self.runtime.device.type == "cpu" else max(forward, decode)

    def _decode_s(self, group: Group) -> float:
        size, few = group.jobs[0].image_size, group.inputs.category.train[:DECODED]
        key = ("decode", group.inputs.category.name, size)
        if key not in self._trials:
            started = time.perf_counter()
            for sample in few:
                read_pixels(sample.path, size)
            self._trials[key] = (time.perf_counter() - started) / len(few)
        return self._trials[key]

    def _metrics_s(self, group: Group, job: Job) -> float:
        """Seconds per test image of the metrics, their intervals and breakdowns, on made-up scores."""
        key = ("metrics", group.inputs.category.name, job.eval_size)
        test = group.inputs.category.test
        if test and key not in self._trials:
            labels = group.inputs.labels(job.eval_size)
            rng = np.random.default_rng(0)
            sizes = group.inputs.native_sizes() if job.eval_size == "native" else [(int(job.eval_size),) * 2] * len(test)
            maps: Any = [rng.random(size, np.float32) for size in sizes]
            scores = Scores(rng.random(len(test), np.float32), maps if job.eval_size == "native" else np.stack(maps))
            images = split_fingerprint(test, group.inputs.facts)
            draws = draw_replicates(images, labels.truth.anomalous, sources=group.inputs.sources)
            started = time.perf_counter()
            measure_scores(scores, labels, test, draws, job, group.field(job))
            self._trials[key] = (time.perf_counter() - started) / len(test)
        return self._trials.get(key, 0.0)

    def _pass_bytes(self, image_size: int) -> tuple[int, int]:
        """Return what forward passes take at most, on the host and on an accelerator."""
        if self.runtime.device.type == "cpu":
            return torch.get_num_threads() * max(HOST_BATCH, image_size**2) * BYTES_PER_PIXEL, 0
        return HOST_BATCH * BYTES_PER_PIXEL, max(DEVICE_BATCH, image_size**2) * BYTES_PER_PIXEL


def counted(plan: Plan, runtime: Runtime, memo: Path) -> dict[str, Any]:
    """Return how many groups a plan has, the forward passes (images through a network), the bytes of cache to be written."""
    counts = [Forecaster(runtime, memo).counts(group) for group in plan.groups]
    return {"groups": len(counts), "forward_passes": sum(c[0] for c in counts), "cache_bytes": sum(c[1] for c in counts)}


def forecast(plan: Plan, runtime: Runtime, memo: Path, workers: int = 1, limit: int | None = None) -> dict[str, Any]:
    """Return what a plan will take: seconds with so many workers, bytes, per group; and what stands in its way.

    `limit` is that of the cache. `obstacles` are sentences, each with what to do about it.
    """
    forecaster = Forecaster(runtime, memo)
    groups = []
    for number, group in enumerate(plan.groups):
        runtime.on_step(number, len(plan.groups), f"trying out {group.title}")
        groups.append(forecaster.group(group))
    used = max(1, min(workers, len(groups)))
    return {
        "seconds": sum(group.seconds for group in groups) / used,
        "workers": used,
        "memory_bytes": sum(sorted((group.memory_bytes for group in groups), reverse=True)[:used]),
        "accelerator_bytes": max((group.accelerator_bytes for group in groups), default=0),
        "per_group": [asdict(group) for group in groups],
        "obstacles": list(_obstacles(groups, runtime, used, limit)),
    }


def _obstacles(groups: Sequence[GroupForecast], runtime: Runtime, workers: int, limit: int | None) -> Iterator[str]:
    written, free = sum(group.cache_bytes for group in groups), _free(runtime.store.folder)
    if limit is not None:
        written = min(written, limit + workers * max((group.cache_bytes for group in groups), default=0))
    if written > free:
        yield (
            f"cache {runtime.store.folder}: {_gb(written)} of features do not fit into the {_gb(free)} that are free; "
            "free some, name another folder by --cache, or delete finished features by --cache-limit SIZE"
        )
    needed, memory = sum(sorted((g.memory_bytes for g in groups), reverse=True)[:workers]), memory_bytes()
    if needed > memory:
        yield (
            f"{workers} workers need up to {_gb(needed)} of memory, this machine has {_gb(memory)}; take fewer --jobs"
            if (workers > 1)
            else f"a job needs up to {_gb(needed)} of memory, this machine has {_gb(memory)}; take a smaller image_size"
        )
    if runtime.device.type == "cuda":
        needed, memory = (
            max((g.accelerator_bytes for g in groups), default=0),
            torch.cuda.get_device_properties(runtime.device).total_memory,
        )
        if needed > memory:
            yield f"a job needs up to {_gb(needed)} of GPU memory, {runtime.device} has {_gb(memory)}; take a smaller image_size"
    yield from (f"{group.group}: {reason}" for group in groups for reason in group.reasons)


def _free(folder: Path) -> int:
    """Return the free bytes of the disk that a folder lies on, or will."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _gb(count: float) -> str:
    return f"{count / 1e9:.1f} GB"


def _layers(group: Group) -> list[str]:
    return list(dict.fromkeys(layer for job in group.jobs for layer in job.layers))


def _shape(description: Description, name: str, size: int) -> Shape:
    layer = description.layer(name)
    side = -(-size // layer.stride)
    return (layer.channels, side, side)


def _pixels(group: Group, size: Size) -> int:
    """Return the pixels of all test maps on the evaluation grid."""
    if size == "native":
        return sum(height * width for height, width in group.inputs.native_sizes())
    return len(group.inputs.category.test) * int(size) ** 2
