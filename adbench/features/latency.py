"""Measure how long one image takes: through the network to each layer, and through a fitted detector. Never part of a metric.

Timed after warm-up passes, with the accelerator synchronized at both ends, features copied to the host. Reading and resizing the
file is not included: a camera's picture is in memory. Other load on the machine inflates these times.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.utils.hooks import RemovableHandle

from adbench.backbones.network import Network
from adbench.backbones.stages import Stages
from adbench.core.environment import library_versions
from adbench.core.memo import Memo
from adbench.data.pixels import STEPS
from adbench.features.extraction import DEVICE_BATCH, HOST_BATCH, batch_size, launched, precision_of, stacked
from adbench.features.feature_maps import FeatureMaps
from adbench.features.graph_optimization import inference_module
from adbench.features.tiling import Tiling
from adbench.features.view import View
from adbench.types import ImageSize, digest

WARM_UP = 2
PASSES, LEAST = 20, 3  # timed passes at batch 1: PASSES, or fewer if the budget is spent, but never below LEAST
BATCHES = 3
BUDGET_S = 1.0


@dataclass(frozen=True)
class Forward:
    """Milliseconds from an image in memory to a layer's features: p50 and p95 alone, per image in a batch of `batch`."""

    p50_ms: float
    p95_ms: float
    batch: int
    batched_ms: float


class _Clock(nn.Module):
    """Records when a layer's features have reached the host. The copies of earlier layers are not counted."""

    def __init__(self) -> None:
        super().__init__()
        self.hooks: list[RemovableHandle] = []

    def hook(self, module: nn.Module, layer: str) -> None:
        """Record a layer that is the output of a module, until `unhook`; one that is no single tensor has no record."""
        call = partial(self._called, layer)
        self.hooks.append(module.register_forward_hook(call))

    def _called(self, layer: str, module: nn.Module, given: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            self(output, layer)

    def unhook(self) -> None:
        """Remove all hooks: the network is that of the extraction too."""
        while self.hooks:
            self.hooks.pop().remove()

    def start(self) -> None:
        self.seconds: dict[str, float] = {}
        self._start = time.perf_counter()

    def forward(self, features: Tensor, layer: str) -> None:
        if features.device.type == "cuda":
            torch.cuda.synchronize(features.device)
        elif features.device.type == "mps":
            torch.mps.synchronize()
        computed = time.perf_counter()
        features.float().cpu()
        copied = time.perf_counter()
        self.seconds[layer] = copied - self._start
        self._start += copied - computed


def forward_times(
    network: Network, layers: Sequence[str], tiling: Tiling, dtype: str, device: torch.device, memo: Path
) -> dict[str, Forward]:
    """Return the time to each layer; the folder `memo` keeps it for this machine, device and thread count.

    All layers that are not in the memo are timed in the same passes, for a few seconds. `dtype` is that of the features.
    """
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    machine = (platform.node(), where, torch.get_num_threads(), library_versions())
    known = Memo(memo / f"{digest([network.backbone, _asked(tiling.view), dtype, machine])}.json")
    missing = [layer for layer in layers if known.get(layer) is None]
    if missing:
        for layer, times in _timed(network, missing, tiling, dtype, device).items():
            known.put(layer, asdict(times))
        known.write()
    return {layer: Forward(**known.get(layer)) for layer in layers}


def _timed(network: Network, layers: Sequence[str], tiling: Tiling, dtype: str, device: torch.device) -> dict[str, Forward]:
    """Return the time to each layer. Of a tiled image, some tiles that fit into a pass are timed, and the others take as long."""
    size = tiling.inputs
    clock, precision = _Clock(), precision_of(dtype)
    module = _clocked(inference_module(network, layers, size, device, precision), clock)
    batch = batch_size(HOST_BATCH + DEVICE_BATCH, size, device)
    images = np.random.default_rng(0).integers(0, 255 * STEPS, (batch, *size, 3), np.int16)

    def once(count: int) -> dict[str, float]:
        clock.start()
        started = time.perf_counter()
        launched(network, module, device, precision, False, stacked(list(images[:count]), device.type == "cuda"))()
        whole = time.perf_counter() - started
        return {layer: clock.seconds.get(layer, whole) for layer in layers}

    try:
        few = min(batch, tiling.count)
        alone = repeated(lambda: once(few), WARM_UP, PASSES, LEAST)
        together = repeated(lambda: once(batch), int(device.type != "cpu"), BATCHES, 1)
    finally:
        clock.unhook()
    share = tiling.count / few
    batched = {layer: tiling.count * float(np.median([seconds[layer] for seconds in together])) / batch for layer in layers}
    singly = {layer: percentiles([share * seconds[layer] for seconds in alone]) for layer in layers}
    whole_images = max(1, batch // tiling.count)
    return {layer: Forward(*singly[layer], whole_images, round(1000 * batched[layer], 3)) for layer in layers}


def _asked(view: View) -> ImageSize | dict[str, Any]:
    """Return what of a view decides the time."""
    asked = replace(view, rotations=0).record()
    return asked if len(asked) > 1 else view.image_size


def _clocked(module: nn.Module, clock: _Clock) -> nn.Module:
    """Let the clock record each layer: of a graph behind its node, of a transformer behind its block and in front of a norm."""
    if isinstance(module, Stages):
        for layer, name in module.modules_of_layers().items():
            clock.hook(module.get_submodule(name), layer)
        return module
    graph = cast(GraphModule, module)
    graph.add_submodule("clock", clock)
    (output,) = (node for node in graph.graph.nodes if node.op == "output")
    layers: Any = output.args[0]
    for layer, node in layers.items():
        with graph.graph.inserting_after(node):
            graph.graph.call_module("clock", (node, layer))
    graph.recompile()
    return graph


def score_times(score: Callable[[FeatureMaps], object], features: FeatureMaps) -> tuple[float, float]:
    """Return p50 and p95 of the milliseconds that a fitted detector's `score` takes for the features of one image."""
    images = [features.part(slice(i, i + 1)) for i in range(min(len(features), PASSES))]
    parts = cycle(images)

    def once() -> float:
        started = time.perf_counter()
        score(next(parts))
        return time.perf_counter() - started

    return percentiles(repeated(once, 1, len(images), LEAST, BUDGET_S / 2))


def repeated(once: Callable[[], Any], warm_up: int, most: int, least: int, budget_s: float = BUDGET_S) -> list[Any]:
    """Return the results of `once`, after `warm_up` calls: of `most` calls, or at least `least` until the budget is spent."""
    for _ in range(warm_up):
        once()
    found: list[Any] = []
    started = time.perf_counter()
    while len(found) < least or (len(found) < most and time.perf_counter() - started < budget_s):
        found.append(once())
    return found


def percentiles(seconds: Sequence[float]) -> tuple[float, float]:
    """Return p50 and p95 in milliseconds."""
    p50, p95 = np.percentile(seconds, [50, 95]) * 1000
    return round(float(p50), 3), round(float(p95), 3)
