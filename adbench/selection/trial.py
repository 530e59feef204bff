"""One candidate on validation data: its metrics, and what it would cost in use."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torch import nn

from adbench.pipeline import Workplace, assess, fit
from adbench.prediction import Scorer
from adbench.sweep import Group
from adbench.types import Job, Result

_TIMED = 5  # images, after one that is not counted


def try_candidate(place: Workplace, group: Group, job: Job, maps: Path) -> Result:
    """Return the Result of a job on validation data, with its costs in use.

    These are latency_ms from an image file to its score, one at a time, and memory_mb (10^6 bytes) of the network's weights
    up to the deepest layer with what the detector keeps. `maps` is not used: pictures are made of the winner alone.
    """
    detector, cost = fit(place, group.network, group.inputs, job)
    result, _ = assess(place, group.network, group.inputs, job, detector, cost)
    scorer = Scorer(group.network, job, detector, place.device)
    in_use: dict[str, float | None] = {
        "latency_ms": _latency_ms(scorer, [sample.path for sample in group.inputs.category.test[: _TIMED + 1]]),
        "memory_mb": _megabytes(group.network.cut(job.layers)) + (cost["state_mb"] or 0),
    }
    return replace(result, cost=result.cost | in_use)


def _latency_ms(scorer: Scorer, paths: Sequence[Path]) -> float:
    """Return the median time of one image; the first one, which also lays out the network, does not count."""
    seconds = []
    for path in paths:
        started = time.perf_counter()
        list(scorer.score([path]))
        seconds.append(time.perf_counter() - started)
    return 1000 * statistics.median(seconds[1:])


def _megabytes(module: nn.Module) -> float:
    return sum(t.numel() * t.element_size() for t in [*module.parameters(), *module.buffers()]) / 1e6
