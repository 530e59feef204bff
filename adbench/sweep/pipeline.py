"""The stages as plain functions: fit, score, evaluate, and all of them for a group of jobs.

`train`, `eval`, `sweep` and the tasks of a cluster call the same functions.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from adbench.backbones.layers import Field
from adbench.backbones.network import Network
from adbench.backbones.receptive_field.measure import remembered
from adbench.core.environment import accelerator_memory_mb, environment, peak_memory_mb, reset_peak_memory
from adbench.core.errors import AdbenchError, DataError, UsageError
from adbench.core.memory import ADVICE, in_parts, out_of_memory
from adbench.data.check import split_fingerprint
from adbench.data.shots import drawn
from adbench.detectors import Detector, detector_of
from adbench.features.anomaly_maps import upsample
from adbench.features.feature_maps import FeatureMaps
from adbench.features.latency import score_times
from adbench.features.runtime import Runtime
from adbench.features.tiling import Tiling
from adbench.features.view import View
from adbench.metrics import AT_THRESHOLD, in_order, names
from adbench.metrics.support.breakdown import evaluate_broken_down
from adbench.metrics.support.held_out import fitted_to, for_thresholds
from adbench.metrics.support.labels import CategoryInputs, Labels
from adbench.pictures.kept_maps import keep_maps
from adbench.statistics.bootstrap import draw_replicates, intervals, resample
from adbench.statistics.decisions import decide, merged
from adbench.statistics.influence import METHOD
from adbench.statistics.rules import Limits, limits_from, parse_rule
from adbench.sweep.heartbeat import group_name, heartbeat
from adbench.sweep.job_features import (
    device_name,
    entry_keys,
    extract_seconds,
    features,
    job_features,
    layer_times,
    rows_of,
    tiling_of,
    views_of,
)
from adbench.sweep.plan import Group
from adbench.sweep.results import ResultStore
from adbench.types import ALL, ESTIMATED, Job, OnStep, Result, Scores, ignore_step

log = logging.getLogger("adbench")


def measure_scores(
    scores: Scores, labels: Labels, inputs: CategoryInputs, job: Job, receptive_field: Field | None,
    on_step: OnStep = ignore_step, limits: Sequence[Limits] = (),
) -> Result:  # fmt: skip
    """Return the result of scores of a category's test images, without its cost; maps on the evaluation grid.

    Its replicates have the shape (metrics, R), its influence values (metrics + 1, U). limits: thresholds at which further metrics
    are measured.
    """
    truth, regions, test = labels.truth, labels.regions, inputs.category.test
    draws = draw_replicates(split_fingerprint(test, inputs.facts), truth.anomalous, sources=inputs.sources)
    metrics, parts = evaluate_broken_down(scores, truth, job.pro_limit, regions, test, on_step)
    replicates, influence = resample(scores, truth, regions, job.pro_limit, draws, metrics, on_step)
    remarks = list(labels.remarks)
    if limits:
        decided = decide(limits, scores, truth, draws)
        replicates = merged(metrics, replicates, decided.metrics, decided.replicates)
        influence = merged(metrics, influence, decided.metrics, decided.influence)
        metrics = {name: (metrics | dict(decided.metrics))[name] for name in in_order([*metrics, *decided.metrics])}
        parts, remarks = parts | {"thresholds": list(decided.details)}, [*remarks, *filter(None, [decided.reason])]
    details = {"resamples": draws.name, "intervals": intervals(metrics, influence), "interval_method": METHOD}
    known = _field_details(receptive_field) if receptive_field else {}
    known |= {"image_px": labels.image_px} if labels.image_px else {}
    reason = "; ".join(remarks) or None
    details = known | details | parts
    return Result(job, "done", reason, metrics, details=details, replicates=replicates, influence=influence)


def _field_details(field: Field) -> dict[str, Any]:
    """Return the details of a record; one without a kind, of an earlier version, has the analytic field only."""
    kind = ESTIMATED if field.estimated else "analytic"
    details = {"receptive_field_px": field.estimated or field.analytic, "receptive_field_kind": kind}
    return details | ({"analytic_field_px": field.analytic} if field.analytic else {})


def estimated_fields(
    runtime: Runtime, network: Network, layers: Sequence[str], analytic: Mapping[str, int], tiling: Tiling
) -> dict[str, int]:
    """Return the estimated receptive field of each layer; measured once for a network and its weights, and kept in the cache."""
    try:
        return remembered(network, layers, analytic, tiling.inputs, runtime.cache.folder / "receptive_fields", runtime.on_step)
    except (RuntimeError, UsageError) as error:  # no gradient, an unfit size, or too little memory; no metric depends on it
        log.warning("receptive fields of %s cannot be estimated: %s", network.backbone, error)
        return {}


def fit(runtime: Runtime, network: Network, inputs: CategoryInputs, job: Job) -> tuple[Detector, dict[str, float | None]]:
    """Return the job's detector fitted to the category's training images, and the cost of the fit.

    Raises UnsupportedError if it cannot use features of these shapes.
    """
    maps, entries = job_features(runtime, network, inputs, "train", job)
    detector = detector_of(job).spread_over(tiling_of(runtime, network, inputs, View.of(job)).spread)
    check_supported(detector, maps)
    reset_peak_memory()
    started = time.perf_counter()
    detector.fit(maps, device=runtime.device, on_step=runtime.on_step)
    seconds = time.perf_counter() - started
    size = sum(t.numel() * t.element_size() for t in detector.state_dict().values())
    extract_s = extract_seconds(entries) * len(maps) / len(entries[0].array)
    return detector, {"extract_s": extract_s, "fit_s": seconds, "state_mb": size / 1e6}


def check_supported(detector: Detector, maps: FeatureMaps) -> None:
    """Raise UnsupportedError if the detector cannot use features of these shapes."""
    if reason := detector.unsupported(maps.shapes):
        raise UnsupportedError(reason)


def score(
    runtime: Runtime, network: Network, inputs: CategoryInputs, job: Job, detector: Detector
) -> tuple[Scores, dict[str, Any]]:
    """Return scores of the test images, maps on the feature grid, and the cost of scoring.

    Raises DataError if a score is not finite.
    """
    maps, entries = job_features(runtime, network, inputs, "test", job)
    started = time.perf_counter()
    scores = score_in_parts(detector, maps, runtime.device, runtime.on_step)
    seconds = time.perf_counter() - started
    per_image = (seconds + extract_seconds(entries)) / len(maps)
    tiling = tiling_of(runtime, network, inputs, View.of(job).unshifted)
    layers = layer_times(runtime, network, job.layers, tiling, job.dtype)
    forward = max(layers.values(), key=lambda times: times.p50_ms)  # the deepest layer
    p50, p95 = score_times(lambda one: detector.score(one, device=runtime.device), maps)
    batched_ms = forward.batched_ms + 1000 * seconds / len(maps)
    cost = {
        "extract_s": extract_seconds(entries), "score_s": seconds, "images_per_second": 1 / per_image,
        "forward_ms": forward.p50_ms, "forward_p95_ms": forward.p95_ms, "score_ms": p50, "score_p95_ms": p95,
        "latency_ms": round(forward.p50_ms + p50, 3), "latency_p95_ms": round(forward.p95_ms + p95, 3),
        "batch_size": forward.batch, "batch_images_per_second": round(1000 / batched_ms, 3),
    }  # fmt: skip
    check_finite(scores, job)
    return scores, cost


def check_finite(scores: Scores, job: Job) -> None:
    """Raise DataError if a score is not finite."""
    if not (np.isfinite(scores.image).all() and np.isfinite(scores.maps).all()):
        raise DataError(f"{job.detector} gave scores that are not finite; try other parameters or another layer")


def score_in_parts(detector: Detector, maps: FeatureMaps, device: torch.device, on_step: OnStep = ignore_step) -> Scores:
    """Return the scores of all images. If memory runs out, halves are scored in turn: an image's score depends on no other."""
    maps = maps.watched(on_step, "scoring")
    parts = in_parts(lambda rows: detector.score(maps.part(rows), device=device), slice(0, len(maps)))
    seen = [part.foreground for part in parts if part.foreground is not None]
    image, whole = np.concatenate([part.image for part in parts]), np.concatenate([part.maps for part in parts])
    return Scores(image, whole, np.concatenate(seen) if seen else None)


def assess(
    runtime: Runtime, network: Network, inputs: CategoryInputs, job: Job, detector: Detector, fit_cost: dict[str, Any],
    receptive_field: Field | None = None, limits: Sequence[Limits] = (),
) -> tuple[Result, Scores | None]:  # fmt: skip
    """Return the Result of a fitted detector on the category's test images, and its scores, maps on the feature grid.

    receptive_field: of the job's layers, where it is known. limits: its thresholds. Without test images all metrics are None with
    a reason, and the scores are None.
    """
    test, scores, cost = inputs.category.test, None, fit_cost
    unmeasured = dict.fromkeys([*names(), *(AT_THRESHOLD if limits else ())])
    result = Result(job, "done", "no labeled test images: nothing to measure", unmeasured)
    if test:
        scores, score_cost = score(runtime, network, inputs, job, detector)
        cost = fit_cost | score_cost | {"extract_s": (fit_cost["extract_s"] or 0) + score_cost["extract_s"]}
        runtime.on_step(0, 0, "metrics")
        maps = upsample(scores.maps, job.eval_size, inputs.native_sizes(job.crop), detector.gaussian)
        labels = inputs.labels(job.eval_size, job.crop, job.shift)
        result = measure_scores(Scores(scores.image, maps), labels, inputs, job, receptive_field, runtime.on_step, limits)
        if isinstance(job.image_size, str):
            size = tiling_of(runtime, network, inputs, View.of(job)).view.size
            result = replace(result, details={**result.details, "input_px": list(size)})
    peaks = {"peak_memory_mb": peak_memory_mb(), "accelerator_memory_mb": accelerator_memory_mb()}
    cost = {key: cost.get(key) for key in COST_KEYS} | peaks
    where, details = environment() | {"device": device_name(runtime.device)}, detector.details() | dict(result.details)
    return replace(result, cost=cost, environment=where, details=details), scores


COST_KEYS = (
    "extract_s", "fit_s", "score_s", "images_per_second", "peak_memory_mb", "state_mb",
    "accelerator_memory_mb", "forward_ms", "forward_p95_ms", "score_ms", "score_p95_ms", "latency_ms", "latency_p95_ms",
    "batch_size", "batch_images_per_second",
)  # fmt: skip


class UnsupportedError(UsageError):
    """The detector cannot use features of these shapes. The job is skipped with this reason."""


def measure(runtime: Runtime, group: Group, job: Job, maps: Path) -> Result:
    """Return the Result of one job of the group, from features to metrics; write its pictures into the folder `maps`."""
    inputs = group.inputs
    detector, cost, limits = group.shared.of(job.unshifted.key, partial(_fitted, runtime, group, job))
    result, scores = assess(runtime, group.network, inputs, job, detector, cost, group.receptive_field(job), limits)
    if group.keep_maps and scores:
        masks = inputs.labels(job.eval_size, job.crop, job.shift).truth.masks
        white = job.value_range or inputs.white
        keep_maps(maps, inputs.category.test, scores, masks, detector.gaussian, group.keep_maps, job.crop, white)
    images = {"good_images": len(fitted_to(inputs, job).category.train)} | drawn_images(inputs, job)
    return replace(result, details={**result.details, **images})


Fitted = tuple[Detector, dict[str, float | None], Sequence[Limits]]


def _fitted(runtime: Runtime, group: Group, job: Job) -> Fitted:
    """Return a job's detector with its cost and its thresholds, which jobs of other shifts share."""
    detector, cost = fit(runtime, group.network, group.inputs, job)
    return detector, cost, set_limits(runtime, group.network, group.inputs, job, detector)


def set_limits(runtime: Runtime, network: Network, inputs: CategoryInputs, job: Job, detector: Detector) -> list[Limits]:
    """Return the thresholds that the job's rules set from the held-out good images; none for a job without rules."""
    if not job.thresholds:
        return []
    rules, (_, held, split) = list(map(parse_rule, job.thresholds)), for_thresholds(inputs, job.seed)
    found = features(runtime, network, inputs, split, job.layers, View.of(job), job.dtype)
    maps = FeatureMaps(tuple(found[layer][0].array for layer in job.layers)).at(rows_of(held, inputs.split(split)))
    scores = score_in_parts(detector, maps, runtime.device, runtime.on_step)
    check_finite(scores, job)
    return limits_from([scores], detector.gaussian, rules)


def drawn_images(inputs: CategoryInputs, job: Job) -> dict[str, list[str]]:
    """Return the names of the training images that were drawn, as details of a result; empty for a job with all of them."""
    if job.shots == ALL:
        return {}
    return {"drawn_images": [sample.name for sample in drawn(fitted_to(inputs, job).category, job.shots, job.seed)]}


Measure = Callable[[Runtime, Group, Job, Path], Result]


def run_group(runtime: Runtime, group: Group, results: ResultStore, run: Measure = measure) -> Iterator[Result]:
    """Extract the group's missing features in one pass, then run its jobs; write and yield each result.

    Yields the existing result of a job that another sweep has finished in the meantime.
    """
    found = [(job, results.read(job.key)) for job in group.jobs]
    yield from (result for _, result in found if result)
    if left := tuple(job for job, result in found if result is None):
        with heartbeat(results.folder, group_name(left[0])) as show_job:
            yield from _run_rest(runtime, replace(group, jobs=left), results, run, show_job)


def _run_rest(
    runtime: Runtime, group: Group, results: ResultStore, run: Measure, show_job: Callable[[str], None]
) -> Iterator[Result]:
    view, dtype = View.of(group.jobs[0]).unshifted, group.jobs[0].dtype
    try:
        tiling = tiling_of(runtime, group.network, group.inputs, view)
        for split, own in views_of(group):
            features(runtime, group.network, group.inputs, split, group.layers, own, dtype)
        runtime.on_step(0, 0, "timing the network")
        layer_times(runtime, group.network, group.layers, tiling, dtype)
        found = estimated_fields(runtime, group.network, group.layers, group.fields, tiling)
        group = replace(group, estimated=found)
    except Exception as error:
        log.debug("extraction failed", exc_info=True)
        yield from fail(group.jobs, error, results)
        return
    for index, job in enumerate(group.jobs):
        runtime.on_step(index, len(group.jobs), f"{job.detector} on {job.layer}")
        show_job(job.key)
        result = results.read(job.key)
        if result is None:
            result = _attempt(runtime, group, job, results.maps(job.key), run)
            results.write(result)
        yield replace(result, replicates=None, influence=None)
    if group.cache_limit is not None:
        keys = (key for split, own in views_of(group) for key in entry_keys(runtime, group, split, own).values())
        runtime.cache.evict(keys, group.cache_limit)


def _attempt(runtime: Runtime, group: Group, job: Job, maps: Path, run: Measure) -> Result:
    try:
        return run(runtime, group, job, maps)
    except UnsupportedError as error:
        return Result(job, "skipped", str(error))
    except Exception as error:  # becomes a failed result, so that the other jobs still run
        log.debug("job failed", exc_info=True)
        return failure(job, error)


def failure(job: Job, error: Exception) -> Result:
    """Return the failed result of a job that raised an error."""
    text = " ".join(str(error).split()) or type(error).__name__
    if out_of_memory(error):
        return Result(job, "failed", f"out of memory; {ADVICE} ({text[:200]})")
    return Result(job, "failed", text if isinstance(error, AdbenchError) else f"{type(error).__name__}: {text[:300]}")


def fail(jobs: Iterable[Job], error: Exception, results: ResultStore) -> Iterator[Result]:
    """Write and yield the failed result of each job."""
    for job in jobs:
        results.write(result := failure(job, error))
        yield result
