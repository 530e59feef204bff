"""One candidate on validation data: its metrics, and what it would cost in use."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from adbench.detectors import Detector
from adbench.extraction import Network, read_pixels
from adbench.feature_maps import FeatureMaps
from adbench.pipeline import Workplace, assess, fit
from adbench.sweep import Group
from adbench.types import Job, Result

_TIMED = 5  # images, after one that is not counted


def try_candidate(place: Workplace, group: Group, job: Job, maps: Path) -> Result:
    """Return the Result of a job on validation data, with its costs in use.

    These are latency_ms from pixels to score, one image at a time; memory_mb (10^6 bytes) of the network's weights up to the
    deepest layer and of what the detector keeps. `maps` is not used: pictures are made of the winner alone.
    """
    network, inputs = group.network, group.inputs
    detector, cost = fit(place, network, inputs, job)
    result, _ = assess(place, network, inputs, job, detector, cost, group.field(job))
    cut = network.cut(job.layers).to(place.device).to(memory_format=torch.channels_last)
    in_use: dict[str, float | None] = {
        "latency_ms": _latency_ms(place, network, cut, job, detector, [sample.path for sample in inputs.category.test]),
        "memory_mb": _megabytes(cut) + (cost["state_mb"] or 0),
    }
    return replace(result, cost=result.cost | in_use)


def _latency_ms(
    place: Workplace, network: Network, cut: torch.nn.Module, job: Job, detector: Detector, paths: Sequence[Path]
) -> float:
    """Return the median time of one image through network and detector, decoded and resized before."""
    seconds = []
    for path in paths[: _TIMED + 1]:
        pixels = torch.from_numpy(read_pixels(path, job.image_size)[None])
        started = time.perf_counter()
        with torch.inference_mode():
            maps = cut(network.normalise(pixels.to(place.device)))
        layers = tuple(maps[layer].float().contiguous().cpu().numpy().astype(job.dtype) for layer in job.layers)
        detector.score(FeatureMaps(layers), device=place.device)
        seconds.append(time.perf_counter() - started)
    return 1000 * statistics.median(seconds[1:])


def _megabytes(module: torch.nn.Module) -> float:
    tensors = [*module.parameters(), *module.buffers()]
    return float(np.sum([tensor.numel() * tensor.element_size() for tensor in tensors])) / 1e6
