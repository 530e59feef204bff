"""The features that jobs need: from images through one pass of the network to the cache."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from adbench.backbones.layers import describe, parse_layers
from adbench.backbones.network import Network
from adbench.core.environment import library_versions
from adbench.core.errors import DataError
from adbench.core.threads import ordered_map
from adbench.data import shifts
from adbench.data.check import split_fingerprint
from adbench.data.pixels import MEMORY, read_turned
from adbench.data.shots import drawn
from adbench.features.cache import CacheEntry, CacheKey
from adbench.features.extraction import Read, extract, precision_of
from adbench.features.feature_maps import FeatureMaps
from adbench.features.latency import Forward, forward_times
from adbench.features.runtime import Runtime
from adbench.features.tiling import Tiling, check_view
from adbench.features.view import View
from adbench.metrics.support.held_out import fitted_to, for_thresholds
from adbench.metrics.support.labels import CategoryInputs
from adbench.sweep.plan import Group
from adbench.sweep.workspace import Workspace
from adbench.types import ALL, Job, Sample


def tiling_of(runtime: Runtime, network: Network, inputs: CategoryInputs, view: View) -> Tiling:
    """Return where a network sees the images of a category."""
    return runtime.tiling(replace(view, white=inputs.white), inputs.native(view), network)


def entry_key(network: Network, images: str, layer: str, view: View, dtype: str) -> CacheKey:
    """Return the cache key of one layer's features; `images` is the fingerprint of a split."""
    weights = network.weights
    return CacheKey(images, network.backbone, weights.sha256, weights.mean, weights.std, view, layer, dtype)


def device_name(device: torch.device) -> str:
    """Return the name of a GPU, else the kind of device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def features(
    runtime: Runtime, network: Network, inputs: CategoryInputs, split: str, layers: Sequence[str], view: View, dtype: str
) -> dict[str, tuple[CacheEntry, bool]]:
    """Return {layer: (cache entry, whether it was cached)}. ONE forward pass over the split makes all missing entries.

    Only training images are turned, and only test images are shifted.
    """
    samples, view = inputs.split(split), view.of_split(split)
    tiling = tiling_of(runtime, network, inputs, view)
    images = split_fingerprint(samples, inputs.facts)
    keys = {layer: entry_key(network, images, layer, tiling.view, dtype) for layer in dict.fromkeys(layers)}
    found = {layer: runtime.cache.read(key) for layer, key in keys.items()}
    missing = {layer: key for layer, key in keys.items() if found[layer] is None}
    if missing:
        facts = {"images": [sample.name for sample in samples], "split": split, "versions": library_versions()}
        facts["device"] = device_name(runtime.device)
        read = shifts.reader(view.shift, inputs.seeds(view.shift)) if view.shift else MEMORY.read
        write_features(runtime, network, missing, tiling, [sample.path for sample in samples], facts, read)
    answer = {}
    for layer, known in found.items():
        entry = known or runtime.cache.read(keys[layer])
        if entry is None:
            raise DataError(f"the cache entry of layer '{layer}' vanished while it was used; run the command again")
        answer[layer] = entry, layer not in missing
    return answer


def write_features(
    runtime: Runtime, network: Network, keys: dict[str, CacheKey], tiling: Tiling, paths: Sequence[Path], facts: dict[str, Any],
    read: Read = MEMORY.read,
) -> None:  # fmt: skip
    """Write the features of some images to the cache, with `facts` in the sidecars; keys: by layer, of one dtype.

    A batch is written while the next ones are computed. `read` returns the pixels of an image. Of turned images all come at one
    angle before the next angle.
    """
    key = next(iter(keys.values()))
    copies = tiling.view.copies
    with runtime.cache.writing(keys, copies * len(paths), facts) as writers:
        for number in range(copies):
            how = partial(read_turned, degrees=360 * number / copies) if number else read
            batches = extract(
                network, paths, list(keys), tiling, runtime.device, runtime.on_step, how, precision_of(key.dtype),
                half=key.dtype != "float32",
            )  # fmt: skip
            for _ in ordered_map(writers.append, batches, threads=1, ahead=2):
                pass


def job_features(
    runtime: Runtime, network: Network, inputs: CategoryInputs, split: str, job: Job
) -> tuple[FeatureMaps, list[CacheEntry]]:
    """Return the feature maps of a job's layers over one split, and the cache entries that hold them.

    Of the training images only those that the job is fitted to. Raise UsageError if there are too few.
    """
    found = features(runtime, network, inputs, split, job.layers, View.of(job), job.dtype)
    entries = [found[layer][0] for layer in job.layers]
    maps = FeatureMaps(tuple(entry.array for entry in entries))
    if split == "train" and (job.shots != ALL or job.thresholds):
        chosen = drawn(fitted_to(inputs, job).category, job.shots, job.seed)
        every = inputs.category.train
        rows = [rows_of(chosen, every) + first for first in range(0, len(maps), len(every))]  # of every angle
        maps = maps.at(np.concatenate(rows)) if len(chosen) < len(every) else maps
    return maps, entries


def rows_of(chosen: Sequence[Sample], samples: Sequence[Sample]) -> NDArray[np.int64]:
    """Return the places of some samples among those of a split."""
    places = {sample.path: place for place, sample in enumerate(samples)}
    return np.array([places[sample.path] for sample in chosen], dtype=np.int64)


def extract_seconds(entries: Sequence[CacheEntry]) -> float:
    """Return the seconds of the passes that made the entries; the layers of one pass share its cost equally."""
    return float(sum(entry.sidecar["seconds"] / entry.sidecar["layers_in_pass"] for entry in entries))


def layer_times(runtime: Runtime, network: Network, layers: Sequence[str], tiling: Tiling, dtype: str) -> dict[str, Forward]:
    """Return the time from an image to each layer on this device. Unknown ones are measured together and kept in the cache."""
    return forward_times(network, layers, tiling, dtype, runtime.device, runtime.cache.folder / "latency")


def views_of(group: Group) -> list[tuple[str, View]]:
    """Return the passes that a group needs: splits with images, the test images once for each shift, each with its view."""
    view = View.of(group.jobs[0]).unshifted
    held_out = any(job.thresholds for job in group.jobs) and for_thresholds(group.inputs, group.jobs[0].seed)[2] == "validation"
    passes = [("train", view), *[("validation", view)] * held_out]
    passes += [("test", replace(view, shift=shift)) for shift in dict.fromkeys(job.shift for job in group.jobs)]
    return [(split, own.of_split(split)) for split, own in passes if group.inputs.split(split)]


def entry_keys(runtime: Runtime, group: Group, split: str, view: View) -> dict[str, CacheKey]:
    """Return {layer: cache key} of all features that a group needs in one pass over a split."""
    images, job = split_fingerprint(group.inputs.split(split), group.inputs.facts), group.jobs[0]
    view = tiling_of(runtime, group.network, group.inputs, view).view
    return {layer: entry_key(group.network, images, layer, view, job.dtype) for layer in group.layers}


def extract_layers(
    workspace: Workspace, backbone: str, layers: Sequence[str], weights: str, view: View, dtype: str
) -> dict[str, Any]:
    """Extract layers of all images of the categories into the cache; return the entries, and images per second of new ones."""
    description = describe(backbone, workspace.memo)
    names = [name for text in layers for name in parse_layers(text, description)]
    check_view(description, view, workspace.memo)
    network, runtime, inputs = workspace.network(backbone, weights), workspace.runtime(), workspace.inputs([view])
    for item in inputs:
        Tiling.of(view, item.native(view), description, workspace.memo).check_layers(description, names, workspace.memo)
    entries: list[dict[str, Any]] = []
    images, started = 0, time.perf_counter()
    for item, split in product(inputs, ("train", "test")):
        if not item.split(split):
            continue
        found = features(runtime, network, item, split, names, view, dtype)
        images += 0 if all(cached for _, cached in found.values()) else len(item.split(split))
        for layer, (entry, cached) in found.items():
            facts = {"path": str(entry.path), "shape": list(entry.array.shape), "dtype": entry.array.dtype.name}
            entries.append({"category": item.category.name, "split": split, "layer": layer, **facts, "cached": cached})
    speed = images / (time.perf_counter() - started) if images else None
    return {"entries": entries, "images_per_second": speed}
