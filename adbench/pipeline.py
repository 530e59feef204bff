"""The stages as plain functions: features of a split, fit, score, evaluate. `train`, `eval` and `sweep` all call these."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from adbench.anomaly_maps import upsample
from adbench.datasets.check import split_fingerprint
from adbench.detectors import Detector
from adbench.environment import accelerator_memory_mb, environment, forget_peaks, library_versions, peak_memory_mb
from adbench.errors import DataError, UsageError
from adbench.extraction import extract, in_order, precision_of
from adbench.feature_maps import FeatureMaps
from adbench.inputs import Inputs
from adbench.latency import Forward, forward_times, score_times
from adbench.measuring import Measured, measure_scores
from adbench.memory import in_parts
from adbench.metrics import ORDER
from adbench.models import make_detector
from adbench.network import Network
from adbench.pixels import MEMORY
from adbench.statistics.bootstrap import draw
from adbench.store import Entry, EntryKey
from adbench.types import Job, Result, Scores
from adbench.workplace import Workplace

_AHEAD = 2  # batches that wait to be written


def entry_key(network: Network, images: str, layer: str, image_size: int, dtype: str) -> EntryKey:
    """Return the cache key of one layer's features over the images with this fingerprint."""
    weights = network.weights
    return EntryKey(images, network.backbone, weights.sha256, weights.mean, weights.std, image_size, layer, dtype)


def features(
    place: Workplace, network: Network, inputs: Inputs, split: str, layers: Sequence[str], image_size: int, dtype: str
) -> dict[str, tuple[Entry, bool]]:
    """Return {layer: (cache entry, was it there)}; what is missing is made in ONE forward pass over the split."""
    samples = inputs.split(split)
    images = split_fingerprint(samples, inputs.facts)
    keys = {layer: entry_key(network, images, layer, image_size, dtype) for layer in dict.fromkeys(layers)}
    found = {layer: place.store.read(key) for layer, key in keys.items()}
    missing = {layer: key for layer, key in keys.items() if found[layer] is None}
    if missing:
        sidecar = {"images": [sample.name for sample in samples], "split": split, "versions": library_versions()}
        write_features(place, network, missing, [sample.path for sample in samples], sidecar)
    entries = {layer: entry or place.store.read(keys[layer]) for layer, entry in found.items()}
    return {layer: (_present(entry, layer), layer not in missing) for layer, entry in entries.items()}


def write_features(
    place: Workplace, network: Network, keys: dict[str, EntryKey], paths: Sequence[Path], facts: dict[str, Any]
) -> None:
    """Write the features of some images to the cache, by layer under its key; `facts` go to the sidecars.

    A batch is written while the next ones are computed.
    """
    key = next(iter(keys.values()))  # of the same image size and dtype as the others
    with place.store.writing(keys, len(paths), facts) as writers:
        batches = extract(
            network,
            paths,
            list(keys),
            key.image_size,
            place.device,
            place.on_step,
            MEMORY.read,
            precision_of(key.dtype),
            half=key.dtype != "float32",
        )
        for _ in in_order(writers.append, batches, threads=1, ahead=_AHEAD):
            pass


def _present(entry: Entry | None, layer: str) -> Entry:
    if entry is None:
        raise DataError(f"the cache entry of layer '{layer}' vanished while it was used; run the command again")
    return entry


def job_features(
    place: Workplace, network: Network, inputs: Inputs, split: str, job: Job
) -> tuple[FeatureMaps, list[Entry]]:
    """Return the joined view of a job's layers over one split, and the cache entries behind it."""
    found = features(place, network, inputs, split, job.layers, job.image_size, job.dtype)
    entries = [found[layer][0] for layer in job.layers]
    return FeatureMaps(tuple(entry.array for entry in entries)), entries


def fit(place: Workplace, network: Network, inputs: Inputs, job: Job) -> tuple[Detector, dict[str, float | None]]:
    """Return the job's detector fitted to the category's training images, and the cost of it."""
    maps, entries = job_features(place, network, inputs, "train", job)
    detector = make_detector(job.detector, job.params, job.seed)
    reason = detector.unsupported(maps.shapes)
    if reason:
        raise UnsupportedError(reason)
    forget_peaks()
    started = time.perf_counter()
    detector.fit(maps, device=place.device, on_step=place.on_step)
    seconds = time.perf_counter() - started
    size = sum(t.numel() * t.element_size() for t in detector.state_dict().values())
    return detector, {"extract_s": _extract_seconds(entries), "fit_s": seconds, "state_mb": size / 1e6}


def score(
    place: Workplace, network: Network, inputs: Inputs, job: Job, detector: Detector
) -> tuple[Scores, dict[str, Any]]:
    """Return scores of the test images, maps on the feature grid, and the cost of it."""
    maps, entries = job_features(place, network, inputs, "test", job)
    started = time.perf_counter()
    scores = score_in_parts(detector, maps, place.device)
    seconds = time.perf_counter() - started
    per_image = (seconds + _extract_seconds(entries)) / len(maps)
    cost = {"extract_s": _extract_seconds(entries), "score_s": seconds, "images_per_second": 1 / per_image}
    cost |= _latency(place, network, job, detector, maps, seconds / len(maps))
    if not (np.isfinite(scores.image).all() and np.isfinite(scores.maps).all()):
        raise DataError(f"{job.detector} gave scores that are not finite; try other parameters or another layer")
    return scores, cost


def score_in_parts(detector: Detector, maps: FeatureMaps, device: torch.device) -> Scores:
    """Return the scores of all images; of halves of them if memory does not reach. An image's score is its own alone."""
    parts = in_parts(lambda rows: detector.score(maps.part(rows), device=device), slice(0, len(maps)))
    return Scores(np.concatenate([part.image for part in parts]), np.concatenate([part.maps for part in parts]))


def layer_times(
    place: Workplace, network: Network, layers: Sequence[str], image_size: int, dtype: str
) -> dict[str, Forward]:
    """Return how long an image takes to each layer here; timed in one go for all layers of which it is not yet known."""
    return forward_times(network, layers, image_size, dtype, place.device, place.store.folder / "latency")


def _latency(
    place: Workplace, network: Network, job: Job, detector: Detector, maps: FeatureMaps, score_s: float
) -> dict[str, float]:
    """Times from an image in memory to its score and map, alone and in batches; `score_s` is the latter's of the detector."""
    layers = layer_times(place, network, job.layers, job.image_size, job.dtype)
    forward = max(layers.values(), key=lambda times: times.p50_ms)  # of joined layers the deepest
    p50, p95 = score_times(detector, maps, place.device)
    return {
        "forward_ms": forward.p50_ms, "forward_p95_ms": forward.p95_ms, "score_ms": p50, "score_p95_ms": p95,
        "latency_ms": round(forward.p50_ms + p50, 3), "latency_p95_ms": round(forward.p95_ms + p95, 3),
        "batch_size": forward.batch, "batch_images_per_second": round(1000 / (forward.batched_ms + 1000 * score_s), 3),
    }  # fmt: skip


def assess(
    place: Workplace, network: Network, inputs: Inputs, job: Job, detector: Detector, fit_cost: dict[str, Any],
    receptive_field: int | None = None,
) -> tuple[Result, Scores | None]:  # fmt: skip
    """Return the Result of a fitted detector on the category's test images, and its scores, maps on the feature grid.

    `receptive_field` of the job's layers in input pixels, where it is known. Without test images metrics are None with a
    reason, and there are no scores.
    """
    test = inputs.category.test
    if not test:
        nothing = Measured(dict.fromkeys(ORDER), ["no labelled test images: nothing to measure"])
        return _result(job, nothing, fit_cost, detector), None
    scores, cost = score(place, network, inputs, job, detector)
    maps = upsample(scores.maps, job.eval_size, inputs.native_sizes(), detector.smoothing)
    labels = inputs.labels(job.eval_size)
    draws = draw(split_fingerprint(test, inputs.facts), labels.truth.anomalous, sources=inputs.sources)
    measured = measure_scores(Scores(scores.image, maps), labels, test, draws, job, receptive_field)
    total = {"extract_s": (fit_cost["extract_s"] or 0) + cost.pop("extract_s")}
    return _result(job, measured, fit_cost | cost | total, detector), scores


COST_KEYS = (
    "extract_s", "fit_s", "score_s", "images_per_second", "peak_memory_mb", "state_mb",
    "accelerator_memory_mb", "forward_ms", "forward_p95_ms", "score_ms", "score_p95_ms", "latency_ms", "latency_p95_ms",
    "batch_size", "batch_images_per_second",
)  # fmt: skip


class UnsupportedError(UsageError):
    """A detector that cannot take features of these shapes: the job is skipped, with the reason."""


def _result(job: Job, measured: Measured, cost: dict[str, Any], detector: Detector) -> Result:
    peaks = {"peak_memory_mb": peak_memory_mb(), "accelerator_memory_mb": accelerator_memory_mb()}
    cost = {key: cost.get(key) for key in COST_KEYS} | peaks
    reason, details = "; ".join(measured.remarks) or None, detector.details() | measured.details
    return Result(job, "done", reason, measured.metrics, cost, environment(), details, measured.replicates)


def _extract_seconds(entries: Sequence[Entry]) -> float:
    """Seconds of the pass that made the entries; layers of one pass share its cost."""
    return float(sum(entry.sidecar["seconds"] / entry.sidecar["layers_in_pass"] for entry in entries))
