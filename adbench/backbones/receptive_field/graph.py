"""The exact receptive field of a layer, computed from the network's graph."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

from adbench.backbones.receptive_field.extents import Extent, Placeless, Value, join
from adbench.backbones.receptive_field.fields import AnalyticField
from adbench.backbones.receptive_field.operations import RULES, Call, UnknownOperationError
from adbench.core.errors import UsageError
from adbench.core.registry import unknown

if TYPE_CHECKING:
    from torch import nn
    from torch.fx import GraphModule, Node

_PROBE = (256, 320)  # px; large enough for every network, sides that differ, multiples of 32


def analytic(module: GraphModule, layer: str) -> AnalyticField:
    """Return the exact receptive field of `layer`, a key of the dict that the traced feature extractor `module` returns.

    Intervals of input pixels are propagated along every path from the image through convolutions, pooling (kernel,
    stride, dilation, padding) and the union of joined paths: Araujo, Norris and Sim, "Computing receptive fields of
    convolutional neural networks", Distill 2019. The box is that of a cell far from the image's border, whatever the
    weights. Deviations and conventions:

    - A path on which position is lost (squeeze-excitation, any global pooling; statistics of group or instance
      normalisation) reaches the whole image; it is left out where it only scales or shifts a map, and `global_path` says so.
    - "Same" padding (timm's `tf_*`) depends on the input size; the offset holds for sizes that the stride divides.

    Raises UsageError for an operation without a rule (upsampling, attention, adaptive pooling to a grid, ...), for a layer
    that is no feature map, and for one that `module` does not return.
    """
    return analytic_all(module, [layer])[layer]


def analytic_all(module: GraphModule, layers: list[str] | None = None) -> dict[str, AnalyticField]:
    """Return the exact receptive field of several layers (None: all that `module` returns) from one walk, see `analytic`."""
    outputs = returned(module)
    shapes = _shapes(module)
    values: dict[Node, Value] = {}
    fields = {}
    for layer in outputs if layers is None else layers:
        if layer not in outputs:
            raise unknown("layer", layer, outputs, "layers BACKBONE")
        for node in _ancestors(outputs[layer], values):
            values[node] = _value(module, node, values, shapes, layer)
        fields[layer] = _field(layer, values[outputs[layer]])
    return fields


def returned(module: GraphModule) -> dict[str, Node]:
    """Return the graph's nodes by the keys of the dict that the module returns."""
    output = next(node for node in module.graph.nodes if node.op == "output")
    return cast("dict[str, Node]", dict(output.args[0]))


def _field(layer: str, value: Value) -> AnalyticField:
    if not isinstance(value, Extent):
        raise UsageError(f"layer '{layer}' is no feature map ({value.value}); choose one in front of it")
    y, x = value.y, value.x
    height, width = y.end - y.start + 1, x.end - x.start + 1
    return AnalyticField(layer, height, width, max(y.jump, x.jump), (x.start + x.end) / 2, value.global_path)


def _ancestors(node: Node, known: dict[Node, Value]) -> list[Node]:
    """Return the nodes that `node` needs and that are not known yet, itself included, in the graph's order."""
    needed, stack = set(), [node]
    while stack:
        here = stack.pop()
        if here not in needed and here not in known:
            needed.add(here)
            stack.extend(here.all_input_nodes)
    return [n for n in node.graph.nodes if n in needed]


def _shapes(module: GraphModule) -> dict[Node, Any]:
    """Return the shape of every node's tensor (a list for several tensors, None for no tensor); nothing is computed."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    shapes: dict[Node, Any] = {}

    class Recorder(torch.fx.Interpreter):
        def run_node(self, n: Node) -> Any:
            result = super().run_node(n)
            shapes[n] = _shape(result)
            return result

    parameter = next(module.parameters(), torch.empty(0))
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        Recorder(module).run(torch.empty(1, 3, *_PROBE, dtype=parameter.dtype, device=parameter.device))
    return shapes


def _shape(value: Any) -> Any:
    import torch

    if isinstance(value, torch.Tensor):
        return tuple(value.shape)
    if isinstance(value, list | tuple) and value and all(isinstance(item, torch.Tensor) for item in value):
        return [tuple(item.shape) for item in value]
    return None


def _value(module: GraphModule, node: Node, values: dict[Node, Value], shapes: dict[Node, Any], layer: str) -> Value:
    """Return what a node depends on, given what its inputs depend on."""
    if node.op == "placeholder":
        return Extent()
    if node.op == "get_attr" or shapes[node] is None:
        return Placeless.CONSTANT
    inputs = node.all_input_nodes
    name = type(module.get_submodule(str(node.target))).__name__ if node.op == "call_module" else _function(node)
    try:
        # the second tensor of `expand_as` and its like only lends its shape
        value = join(values[n] for n in (inputs[:1] if name.endswith("_as") else inputs))
        if not isinstance(value, Extent) or isinstance(shapes[inputs[0]], list):
            return value
        if node.op == "call_module":
            return _apply(module.get_submodule(str(node.target)), value, shapes[inputs[0]], shapes[node])
        return _call(node, name, value, shapes)
    except (UnknownOperationError, ValueError) as error:
        why = f": {error}" if str(error) else ""
        raise UsageError(
            f"layer '{layer}': no rule for the receptive field of operation '{name}' at node '{node.name}'{why}; "
            "choose a layer in front of it"
        ) from error


def _function(node: Node) -> str:
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
    return name if name == "_assert" else name.rstrip("_")


def _call(node: Node, name: str, extent: Extent, shapes: dict[Node, Any]) -> Value:
    """Apply the rule of a function or a method."""
    from torch.fx.node import map_arg

    if name not in RULES or name[0].isupper():
        raise UnknownOperationError
    shown = map_arg((node.args[1:], dict(node.kwargs)), lambda n: cast("Any", shapes[n]))
    first = shapes[node.all_input_nodes[0]] or ()
    out = shapes[node][0] if isinstance(shapes[node], list) else shapes[node]
    return RULES[name](Call(name, extent, None, shown[0], shown[1], first, out))


def _apply(module: nn.Module, value: Value, shape: tuple[int, ...], out: tuple[int, ...]) -> Value:
    """Apply the rule of a module, or those of its parts in order if it is a plain sequence that was not traced through."""
    if not isinstance(value, Extent):
        return value
    if is_sequence(module):
        for part in module.children():
            value = _apply(part, value, (), ())
        return value
    for name in _names(module):
        if name in RULES:
            return RULES[name](Call(name, value, module, shape=shape, out=out))
    raise UnknownOperationError("" if out else f"its part {type(module).__name__}")


def is_sequence(module: nn.Module) -> bool:
    """Return whether the module is an nn.Sequential that runs its parts one after the other."""
    from torch import nn

    return isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward


def _names(module: nn.Module) -> Iterator[str]:
    return (kind.__name__ for kind in type(module).__mro__)
