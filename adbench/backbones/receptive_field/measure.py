"""Receptive fields of a backbone's layers by name: the analytic one, the estimated one, and both against image sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn
from torch.fx import GraphModule

from adbench.backbones.layers import Description, parse_layers
from adbench.backbones.network import Network
from adbench.backbones.receptive_field import AnalyticField, EstimatedField, analytic, estimated, figure, relative
from adbench.core.errors import UsageError
from adbench.types import OnStep, ignore_step


@dataclass(frozen=True)
class Measure:
    """How the estimate is made, see `adbench.receptive_field.estimated`."""

    input_size: int = 1024
    threshold: float = 1e-2
    normalize: str = "max"
    image: str = "noise"


def receptive_fields(
    network: Network,
    description: Description,
    layers: Sequence[str],
    sizes: Sequence[int],
    measure: Measure,
    drawn: Path | None = None,
    on_step: OnStep = ignore_step,
) -> dict[str, Any]:
    """Return the receptive fields of `layers` (all main stages when none is named), shallow first; `drawn` is a figure.

    Each layer has a graph of its own, cut behind it: one at a time is in memory. Raises UsageError for an unknown layer.
    """
    names = [name for text in layers for name in parse_layers(text, description)] or list(description.stages)
    exact: dict[str, AnalyticField | None] = {}
    found: dict[str, EstimatedField] = {}
    for done, name in enumerate(names):
        on_step(done, len(names), f"receptive field of {name}")
        module = network.cut([name])
        exact[name] = _analytic(module, name)
        found[name] = estimated(module, name, **vars(measure))  # which checks the two words
    if drawn:
        known = {name: field for name, field in exact.items() if field}
        figure(list(found.values()), drawn, analytic=known, title=f"{description.backbone}, {network.weights.label} weights")
    facts = {"backbone": description.backbone, "weights": network.weights.label}
    rows = [_record(description, name, exact[name], found[name], sizes) for name in names]
    return facts | {"input_size": measure.input_size, "threshold": measure.threshold, "layers": rows}


def _analytic(module: nn.Module, name: str) -> AnalyticField | None:
    """Return the exact field, or None where the graph has an operation without a rule."""
    assert isinstance(module, GraphModule)  # noqa: S101  what `cut` gives
    try:
        return analytic(module, name)
    except UsageError:
        return None


def _record(
    description: Description, name: str, exact: AnalyticField | None, found: EstimatedField, sizes: Sequence[int]
) -> dict[str, Any]:
    layer, pixels = description.layer(name), exact.size if exact else found.px
    return {
        "layer": name,
        "channels": layer.channels,
        "stride": layer.stride,
        "analytic_px": exact.size if exact else None,
        **found.record(),
        "rrf": {str(size): relative(pixels, size) for size in sizes},
    }
