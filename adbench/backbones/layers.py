"""Layers of a backbone: names, channels and strides of all its feature maps, its main stages, and the input sizes it takes."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import redirect_stderr, suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from io import StringIO
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from adbench.backbones.families import NORM, Family, Size, bare, find
from adbench.core.errors import UsageError
from adbench.core.memo import Memo, code_and_libraries
from adbench.core.registry import match, nearest_by_number

if TYPE_CHECKING:
    from torch import nn
    from torch.fx import GraphModule

_PROBE = 256  # px; a multiple of the strides of convolutional networks
_ODD = 97  # px; a network that takes this size and multiples of 256 takes every larger one
_END = 8  # nodes at the end of a stage, one of which computes its output
_NEAR = 8  # strides; how far from a size that does not fit others are tried
Shape = tuple[int, int, int]  # channels, height and width of a feature map
_FAILURES = (RuntimeError, TypeError, ValueError, AssertionError, AttributeError, NotImplementedError, IndexError, KeyError)


@dataclass(frozen=True)
class Layer:
    """A feature map: its channels, stride and analytic receptive field in input pixels.

    The field is None where every pixel is seen (attention), or if the graph has an operation without a rule.
    """

    name: str
    channels: int
    stride: int
    field: int | None = None


@dataclass(frozen=True)
class Description:
    """All feature maps of a backbone, shallow first, and the last layer of each main stage.

    usual_size: height and width of the images that it was made for. any_from: it takes every square image from this many pixels
    on; None if that depends on the size. device: where it can be run to find its shapes, "meta" (without values) or "cpu".
    aliases: pairs of the library's names of layers that have another one here.
    """

    backbone: str
    layers: tuple[Layer, ...]
    stages: tuple[str, ...]
    usual_size: tuple[int, int] = (_PROBE, _PROBE)
    any_from: int | None = None
    device: str = "meta"
    aliases: tuple[tuple[str, str], ...] = ()

    def layer(self, name: str) -> Layer:
        """Return the layer that a user means by the name of a node, or of a module (`layer2`: its last node)."""
        exact = {layer.name: layer for layer in self.layers}
        bare_name = name.removesuffix(NORM)
        name = dict(self.aliases).get(bare_name, bare_name) + name[len(bare_name) :]
        within = [layer for layer in self.layers if layer.name.startswith(f"{name}.")]
        if name not in exact and within:
            return within[-1]
        modules = {".".join(parts[:n]) for parts in (key.split(".") for key in exact) for n in range(1, len(parts) + 1)}
        if name not in exact and (ends := _ends(name, [*modules, *dict(self.aliases)])):
            raise UsageError(f"unknown layer '{name}' of {self.backbone}; the first is '{ends[0]}', the last '{ends[1]}'")
        if name not in exact and (near := nearest_by_number(name, sorted(modules))):
            raise UsageError(f"unknown layer '{name}' of {self.backbone}; did you mean '{near}'?")
        return exact[match("layer", name, exact, f"layers {self.backbone} --all", f" of {self.backbone}")]

    @property
    def step(self) -> int:
        """The distance in pixels at which the cells of all layers begin together."""
        return math.lcm(*(layer.stride for layer in self.layers))

    @property
    def fields(self) -> dict[str, int]:
        """The analytic receptive field of each layer in input pixels, where it is known."""
        return {layer.name: layer.field for layer in self.layers if layer.field}


@dataclass(frozen=True)
class Field:
    """The receptive field of a job's layers in input pixels: estimated from gradients, and analytic; None where it is unknown."""

    estimated: int | None = None
    analytic: int | None = None


def joined_field(layers: Sequence[str], analytic: Mapping[str, int], estimated: Mapping[str, int]) -> Field | None:
    """Return the receptive field of joined layers, given those of single ones: the largest, None without any."""
    found = [max(kind[layer] for layer in layers) if all(map(kind.get, layers)) else None for kind in (estimated, analytic)]
    return Field(*found) if any(found) else None


@lru_cache(maxsize=64)
def describe(backbone: str, memo: Path | None = None) -> Description:
    """Return the description of a backbone, traced once and kept in the folder `memo` for later processes.

    Layers are nodes of the network's graph where the graph has a feature map at the end of each stage. Otherwise, as for most
    transformers, they are the blocks and stages that the family knows. Raises UsageError for an unknown backbone and for one
    that has no feature maps.
    """
    found = _memo(backbone, memo).answer(backbone, lambda: asdict(_trace(*find(backbone))))
    rest = {"stages": tuple(found["stages"]), "usual_size": tuple(found["usual_size"])}
    rest |= {"layers": tuple(Layer(**layer) for layer in found["layers"]), "aliases": tuple(map(tuple, found["aliases"]))}
    return Description(**{**found, **rest})


def _memo(backbone: str, memo: Path | None) -> Memo:
    file = memo / f"{re.sub('[^A-Za-z0-9_.-]', '_', backbone)}.json" if memo else None
    return Memo(file, code_and_libraries())


def check_size(description: Description, size: int | Size, memo: Path | None = None) -> None:
    """Raise UsageError, with the two nearest sizes that fit, unless the backbone takes images of a size.

    size here and below: the side of a square in pixels, or (height, width).
    """
    if fits(description, size, memo):
        return
    near = [_nearest(description, size, memo, above) for above in (False, True)]
    nearest = " or ".join(_written(n) for n in near if n) or description.usual_size[0]
    raise UsageError(f"image size {_written(size)} does not fit {description.backbone}; take {nearest}")


def size_within(description: Description, size: int, memo: Path | None = None) -> int:
    """Return the largest square up to `size` that the backbone takes; raise UsageError as `check_size` does if none is near."""
    found = size if fits(description, size, memo) else _nearest(description, size, memo, above=False)
    if not isinstance(found, int):
        check_size(description, size, memo)
        return size
    return found


def _nearest(description: Description, size: int | Size, memo: Path | None, above: bool) -> int | Size | None:
    """Return the nearest size on one side of a size that does not fit, None if none is near."""
    step = max(layer.stride for layer in description.layers)
    if isinstance(size, tuple):
        height, width = (-(-side // step) * step if above else side // step * step for side in size)
        return (height, width) if min(height, width) and fits(description, (height, width), memo) else None
    first = -(-size // step) * step if above else size // step * step
    tries = range(first, first + _NEAR * step, step) if above else range(first, 0, -step)[:_NEAR]
    return next((n for n in tries if n != size and fits(description, n, memo)), None)


def fits(description: Description, size: int | Size, memo: Path | None = None) -> bool:
    """Return whether the backbone takes images of a size; tried once without computing values, then kept."""
    if description.any_from is not None and min(_pair(size)) >= description.any_from:
        return True
    return bool(_tried(description, _pair(size), memo))


def map_shapes(description: Description, names: Iterable[str], size: int | Size, memo: Path | None = None) -> list[Shape]:
    """Return channels, height and width of layers' maps of images of a size that fits."""
    found = _tried(description, _pair(size), memo)
    return [(channels, height, width) for channels, height, width in (found[name] for name in names)]


@lru_cache(maxsize=1024)
def _tried(description: Description, size: Size, memo: Path | None) -> dict[str, Shape]:
    """Return the shape of each layer's map, nothing if the backbone does not take the size."""

    def ask() -> dict[str, Shape]:
        layers = [layer.name for layer in description.layers]
        return _map_shapes(*find(description.backbone), layers, size, description.device)

    return dict(_memo(description.backbone, memo).answer(["shapes", size[0] if size[0] == size[1] else list(size)], ask))


def _pair(size: int | Size) -> Size:
    return size if isinstance(size, tuple) else (size, size)


def _written(size: int | Size) -> str:
    height, width = _pair(size)
    return str(height) if height == width else f"{height}x{width}"


def _map_shapes(family: Family, name: str, layers: Sequence[str], size: Size, device: str) -> dict[str, Shape]:
    from adbench.backbones.stages import cut

    with suppress(*_FAILURES):
        usual, built = _built(family, name, device, None), _built(family, name, device, size)
        if built is not usual:  # position tables of weights are interpolated, which not every library does
            built.load_state_dict(family.resized(usual.state_dict(), built))
        module = cut(family, built, layers)
        return {layer: shape[1:] for layer, shape in _shapes(module, device, size).items()}
    return {}


@lru_cache(maxsize=2)
def _built(family: Family, name: str, device: str, size: Size | None) -> nn.Module:
    """Return a network of random weights for an input size."""
    import torch

    if size is not None:
        usual = _built(family, name, device, None)
        if family.fixed_size(usual) in (None, size):
            return usual
    with torch.device(device):
        return family.build(bare(name), *((size,) if size else ())).eval()


def _shapes(module: nn.Module, device: str, size: Size) -> dict[str, Any]:
    """Run a cut network on two images; return the shape of each layer's tensor, a list for several, None for other values."""
    import torch

    from adbench.backbones.receptive_field.graph import shape_of

    with torch.device(device), torch.no_grad(), redirect_stderr(StringIO()):  # a graph prints where it fails
        outputs = module(torch.zeros(2, 3, *size))
    return {layer: shape_of(value) for layer, value in outputs.items()}


def _trace(family: Family, name: str) -> Description:
    problem: Exception | None = None
    for device in ("meta", "cpu"):  # "meta" computes shapes only, but not every network can be built there
        try:
            return _described(family, name, device)
        except _FAILURES as error:
            problem = error
    text = (str(problem).splitlines() or [type(problem).__name__])[0]
    raise UsageError(
        f"backbone '{name}': no layers found ({text[:200]}); choose another, see 'adbench list backbones'"
    ) from problem


def _described(family: Family, name: str, device: str) -> Description:
    module = _built(family, name, device, None)
    layers: tuple[Layer, ...] = ()
    problem: Exception = ValueError("none of its outputs is a feature map")
    for found in (_graph_maps, _stage_maps):
        try:
            layers = layers or found(family, name, module, device)
        except _FAILURES as error:
            problem = error
    if not layers:
        raise problem
    known = family.stages(module)
    aliases = tuple((theirs, ours) for ours, theirs in known.items() if theirs != ours and theirs not in known)
    own = all(layer.name.removesuffix(NORM) in known for layer in layers)
    stages = family.stage_layers.get(bare(name)) or main_layers(layers, list(known) if own else None)
    free = not family.fixed_size(module) and bool(
        _map_shapes(family, name, [layer.name for layer in layers], (_ODD, _ODD), device)
    )
    return Description(name, layers, tuple(stages), family.usual_size(module), _ODD if free else None, device, aliases)


def _graph_maps(family: Family, name: str, module: nn.Module, device: str) -> tuple[Layer, ...]:
    """Return the feature maps of the network's graph; none if it misses the end of a stage, as that of most transformers does."""
    from adbench.backbones.receptive_field.graph import input_dependent

    nodes = family.node_names(module)[1:]
    size = family.fixed_size(module) or (_PROBE, _PROBE)

    def graph_of(built: nn.Module, wanted: Iterable[str] = nodes) -> nn.Module:
        return family.cut(built, {node: node for node in wanted})

    module = _built(family, name, device, size)
    stages = [[n for n in nodes if n == stage or n.startswith(f"{stage}.")] for stage in family.stages(module).values()]
    ends = [stage[-_END:] for stage in stages if stage]  # no module has the name of some stages
    if stages and not ends:
        return ()
    if ends:  # asked first, because a graph with all of its nodes takes long to make
        found = _shapes(graph_of(module, chain.from_iterable(ends)), device, size)
        if not all(_is_map([found[n] for n in end if found[n] is not None][-1]) for end in ends):
            return ()
    graph = graph_of(module)
    shapes = _shapes(graph, device, size)
    dependent = input_dependent(cast("GraphModule", graph), shapes)
    maps = _maps(family, name, device, size, graph, graph_of, shapes)
    maps = {layer: facts for layer, facts in maps.items() if layer in dependent}
    fields = _fields(graph, list(maps))
    return tuple(Layer(layer, *facts, fields.get(layer)) for layer, facts in maps.items())


def _stage_maps(family: Family, name: str, module: nn.Module, device: str) -> tuple[Layer, ...]:
    """Return the feature maps behind the network's blocks or stages."""
    from adbench.backbones.stages import Stages

    names, size = family.stage_names(module), family.usual_size(module)
    if not names:
        return ()
    part = Stages(family, _built(family, name, device, size), names)
    shapes = _shapes(part, device, size)
    maps = _maps(family, name, device, size, part, lambda built: Stages(family, built, names), shapes)
    return tuple(Layer(layer, *facts) for layer, facts in maps.items())


def _maps(
    family: Family, name: str, device: str, size: Size, part: nn.Module, part_of: Callable[[nn.Module], nn.Module],
    shapes: dict[str, Any],
) -> dict[str, tuple[int, int]]:  # fmt: skip
    """Return channels and stride of the outputs of a cut network that are feature maps.

    shapes: of its outputs at `size`. They are compared with those at twice that, or at half where values have to be computed.
    """
    other = (2 * size[0], 2 * size[1]) if device == "meta" else (size[0] // 2, size[1] // 2)
    small, large, side = shapes, None, size[0]
    with suppress(*_FAILURES):  # not every network takes the other size
        fixed = family.fixed_size(_built(family, name, device, None))
        found = _shapes(part_of(_built(family, name, device, other)) if fixed else part, device, other)
        small, large, side = (shapes, found, side) if device == "meta" else (found, shapes, other[0])
    facts = {layer: _facts(shape, side, large and large[layer]) for layer, shape in small.items()}
    return {layer: found for layer, found in facts.items() if found}


def _is_map(shape: Any) -> bool:
    """Return whether a shape is that of a map of two square images."""
    return isinstance(shape, tuple) and len(shape) == 4 and shape[0] == 2 and 1 < shape[2] == shape[3]


def _facts(shape: Any, side: int, larger: Any) -> tuple[int, int] | None:
    """Return channels and stride of a map, given its shape for two images of `side` pixels and for images of twice that."""
    if not _is_map(shape):
        return None
    if larger and not (_is_map(larger) and larger[1] == shape[1] and 1.5 < larger[2] / shape[2] < 2.6):
        return None  # attention (B, heads, tokens, tokens), say
    power = 2 ** round(math.log2(side / shape[2]))
    if side // power <= shape[2] <= -(-side // power):
        return shape[1], power
    return shape[1], round(side / (larger[2] - shape[2] if larger else shape[2]))


def _fields(graph: nn.Module, names: list[str]) -> dict[str, int]:
    """Return the analytic receptive fields of all layers or, if an operation has no rule, of the first half or quarter."""
    from adbench.backbones.receptive_field.graph import analytic

    for count in (len(names), len(names) // 2, len(names) // 4):
        with suppress(UsageError, *_FAILURES):  # a network of one size cannot run at that of the analysis
            return {name: field.size for name, field in analytic(graph, names[:count]).items()}  # type: ignore[arg-type]
    return {}


def _ends(name: str, names: Iterable[str]) -> tuple[str, str] | None:
    """Return the first and the last of the names with other numbers behind them, if that of `name` is outside their range."""
    split = re.fullmatch(r"(.*?)(-?\d+)", name)
    if not split:
        return None
    stem, number = split[1], int(split[2])
    numbers = [int(other[len(stem) :]) for other in names if other.startswith(stem) and other[len(stem) :].isdecimal()]
    if len(numbers) < 2 or min(numbers) <= number <= max(numbers):
        return None
    return f"{stem}{min(numbers)}", f"{stem}{max(numbers)}"


def main_layers(layers: tuple[Layer, ...], stages: Sequence[str] | None = None) -> list[str]:
    """Return the last layer of the last stage at each stride from 4 on; with one stride, the blocks at each quarter of the depth.

    stages: the layers that are ends of stages, where the network's library names them.
    """
    deep = {layer.stride: layer.name for layer in layers if layer.stride >= 4 and layer.name in (stages or ())}
    ends = list(deep.values()) or stage_ends(layers)
    if len(ends) > 1:
        return ends
    blocks = list(stages or block_ends(layers)) or ends
    return list(dict.fromkeys(blocks[max(0, round(len(blocks) * share / 4) - 1)] for share in (1, 2, 3, 4)))


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
    """Return the layers named by `A` or `A+B`, in the order of the graph; raise UsageError for an unknown or repeated one."""
    names = [description.layer(part.strip()).name for part in text.split("+")]
    if repeated := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(f"layers '{text}': '{repeated}' is joined with itself; name each layer once")
    return tuple(layer.name for layer in description.layers if layer.name in names)
