"""Feature maps of networks that are no convolutional graph: behind the blocks of a transformer, or the stages of a hierarchy."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import cast

from torch import Tensor, nn

from adbench.backbones.families import NORM, Family


def cut(family: Family, module: nn.Module, layers: Sequence[str]) -> nn.Module:
    """Return the part of a network up to the deepest of `layers`: a graph, or `Stages` if the layers are names of stages."""
    if are_stages(family, module, layers):
        return Stages(family, module, layers)
    return family.cut(module, {layer: layer for layer in layers})


def are_stages(family: Family, module: nn.Module, layers: Sequence[str]) -> bool:
    """Return whether layers are names of stages, without tracing the network.

    A stage that is a single operation is a node of the graph, so that its features do not depend on the layers beside it.
    """
    stages = family.stages(module)
    names = [layer.removesuffix(NORM) for layer in layers]
    return bool(names) and all(name in stages and not _is_operation(module, stages[name]) for name in names)


def _is_operation(module: nn.Module, name: str) -> bool:
    parts = dict(module.named_modules())
    return name in parts and next(parts[name].children(), None) is None


class Stages(nn.Module):
    """Turns images (B, 3, H, W) into {layer: (B, C, h, w)} in one pass that ends behind the deepest of `layers`.

    Class, register and distillation tokens are dropped; the order of the other tokens is the grid's, also if it is not square.
    """

    def __init__(self, family: Family, module: nn.Module, layers: Sequence[str]) -> None:
        super().__init__()
        names = list(family.stages(module))
        self.family, self.network, self.norm = family, module, family.final_norm(module)
        self.wanted = {layer: names.index(layer.removesuffix(NORM)) for layer in layers}

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return the maps by layer."""
        indices = sorted(set(self.wanted.values()))
        maps = dict(zip(indices, self.family.stage_maps(self.network, images, indices), strict=True))
        return {layer: self._normed(maps[i]) if layer.endswith(NORM) else maps[i] for layer, i in self.wanted.items()}

    def _normed(self, values: Tensor) -> Tensor:
        norm = cast("nn.Module", self.norm)
        normed: Tensor = norm(values.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return normed

    def used_tensors(self) -> list[Tensor]:
        """Return the parameters and buffers without those of deeper stages."""
        names = list(self.family.stages(self.network).values())
        deeper = tuple(f"network.{name}." for name in names[max(self.wanted.values()) + 1 :])
        return [value for name, value in chain(self.named_parameters(), self.named_buffers()) if not name.startswith(deeper)]

    def modules_of_layers(self) -> dict[str, str]:
        """Return {layer: name of the submodule whose output it is}, the `.norm` layers with the block in front of the norm."""
        names = list(self.family.stages(self.network).values())
        return {layer: f"network.{names[index]}" for layer, index in self.wanted.items()}
