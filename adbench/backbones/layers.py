"""Layers of a backbone: names, channels and strides of all its graph nodes that are feature maps, and its main stages."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from adbench.backbones.families import Family, bare, find
from adbench.core.errors import UsageError
from adbench.core.memo import Memo, code_and_libraries
from adbench.core.registry import match, nearest_by_number

if TYPE_CHECKING:
    from torch import nn

_PROBE = 256  # px; a multiple of every stride


@dataclass(frozen=True)
class Layer:
    """A graph node whose output is a feature map: channels, stride and analytic receptive field in input pixels.

    The field is None if the graph has an operation without a rule.
    """

    name: str
    channels: int
    stride: int
    field: int | None = None


@dataclass(frozen=True)
class Description:
    """All feature maps of a backbone in graph order, and the last layer of each main stage."""

    backbone: str
    layers: tuple[Layer, ...]
    stages: tuple[str, ...]

    def layer(self, name: str) -> Layer:
        """Return the layer that a user means by the name of a node, or of a module (`layer2`: its last node)."""
        exact = {layer.name: layer for layer in self.layers}
        within = [layer for layer in self.layers if layer.name.startswith(f"{name}.")]
        if name not in exact and within:
            return within[-1]
        modules = {".".join(parts[:n]) for parts in (key.split(".") for key in exact) for n in range(1, len(parts) + 1)}
        if name not in exact and (near := nearest_by_number(name, sorted(modules))):
            raise UsageError(f"unknown layer '{name}' of {self.backbone}; did you mean '{near}'?")
        return exact[match("layer", name, exact, f"layers {self.backbone} --all", f" of {self.backbone}")]

    def field(self, names: Sequence[str]) -> int | None:
        """Return the analytic receptive field of joined layers in input pixels, see `joined_field`."""
        return joined_field(self.layer(name).field for name in names)


def joined_field(fields: Iterable[int | None]) -> int | None:
    """Return the receptive field of joined layers, given the field of each: the largest, or None if one is unknown."""
    fields = list(fields)
    known = [field for field in fields if field]
    return max(known) if known and len(known) == len(fields) else None


@lru_cache(maxsize=64)
def describe(backbone: str, memo: Path | None = None) -> Description:
    """Return the description of a backbone, traced once and kept in the folder `memo` for later processes.

    Raises UsageError for an unknown backbone and for one that is not a convolutional network with a traceable graph.
    """
    file = memo / f"{re.sub('[^A-Za-z0-9_.-]', '_', backbone)}.json" if memo else None
    found = Memo(file, code_and_libraries()).answer(backbone, lambda: asdict(_trace(*find(backbone))))
    return Description(found["backbone"], tuple(Layer(**layer) for layer in found["layers"]), tuple(found["stages"]))


def _trace(family: Family, name: str) -> Description:
    try:
        try:
            layers = _feature_maps(family, name, "meta")  # computes shapes only
        except (NotImplementedError, RuntimeError):  # the network cannot be built there
            layers = _feature_maps(family, name, "cpu")
    except (RuntimeError, TypeError, ValueError, AssertionError, NotImplementedError) as error:
        raise UsageError(
            f"backbone '{name}' cannot be traced ({str(error).splitlines()[0]}); choose a convolutional one"
        ) from error
    if not layers:
        raise UsageError(f"backbone '{name}' has no feature maps; choose a convolutional one")
    return Description(name, layers, family.stage_layers.get(bare(name)) or tuple(stage_ends(layers)))


def _feature_maps(family: Family, name: str, device: str) -> tuple[Layer, ...]:
    """Run the graph once and return its feature maps."""
    import torch

    with torch.device(device), torch.no_grad():
        module: nn.Module = family.build(bare(name)).eval()
        nodes = family.node_names(module)
        cut = family.cut(module, {node: node for node in nodes[1:]})
        outputs = cut(torch.zeros(1, 3, _PROBE, _PROBE))
    maps = {n: o.shape for n, o in outputs.items() if isinstance(o, torch.Tensor) and o.dim() == 4}
    maps = {n: shape for n, shape in maps.items() if 1 < shape[2] == shape[3]}
    fields = _fields(cut, list(maps))
    return tuple(Layer(n, s[1], 2 ** round(math.log2(_PROBE / s[2])), fields.get(n)) for n, s in maps.items())


def _fields(cut: nn.Module, names: list[str]) -> dict[str, int]:
    """Return the analytic receptive fields of all layers or, if an operation has no rule, of the first half or quarter."""
    from adbench.backbones.receptive_field.graph import analytic

    for count in (len(names), len(names) // 2, len(names) // 4):
        with suppress(UsageError):
            return {name: field.size for name, field in analytic(cut, names[:count]).items()}  # type: ignore[arg-type]
    return {}


def stage_ends(layers: tuple[Layer, ...]) -> list[str]:
    """Return the last layer of the last stage at each stride from 4 on.

    A stage is the part of a node's name up to its first number (`layer2`, `features.3`, `stages.1`).
    """
    stages: dict[str, Layer] = {}
    for layer in layers:
        found = re.match(r"(?:[A-Za-z_]+\.)*?[A-Za-z_]*\d+", layer.name)
        stages[found[0] if found else layer.name] = layer
    ends = {layer.stride: layer.name for layer in stages.values() if layer.stride >= 4}
    return list(ends.values())


def block_ends(layers: tuple[Layer, ...]) -> list[str]:
    """Return the last layer of every block from stride 4 on.

    A block is the part of a node's name up to its first number, or up to the second one if that follows directly
    (`layer2.3`, `blocks.4.1`, `features.7`). Nodes whose name has no parts (`maxpool`, `conv_head`) belong to no block.
    """
    pattern = re.compile(r"(?:[A-Za-z_]+\.)*[A-Za-z_]*\d+[A-Za-z_]*(?:\.[A-Za-z_]*\d+(?=\.))?")
    found = [(pattern.match(layer.name), layer) for layer in layers if "." in layer.name]
    return list({match[0]: layer.name for match, layer in found if match and layer.stride >= 4}.values())


def parse_layers(text: str, description: Description) -> tuple[str, ...]:
    """Return the layers named by `A` or `A+B`, in the order of the graph; raise UsageError for an unknown one."""
    names = {description.layer(part.strip()).name for part in text.split("+")}
    return tuple(layer.name for layer in description.layers if layer.name in names)
