"""What a detector's fit will cost: begun on made-up features of the right shape and number, and stopped after a moment.

The features are noise, without the structure of real ones, on which a coreset is found faster and a bank searched faster:
times are on the high side. Phases that a stopped fit has not reached are not in them.
"""

from __future__ import annotations

import json
import math
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from adbench.detectors import Detector
from adbench.environment import accelerator_memory_mb, forget_peaks, library_versions, peak_memory_mb
from adbench.errors import DetectorError
from adbench.feature_maps import FeatureMaps, Shape
from adbench.files import write_text
from adbench.types import digest

BUDGET_S = 0.7
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
        if now - self.started > BUDGET_S and self.first < done < total:
            self.rest_s = (total - done) * (now - self.phase) / (done - self.first)
            raise _EnoughError


def probe(detector: Detector, shapes: Sequence[Shape], train: int, device: torch.device, memo: Path) -> Cost:
    """Return the cost of `detector` on `train` images' features of the shapes; kept in the folder `memo`."""
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    machine = (platform.node(), where, torch.get_num_threads(), library_versions())
    kind = (type(detector).__name__, asdict(detector), detector.revision)
    file = memo / f"{digest([str(kind), shapes, train, machine])}.json"
    try:
        return Cost(**json.loads(file.read_text()))
    except (OSError, ValueError, TypeError):  # not known, or damaged
        cost = _tried(detector, made_up(shapes, train), device)
        write_text(file, json.dumps(asdict(cost)))
        return cost


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
