"""A backbone with its weights. Importing this module loads no torch; building the network does."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from adbench.backbones.families import Size, bare, find
from adbench.backbones.weights import Weights, load, resolve
from adbench.core.errors import UsageError
from adbench.core.files import stamp
from adbench.core.memo import Memo
from adbench.data.pixels import STEPS
from adbench.types import OnStep, ignore_step

if TYPE_CHECKING:
    import torch
    from torch import Tensor, fx, nn

_CACHES = ("HOME", "XDG_CACHE_HOME", "TORCH_HOME", "HF_HOME", "HF_HUB_CACHE")  # variables that decide where files are


@dataclass(frozen=True)
class Network:
    """A backbone with its weights; the module is built on first use."""

    backbone: str
    weights: Weights

    @cached_property
    def module(self) -> nn.Module:
        return load(self.backbone, self.weights)

    def drawn_by(self, seed: int) -> Network:
        """Return the network with random weights drawn by a seed; other weights stay."""
        return replace(self, weights=self.weights.drawn_by(seed))

    def at(self, size: Size | None) -> nn.Module:
        """Return the network for inputs of a size (height, width): the same one, unless it is built for one size.

        Its position tables are then interpolated as its library does it. Raises UsageError for a size that it cannot take.
        """
        family, _ = find(self.backbone)
        fixed = size and family.fixed_size(self.module)
        return self.module if fixed in (None, size) else _resized(self, cast(Size, size))

    @cached_property
    def _graphs(self) -> dict[Size | None, fx.GraphModule]:
        return {}

    def whole(self, size: Size | None = None) -> fx.GraphModule:
        """Return the graph that computes every node, by name; traced once."""
        module = self.at(size)
        built_for = None if module is self.module else size
        if built_for not in self._graphs:
            family, _ = find(self.backbone)
            nodes = {node: node for node in family.node_names(module)[1:]}
            self._graphs[built_for] = cast("fx.GraphModule", family.cut(module, nodes))
        return self._graphs[built_for]

    def has_stages(self, layers: Sequence[str]) -> bool:
        """Return whether layers are names of blocks or stages, not of nodes of the graph."""
        from adbench.backbones.stages import are_stages

        family, _ = find(self.backbone)
        return are_stages(family, self.module, layers)

    def cut(self, layers: Sequence[str], size: Size | None = None) -> nn.Module:
        """Return the frozen network up to the deepest of `layers`: (B, 3, H, W) of a size to {layer: (B, C, h, w)}.

        It is a graph, or `Stages` for layers that are names of blocks or stages.
        """
        from adbench.backbones.stages import cut

        family, _ = find(self.backbone)
        return cut(family, self.at(size), layers).eval().requires_grad_(False)

    def normalize(self, pixels: Tensor) -> Tensor:
        """Return (B, 3, H, W) float32 input from (B, H, W, 3) `pixels.Pixels`, normalized as in the training of the weights."""
        mean, std = _by_channel(self.weights.mean, pixels.device), _by_channel(self.weights.std, pixels.device)
        return (pixels.permute(0, 3, 1, 2).float() / (255 * STEPS) - mean) / std  # channels-last in memory


@lru_cache(maxsize=2)
def _resized(network: Network, size: Size) -> nn.Module:
    import torch

    family, name = find(network.backbone)
    try:
        with torch.random.fork_rng(devices=[]):
            module = family.build(bare(name), size)
        module.load_state_dict(family.resized(network.module.state_dict(), module))
    except (RuntimeError, TypeError, ValueError, AssertionError) as error:
        raise UsageError(
            f"{network.backbone} cannot take images of {size[0]} x {size[1]} px: {str(error).splitlines()[0]}"
        ) from error
    return module.eval().requires_grad_(False)


@lru_cache(maxsize=8)  # kept, or they would be copied to the GPU in each pass
def _by_channel(values: tuple[float, ...], device: torch.device) -> Tensor:
    import torch

    return torch.tensor(values, device=device).view(1, -1, 1, 1)


def find_network(backbone: str, label: str, answers: Memo, *, offline: bool = False, on_step: OnStep = ignore_step) -> Network:
    """Return a backbone with its weights, see `weights.resolve`.

    `answers` keeps the weights, so that torch is not imported again while the file is unchanged.
    """

    def ask() -> dict[str, Any]:
        found = resolve(backbone, label, offline=offline, on_step=on_step).record()
        return found | {"stamp": _stamp(found["path"])}

    caches = [os.environ.get(name) for name in _CACHES]
    question = ["weights", backbone, str(Path(label).absolute()) if Path(label).is_file() else label, *caches]
    known = answers.answer(question, ask, lambda answer: bool(answer["stamp"] == _stamp(answer["path"])))
    return Network(backbone, Weights.from_record(known))


def _stamp(path: str | None) -> list[int]:
    """Return the stamp of a file; an empty list if it is missing."""
    return stamp(Path(path)) if path is not None and Path(path).is_file() else []
