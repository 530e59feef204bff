"""Rules for the receptive field: how each operation of a network changes the input pixels that its cells depend on.

One table by name; an operation that is missing there has no rule. Names are those of a module's class or its torch.nn base
class, of a function, or of a method without the trailing underscore of in-place forms.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any


@dataclass(frozen=True)
class Axis:
    """Cell i of a map depends on the input pixels from start + jump * i to end + jump * i, both included."""

    jump: int = 1
    start: int = 0
    end: int = 0

    def window(self, kernel: int, stride: int, dilation: int, before: int) -> Axis:
        """Return the axis behind a sliding window with `before` cells of padding at the low end (negative: cropped)."""
        reach = dilation * (kernel - 1) - before
        return Axis(self.jump * stride, self.start - before * self.jump, self.end + reach * self.jump)


class Placeless(Enum):
    """Values without a position in the image."""

    CONSTANT = "a parameter, a size or a number"
    WHOLE = "computed from the whole image, e.g. by global pooling"


@dataclass(frozen=True)
class Extent:
    """A tensor with two spatial axes. dims: their positions, counted from the end as in broadcasting."""

    y: Axis = Axis()
    x: Axis = Axis()
    dims: tuple[int, int] = (-2, -1)

    def windows(self, *per_axis: tuple[int, int, int, int]) -> Extent:
        """Return the extent behind one window each for y and x: (kernel, stride, dilation, padding before)."""
        return replace(self, y=self.y.window(*per_axis[0]), x=self.x.window(*per_axis[1]))


Value = Extent | Placeless


def join(values: Iterable[Value]) -> Value:
    """Return the union of the inputs of an elementwise operation or concatenation; ValueError if the maps do not match.

    A WHOLE value that scales or shifts a map (squeeze-excitation) is ignored.
    """
    values = list(values)
    extents = [value for value in values if isinstance(value, Extent)]
    if not extents:
        return Placeless.WHOLE if Placeless.WHOLE in values else Placeless.CONSTANT
    if len({(e.dims, e.y.jump, e.x.jump) for e in extents}) > 1:
        raise ValueError("maps of different strides or layouts are joined")
    y, x = (
        Axis(axes[0].jump, min(a.start for a in axes), max(a.end for a in axes))
        for axes in ([e.y for e in extents], [e.x for e in extents])
    )
    return Extent(y, x, extents[0].dims)


Shape = tuple[int, ...]


@dataclass(frozen=True)
class Call:
    """One operation on `extent`: its name, its module if it has one, and its arguments after the first.

    Arguments that are graph nodes are replaced by their shapes. shape: of the input; out: of the result; both are empty
    inside a module that was not traced, where shapes are unknown.
    """

    name: str
    extent: Extent
    module: Any = None
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] | None = None
    shape: Shape = ()
    out: Shape = ()

    def get(self, key: str, position: int, default: Any = None) -> Any:
        """Return an option: attribute `key` of the module, keyword `key`, or positional argument `position`."""
        if self.module is not None:
            return getattr(self.module, key, default)
        if self.kwargs and key in self.kwargs:
            return self.kwargs[key]
        return self.args[position] if position < len(self.args) else default

    def dims(self, key: str = "dim", position: int = 0, default: Any = None) -> set[int]:
        """Return the dimensions that an option names, counted from the end."""
        given = self.get(key, position, default)
        dims = given if isinstance(given, Sequence) else (given,)
        return {d - len(self.shape) if d >= 0 else d for d in dims}


class UnknownOperationError(Exception):
    """The table has no rule for this operation, or none for these arguments."""


Rule = Callable[[Call], Value]
RULES: dict[str, Rule] = {}


def _rule(names: str) -> Callable[[Rule], Rule]:
    def add(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(names.split(), rule))
        return rule

    return add


def _pair(value: Any) -> tuple[Any, Any]:
    return (value, value) if isinstance(value, int | str) else (value[0], value[-1])


def _need(condition: bool) -> None:
    if not condition:
        raise UnknownOperationError


@_rule(
    "relu relu6 leaky_relu elu selu celu gelu silu mish hardswish hardsigmoid hardtanh sigmoid tanh softplus prelu threshold "
    "add sub mul div truediv iadd isub imul neg pow sqrt rsqrt abs exp log clamp square maximum minimum where addcmul "
    "dropout dropout2d batch_norm clone contiguous detach to float half type_as expand_as stochastic_depth "
    "ReLU ReLU6 LeakyReLU ELU SELU CELU GELU SiLU Mish Hardswish Hardsigmoid Hardtanh Sigmoid Tanh Softplus PReLU Identity "
    "BatchNorm2d Dropout Dropout2d StochasticDepth DropPath LayerScale2d LayerNorm layer_norm "
    "SqueezeExcitation GroupNorm InstanceNorm2d group_norm instance_norm"
)
def pointwise(call: Call) -> Value:
    """Some of them scale by statistics of the whole image, which are ignored as in `join`."""
    return call.extent


@_rule("Conv2d conv2d MaxPool2d max_pool2d AvgPool2d avg_pool2d")
def window(call: Call) -> Value:
    """Padding by name, and that of timm's *Same layers, is placed as for an input size that is a multiple of the stride."""
    _need(call.extent.dims == (-2, -1))
    convolves = call.name in ("Conv2d", "conv2d")
    first = 1 if convolves else 0  # conv2d(x, weight, bias, stride, ...), max_pool2d(x, kernel, stride, ...)
    kernel = _pair(call.args[0][-2:]) if call.name == "conv2d" else _pair(call.get("kernel_size", 0))
    stride = _pair(call.get("stride", first + 1, 1 if convolves else None) or kernel)
    dilates = convolves or call.name in ("MaxPool2d", "max_pool2d")
    dilation = _pair(call.get("dilation", first + 3, 1) if dilates else 1)
    padding = _padding(call, call.get("padding", first + 2, 0))
    sizes = zip(kernel, stride, dilation, padding, strict=True)
    return call.extent.windows(*((k, s, d, _before(p, k, s, d)) for k, s, d, p in sizes))


def _padding(call: Call, given: Any) -> tuple[Any, Any]:
    if call.module is None or type(call.module).__module__.startswith("torch.nn."):
        return _pair(given)
    _need("Same" in type(call.module).__name__)  # another subclass may do anything
    return _pair("same") if getattr(call.module, "same_pad", True) else _pair(given)


def _before(padding: Any, kernel: int, stride: int, dilation: int) -> int:
    if padding == "same":
        return max(dilation * (kernel - 1) + 1 - stride, 0) // 2
    return 0 if padding == "valid" else int(padding)


@_rule("AdaptiveAvgPool2d AdaptiveMaxPool2d adaptive_avg_pool2d adaptive_max_pool2d")
def adaptive_pool(call: Call) -> Value:
    """Only one cell has a rule: with more, the window depends on the input's size."""
    _need(_pair(call.get("output_size", 0)) == (1, 1))
    return Placeless.WHOLE


@_rule("mean sum amax amin norm std var")
def reduction(call: Call) -> Value:
    dims = call.dims("dim", 1 if call.name == "norm" else 0, range(len(call.shape)))
    if dims.issuperset(call.extent.dims):
        return Placeless.WHOLE
    _need(max(dims) < min(call.extent.dims) or bool(call.get("keepdim", 1, False)))
    _need(dims.isdisjoint(call.extent.dims))
    return call.extent


@_rule("cat concat split chunk softmax log_softmax normalize Softmax glu")
def along_channels(call: Call) -> Value:
    """Only along channels: along a spatial axis, positions would move or mix."""
    default, position = {"normalize": (1, 1), "split": (0, 1), "chunk": (0, 1), "glu": (-1, 0)}.get(call.name, (0, 0))
    _need(call.dims("dim", position, default).isdisjoint(call.extent.dims))
    return call.extent


@_rule("stack")
def stack(call: Call) -> Value:
    dim = call.get("dim", 0, 0)
    _need((dim - len(call.out) if dim >= 0 else dim) < min(call.extent.dims))
    return call.extent


@_rule("Linear linear")
def linear(call: Call) -> Value:
    _need(-1 not in call.extent.dims)
    return call.extent


@_rule("permute Permute transpose swapaxes")
def permutation(call: Call) -> Value:
    rank = len(call.shape)
    given = call.get("dims", 0)
    if call.name in ("transpose", "swapaxes"):
        order = list(range(rank))
        a, b = call.get("dim0", 0), call.get("dim1", 1)
        order[a], order[b] = order[b], order[a]
    else:
        order = [d % rank for d in (given if isinstance(given, Sequence) else call.args)]
    y, x = (order.index(d + rank) - rank for d in call.extent.dims)
    return replace(call.extent, dims=(y, x))


@_rule("view reshape view_as reshape_as flatten Flatten unflatten Unflatten squeeze unsqueeze")
def reshape(call: Call) -> Value:
    """A spatial axis is found again by its length and the number of elements in front of it."""
    y, x = (_survivor(call, dim) for dim in call.extent.dims)
    return replace(call.extent, dims=(y, x))


def _survivor(call: Call, dim: int) -> int:
    at = dim + len(call.shape)
    wanted = (call.shape[at], math.prod(call.shape[:at])) if call.shape else ()
    found = [e for e, length in enumerate(call.out) if (length, math.prod(call.out[:e])) == wanted]
    _need(len(found) == 1)
    return found[0] - len(call.out)


@_rule("pad ZeroPad2d ConstantPad2d ReflectionPad2d ReplicationPad2d")
def pad(call: Call) -> Value:
    """Padding is (left, right, top, bottom, ...), and may go on for further dimensions."""
    _need(call.extent.dims == (-2, -1))
    given = call.get("padding" if call.module is not None else "pad", 0)
    left, top = given[0], given[2] if len(given) > 2 else 0
    return call.extent.windows((1, 1, 1, top), (1, 1, 1, left))


@_rule("getitem")
def crop(call: Call) -> Value:
    """Slices of a tensor (items of a list of tensors never get here)."""
    index = call.args[0] if isinstance(call.args[0], tuple) else (call.args[0],)
    _need(all(isinstance(item, slice) for item in index))
    full = [*index, *[slice(None)] * (len(call.shape) - len(index))]
    starts = [full[d].indices(call.shape[d]) for d in call.extent.dims]
    return call.extent.windows(*((1, step, 1, -start) for start, _, step in starts))
