"""The exact receptive field of a layer, computed from the network's graph."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx import GraphModule, Node
from torch.fx.node import map_arg

from adbench.backbones.receptive_field.operations import RULES, Call, Extent, Placeless, UnknownOperationError, Value, join
from adbench.core.errors import UsageError
from adbench.core.registry import unknown

_PROBE = (256, 320)  # px; large enough for every network, not square, multiples of 32


@dataclass(frozen=True)
class AnalyticField:
    """The exact receptive field of a layer, in input pixels.

    Cell (i, j) of the map can depend on the pixels of a box `height` x `width`, centered at (stride * i + offset,
    stride * j + offset).
    """

    height: int
    width: int
    stride: int
    offset: float  # of the horizontal axis; the vertical one differs only after kernels that are not square

    @property
    def size(self) -> int:
        """The longer side of the box: the number that tables show."""
        return max(self.height, self.width)


def analytic(module: GraphModule, layers: Sequence[str]) -> dict[str, AnalyticField]:
    """Return the exact receptive fields of `layers`, keys of the dict that the traced `module` returns.

    Intervals of input pixels are propagated along every path from the image through convolutions, pooling (kernel,
    stride, dilation, padding) and the union of joined paths: Araujo, Norris and Sim, "Computing receptive fields of
    convolutional neural networks", Distill 2019. The box is that of a cell far from the image's border, independent
    of the weights. Deviations and conventions:

    - A path that loses position (squeeze-excitation, any global pooling, statistics of group or instance normalization)
      reaches the whole image. It is ignored where it only scales or shifts a map.
    - "Same" padding (timm's `tf_*`) depends on the input size; the offset is valid for multiples of the stride.

    Raises UsageError for an operation without a rule (upsampling, attention, adaptive pooling to a grid, ...), for a layer
    that is no feature map, and for one that `module` does not return.
    """
    output = next(node for node in module.graph.nodes if node.op == "output")
    outputs = cast("dict[str, Node]", dict(output.args[0]))
    shapes = _shapes(module)
    values: dict[Node, Value] = {}
    fields = {}
    for layer in layers:
        if layer not in outputs:
            raise unknown("layer", layer, outputs, "layers BACKBONE")
        for node in _ancestors(outputs[layer], values):
            values[node] = _value(module, node, values, shapes, layer)
        value = values[outputs[layer]]
        if not isinstance(value, Extent):
            raise UsageError(f"layer '{layer}' is no feature map ({value.value}); choose one in front of it")
        y, x = value.y, value.x
        height, width = y.end - y.start + 1, x.end - x.start + 1
        fields[layer] = AnalyticField(height, width, max(y.jump, x.jump), (x.start + x.end) / 2)
    return fields


def input_dependent(graph: GraphModule, shapes: Mapping[str, Any]) -> set[str]:
    """Return the keys of the graph's output whose values depend on the image, not only on its size (a table of positions does).

    shapes: of each node that is a key of the output, see `shape_of`. What is computed from numbers alone does not depend on it.
    """
    output = next(node for node in graph.graph.nodes if node.op == "output")
    names = {node: key for key, node in cast("dict[str, Node]", dict(output.args[0])).items()}
    dependent: set[Node] = set()
    for node in graph.graph.nodes:
        reads = any(source in dependent for source in node.all_input_nodes) and not _lends_shape(node)
        if node.op == "placeholder" or (reads and shapes.get(names.get(node, "")) is not None):
            dependent.add(node)
    return {names[node] for node in dependent if node in names}


def _lends_shape(node: Node) -> bool:
    """Return whether a node takes only the shape and the type of its input (`zeros_like`, `new_ones`)."""
    return _function(node).endswith("_like") or _function(node).startswith("new_")


def activation_bytes(module: GraphModule, side: int) -> int:
    """Return the bytes of all float32 maps of a pass over one image of `side` x `side` pixels, as a backward pass needs them."""
    numbers = sum(math.prod(shape) for shape in _shapes(module).values() if isinstance(shape, tuple))
    return 4 * numbers * side**2 // math.prod(_PROBE)


def _ancestors(node: Node, known: dict[Node, Value]) -> list[Node]:
    """Return `node` and the nodes it depends on, without the known ones, in the graph's order."""
    needed, stack = set(), [node]
    while stack:
        here = stack.pop()
        if here not in needed and here not in known:
            needed.add(here)
            stack.extend(here.all_input_nodes)
    return [n for n in node.graph.nodes if n in needed]


def _shapes(module: GraphModule) -> dict[Node, Any]:
    """Return the shape of each node's tensor (a list for several tensors, None for other values), without computing values."""
    shapes: dict[Node, Any] = {}

    class Recorder(torch.fx.Interpreter):
        def run_node(self, n: Node) -> Any:
            result = super().run_node(n)
            shapes[n] = shape_of(result)
            return result

    parameter = next(module.parameters(), torch.empty(0))
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        Recorder(module).run(torch.empty(1, 3, *_PROBE, dtype=parameter.dtype, device=parameter.device))
    return shapes


def shape_of(value: Any) -> Any:
    """Return the shape of a tensor, a list of shapes of several tensors, None for anything else."""
    if isinstance(value, torch.Tensor):
        return tuple(value.shape)
    several = isinstance(value, list | tuple) and value and all(isinstance(item, torch.Tensor) for item in value)
    return [tuple(item.shape) for item in value] if several else None


def _value(module: GraphModule, node: Node, values: dict[Node, Value], shapes: dict[Node, Any], layer: str) -> Value:
    """Return the value of a node, given the values of its inputs."""
    if node.op == "placeholder":
        return Extent()
    if node.op == "get_attr" or shapes[node] is None:
        return Placeless.CONSTANT
    inputs = node.all_input_nodes
    name = type(module.get_submodule(str(node.target))).__name__ if node.op == "call_module" else _function(node)
    try:
        givers = inputs[:1] if name.endswith("_as") else inputs  # the second tensor of `expand_as` etc. only lends its shape
        value = join(values[n] for n in givers)
        if not isinstance(value, Extent) or isinstance(shapes[inputs[0]], list):
            return value
        if node.op == "call_module":
            return _apply(module.get_submodule(str(node.target)), value, shapes[inputs[0]], shapes[node])
        if name not in RULES or name[0].isupper():
            raise UnknownOperationError
        args, kwargs = map_arg((node.args[1:], dict(node.kwargs)), lambda n: cast("Any", shapes[n]))
        out = shapes[node][0] if isinstance(shapes[node], list) else shapes[node]
        return RULES[name](Call(name, value, None, args, kwargs, shapes[inputs[0]] or (), out))
    except (UnknownOperationError, ValueError) as error:
        why = f": {error}" if str(error) else ""
        raise UsageError(
            f"layer '{layer}': no rule for the receptive field of operation '{name}' at node '{node.name}'{why}; "
            "choose a layer in front of it"
        ) from error


def _function(node: Node) -> str:
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
    return name if name == "_assert" else name.rstrip("_")


def _apply(module: nn.Module, value: Value, shape: tuple[int, ...], out: tuple[int, ...]) -> Value:
    """Apply the rule of a module, or the rules of its parts in order if it is a plain sequence that was not traced."""
    if not isinstance(value, Extent):
        return value
    if is_sequence(module):
        for part in module.children():
            value = _apply(part, value, (), ())
        return value
    for name in (kind.__name__ for kind in type(module).__mro__):
        if name in RULES:
            return RULES[name](Call(name, value, module, shape=shape, out=out))
    raise UnknownOperationError("" if out else f"its part {type(module).__name__}")


def is_sequence(module: nn.Module) -> bool:
    """Return whether the module is an nn.Sequential that runs its parts one after the other."""
    return isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward
