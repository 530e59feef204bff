"""Intervals of input pixels that the cells of a feature map depend on, and how windows and joins change them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum


@dataclass(frozen=True)
class Axis:
    """Cell i of a map depends on no pixels outside [start + jump * i, end + jump * i], and on both of these."""

    jump: int = 1
    start: int = 0
    end: int = 0

    def window(self, kernel: int, stride: int, dilation: int, before: int) -> Axis:
        """Return the axis behind a sliding window with `before` cells of padding at the low end (negative: cropped)."""
        reach = dilation * (kernel - 1) - before
        return Axis(self.jump * stride, self.start - before * self.jump, self.end + reach * self.jump)


class Placeless(Enum):
    """Values whose elements belong to no place in the image."""

    CONSTANT = "a parameter, a size or a number"
    WHOLE = "computed from the whole image, e.g. by global pooling"


@dataclass(frozen=True)
class Extent:
    """A tensor with two spatial axes. dims: where they lie, counted from the end, as broadcasting does.

    global_path: a WHOLE value has been mixed in; its dependence is left out of the axes.
    """

    y: Axis = Axis()
    x: Axis = Axis()
    dims: tuple[int, int] = (-2, -1)
    global_path: bool = False

    def windows(self, *per_axis: tuple[int, int, int, int]) -> Extent:
        """Return the extent behind one window each for y and x: (kernel, stride, dilation, padding before)."""
        return replace(self, y=self.y.window(*per_axis[0]), x=self.x.window(*per_axis[1]))

    def mixed_with_whole(self) -> Extent:
        """Return the extent after a WHOLE value was mixed in."""
        return replace(self, global_path=True)


Value = Extent | Placeless


def join(values: Iterable[Value]) -> Value:
    """Return the union of what elementwise operations and concatenations combine; ValueError if the maps do not match."""
    values = list(values)
    extents = [value for value in values if isinstance(value, Extent)]
    if not extents:
        return Placeless.WHOLE if Placeless.WHOLE in values else Placeless.CONSTANT
    if len({(e.dims, e.y.jump, e.x.jump) for e in extents}) > 1:
        raise ValueError("maps of different strides or layouts are joined")
    mixed = Placeless.WHOLE in values or any(e.global_path for e in extents)
    return Extent(_hull(e.y for e in extents), _hull(e.x for e in extents), extents[0].dims, mixed)


def _hull(axes: Iterable[Axis]) -> Axis:
    axes = list(axes)
    return Axis(axes[0].jump, min(a.start for a in axes), max(a.end for a in axes))
