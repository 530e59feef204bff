"""A backbone's graph made fast for inference: batch norms folded into convolutions, and on a CPU activations as well.

A layer's features must not depend on which other layers are requested. So the whole graph is rewritten by rules that ignore
the request, and cut behind the deepest layer at the end. A layer that was merged into its neighbor (a convolution into its batch
norm, a batch norm into its activation) is computed in addition.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator, Sequence
from itertools import count
from operator import attrgetter
from typing import Any, TypeGuard, cast

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_weights

from adbench.backbones.families import Size
from adbench.backbones.network import Network
from adbench.backbones.receptive_field.graph import is_sequence

Activation = tuple[str, list[float]]  # oneDNN's name and constants
NO_ACTIVATION: Activation = ("none", [])
_NAMES: dict[type, str] = {nn.ReLU: "relu", nn.SiLU: "swish", nn.Hardswish: "hardswish"}


def is_plain_norm(module: object) -> TypeGuard[nn.BatchNorm2d]:
    """Return whether a module is a batch norm with fixed statistics, perhaps with an activation behind it (timm's)."""
    known = type(module) is nn.BatchNorm2d or type(module).__name__ == "BatchNormAct2d"
    return known and getattr(module, "running_mean", None) is not None


def is_plain_convolution(module: object) -> TypeGuard[nn.Conv2d]:
    """Return whether a module is a convolution that uses its weights as they are (not standardized, say), padded with zeros."""
    if type(module) is not nn.Conv2d and type(module).__name__ != "Conv2dSame":
        return False
    return isinstance(module, nn.Conv2d) and module.padding_mode == "zeros" and not isinstance(module.padding, str)


def folded(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    """Return one convolution that equals both; its weights are computed in float64."""
    assert norm.running_mean is not None and norm.running_var is not None  # noqa: S101  a plain norm
    known = conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.weight, norm.bias
    weight, bias, mean, variance, scale, shift = [cast(Tensor, None if value is None else value.double()) for value in known]
    weight, bias = fuse_conv_bn_weights(weight, bias, mean, variance, norm.eps, scale, shift)
    result = copy.copy(conv)
    result._parameters = dict(conv._parameters)  # or the new ones would be those of `conv` too
    result.weight, result.bias = nn.Parameter(weight.float()), nn.Parameter(bias.float())
    return result


def has_fused_convolutions() -> bool:
    """Return whether torch has oneDNN's convolution with an activation behind it, which torch's compiler uses too."""
    here: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return here and hasattr(torch.ops.mkldnn, "_convolution_pointwise")


class FusedConvolution(nn.Module):
    """A convolution and its activation as one operation, with weights laid out once, for the first input's shape."""

    def __init__(self, conv: nn.Conv2d, activation: Activation) -> None:
        super().__init__()
        self.same = type(conv).__name__ == "Conv2dSame"  # pads by the input's size, as TensorFlow does
        self.kernel = list(conv.kernel_size)
        self.geometry = (list(conv.padding), list(conv.stride), list(conv.dilation), conv.groups)
        self.activation = activation
        self.weight, self.bias = conv.weight.detach(), None if conv.bias is None else conv.bias.detach()
        self._laid_out, self._lock = False, threading.Lock()

    def forward(self, x: Tensor) -> Tensor:
        """Return the activated convolution of (B, C, H, W)."""
        if self.same:
            from timm.layers.padding import pad_same

            x = pad_same(x, self.kernel, *self.geometry[1:3])
        with self._lock:  # passes run side by side
            if not self._laid_out:
                self.weight = torch.ops.mkldnn._reorder_convolution_weight(self.weight, *self.geometry, list(x.shape))
                self._laid_out = True
        result: Tensor = torch.ops.mkldnn._convolution_pointwise(x, self.weight, self.bias, *self.geometry, *self.activation, "")
        return result


def inference_module(network: Network, layers: Sequence[str], size: Size, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """Return a module that computes `layers` for images (B, 3, H, W) of a size, on `device` and in `dtype`.

    A graph is rewritten by `fast_graph`. The blocks of a transformer run as their library wrote them.
    """
    if not network.has_stages(layers):
        return fast_graph(network.whole(size), layers, device, dtype)
    part = network.cut(layers, size)
    plain = device.type == "cpu" and dtype is torch.float32
    return part if plain else copy.deepcopy(part).to(device, dtype)


def fast_graph(whole: fx.GraphModule, layers: Sequence[str], device: torch.device, dtype: torch.dtype) -> fx.GraphModule:
    """Return the graph up to the deepest of `layers`, rewritten; the output of `whole` has every node, by name.

    Input and output, a dict of tensors by layer, are of `dtype`, channels-last. `whole` stays as it is; nothing is shared.
    """
    rewriting = _Rewriting(whole, layers)
    rewriting.expand_sequences()
    rewriting.drop_identities()
    rewriting.fold_norms()
    rewriting.cut()
    rewriting.own_parts(device, dtype)
    if device.type == "cpu" and has_fused_convolutions():
        rewriting.fuse_convolutions()
        rewriting.cut()
    rewriting.protect_layers()
    rewriting.graph.lint()
    module = fx.GraphModule(rewriting.parts, rewriting.graph).eval().requires_grad_(False)
    return module.to(memory_format=torch.channels_last)


class _Rewriting:
    """A copy of a graph, with the modules and tensors that its nodes name; `layers` are its output."""

    def __init__(self, whole: fx.GraphModule, layers: Sequence[str]) -> None:
        self.graph = fx.Graph()
        named: Any = self.graph.graph_copy(whole.graph, {})
        self.output = self.graph.output({layer: named[layer] for layer in layers})
        self.numbers = count()
        self.parts: dict[str, Any] = {
            str(node.target): attrgetter(str(node.target))(whole)
            for node in self.graph.nodes
            if node.op in ("call_module", "get_attr")
        }

    def module(self, node: Any) -> nn.Module | None:
        """Return the module that a node calls on one tensor and nothing else, if it does so."""
        if isinstance(node, fx.Node) and node.op == "call_module" and len(node.args) == 1 and not node.kwargs:
            module: nn.Module = self.parts[str(node.target)]
            return module
        return None

    def users(self, node: fx.Node) -> list[fx.Node]:
        """Return the nodes that use a node's value, without the output."""
        return [user for user in node.users if user is not self.output]

    def call(self, module: nn.Module, argument: Any, before: fx.Node) -> fx.Node:
        """Return a new node that calls a new module."""
        name = f"fast_{next(self.numbers)}"
        self.parts[name] = module
        with self.graph.inserting_before(before):
            return self.graph.call_module(name, (argument,))

    def replace(self, node: fx.Node, other: Any) -> None:
        """Replace `node` by `other`."""
        node.replace_all_uses_with(other)
        self.graph.erase_node(node)

    def expand_sequences(self) -> None:
        """Give each module of an `nn.Sequential`, such as torchvision's Conv2dNormActivation, a node of its own."""
        for node in list(self.graph.nodes):
            module = self.module(node)
            if module is not None and is_sequence(module):
                last = node.args[0]
                for part in _flat(module):
                    last = self.call(part, last, node)
                self.replace(node, last)

    def drop_identities(self) -> None:
        """Remove modules that do nothing in evaluation, so that their neighbors become adjacent."""
        for node in list(self.graph.nodes):
            if isinstance(self.module(node), nn.Identity | nn.Dropout | nn.Dropout2d):
                self.replace(node, node.args[0])

    def fold_norms(self) -> None:
        """Fold each batch norm into its convolution if nothing else uses the latter's value."""
        for node in list(self.graph.nodes):
            norm = self.module(node)
            if not is_plain_norm(norm):
                continue
            source = node.args[0]
            conv = self.module(source)
            if not is_plain_convolution(conv) or self.users(source) != [node]:
                continue
            new = self.call(folded(conv, norm), source.args[0], node)
            activation = getattr(norm, "act", None)
            if activation is not None and not isinstance(activation, nn.Identity):
                new = self.call(activation, new, node)
            self.replace(node, new)

    def fuse_convolutions(self) -> None:
        """Let oneDNN compute each convolution together with its activation if nothing else uses the convolution's value."""
        for node in list(self.graph.nodes):
            conv, users = self.module(node), self.users(node)
            if not is_plain_convolution(conv):
                continue
            activation = self.activation(users[0]) if len(users) == 1 else None
            if activation:
                self.replace(users[0], self.call(FusedConvolution(conv, activation), node.args[0], users[0]))
            self.replace(node, self.call(FusedConvolution(conv, NO_ACTIVATION), node.args[0], node))

    def activation(self, node: fx.Node) -> Activation | None:
        """Return a node's activation, or None if oneDNN has no equal one."""
        module = self.module(node)
        if isinstance(module, nn.Hardtanh):  # ReLU6 is one
            return ("hardtanh", [module.min_val, module.max_val])
        is_relu = node.op == "call_function" and node.target in (F.relu, torch.relu)
        name = "relu" if is_relu else _NAMES.get(type(module))
        return (name, []) if name else None

    def protect_layers(self) -> None:
        """Copy each requested layer before a node that works in place overwrites it."""
        requested: Any = self.output.args[0]
        kept = dict(requested)
        for name, node in requested.items():
            if any(self.is_in_place(user) for user in self.users(node)):
                with self.graph.inserting_after(node):
                    kept[name] = self.graph.call_method("clone", (node,))
        self.output.args = (kept,)

    def is_in_place(self, node: fx.Node) -> bool:
        """Return whether a node may overwrite its input."""
        if node.op == "call_method":
            return str(node.target).endswith("_")
        return bool(node.kwargs.get("inplace") or getattr(self.module(node), "inplace", False))

    def cut(self) -> None:
        """Remove nodes, modules and tensors that no requested layer needs."""
        for node in reversed(list(self.graph.nodes)):
            if not node.users and node.op not in ("placeholder", "output"):
                self.graph.erase_node(node)
        wanted = {str(node.target) for node in self.graph.nodes}
        self.parts = {name: part for name, part in self.parts.items() if name in wanted}

    def own_parts(self, device: torch.device, dtype: torch.dtype) -> None:
        """Copy all modules and tensors to `device` and `dtype`; batch norms stay float32, as torch allows."""
        for name, part in self.parts.items():
            own = copy.deepcopy(part).to(device)
            floating = isinstance(own, nn.Module) or own.is_floating_point()
            self.parts[name] = own.to(dtype) if floating and not is_plain_norm(own) else own


def _flat(sequence: nn.Module) -> Iterator[nn.Module]:
    """Yield the modules that a sequence calls one after the other, those of nested sequences too."""
    for part in sequence.children():
        if is_sequence(part):
            yield from _flat(part)
        else:
            yield part
