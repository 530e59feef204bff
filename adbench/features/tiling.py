"""Tiles: where a network sees an image, and how the maps of its tiles become one map. Importing this module loads no torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from adbench.backbones.families import Size
from adbench.backbones.layers import Description, Shape, check_size, fits, map_shapes
from adbench.core.errors import UsageError
from adbench.features.view import View

Maps = Mapping[str, NDArray[np.floating]]  # (B, C, h, w) by layer


@dataclass(frozen=True)
class Axis:
    """One side of the image. length: of the image. tile: of a network's input. starts: of the tiles; all in pixels.

    The tiles cover the image and at most some pixels behind its end, which are mirrored. Their starts are multiples of the
    strides of all layers, so that the cells of a tile are cells of the whole.
    """

    length: int
    tile: int
    starts: tuple[int, ...] = (0,)

    @staticmethod
    def of(length: int, tile: int, overlap: float, step: int) -> Axis:
        """Return tiles at even distances that overlap by at least the share `overlap`; their starts are multiples of `step`."""
        padded = math.ceil(length / step) * step
        tile = min(tile, padded)
        most = max(step, int(tile * (1 - overlap)) // step * step)
        gaps = math.ceil((padded - tile) / most)
        starts = [round(i * (padded - tile) / gaps / step) * step for i in range(gaps)]
        return Axis(length, tile, (*starts, padded - tile))

    @property
    def padded(self) -> int:
        """The end of the last tile."""
        return self.starts[-1] + self.tile

    def count(self, cells: int) -> int:
        """Return the cells of the whole map of a layer that has `cells` in a tile: those with their center inside the image."""
        if self.padded == self.length and len(self.starts) == 1:
            return cells
        stride = self.tile // cells
        return self.padded // stride if self.padded == self.length else max(1, math.ceil(self.length / stride - 0.5))

    def shares(self, cells: int) -> list[tuple[slice, slice]]:
        """Return for each tile its cells of the whole map, and which of its own these are: the tile's center is the nearest."""
        stride, count = self.tile // cells, self.count(cells)
        middles = [(a + b + self.tile) / 2 for a, b in zip(self.starts, self.starts[1:], strict=False)]
        ends = [0, *(math.floor(middle / stride - 0.5) + 1 for middle in middles), count]
        found = []
        for start, low, high in zip(self.starts, ends, ends[1:], strict=False):
            first, last = min(low, count), min(high, count)
            found.append((slice(first, last), slice(first - start // stride, last - start // stride)))
        return found


def check_view(description: Description, view: View, memo: Path | None = None) -> None:
    """Raise UsageError for a view that no images can have with this backbone."""
    if view.is_native:
        check_tile(description, view)
    else:
        Tiling.of(view, (0, 0), description, memo)


def check_tile(description: Description, view: View) -> None:
    """Raise UsageError unless the tiles of a view can begin where cells of all layers do."""
    tile, step = view.tile, description.step
    if over := tile % step:
        near = " or ".join(str(n) for n in (tile - over, tile - over + step) if n)
        raise UsageError(f"tile {tile} does not fit {description.backbone}; take {near}")
    if view.overlap and 0 < tile * (1 - view.overlap) < step:
        raise UsageError(
            f"overlap {view.overlap:g} of tiles of {tile} px: those of {description.backbone} begin at multiples of {step} px; "
            f"take an overlap up to {1 - step / tile:.3g}, or a larger tile"
        )


@dataclass(frozen=True)
class Tiling:
    """Where a network sees an image of a view with its size in pixels: in one input, or in tiles.

    spread: the side that the smoothing of maps is given for, as shares of the image's height and width, see `Smoothing`.
    """

    view: View
    rows: Axis
    columns: Axis
    spread: tuple[float, float]

    @staticmethod
    def whole(view: View, side: float | None = None) -> Tiling:
        """Return the image as one input; side: see `View.side`, that of the view itself by default."""
        height, width = view.size
        return Tiling.made(view, Axis(height, height), Axis(width, width), side or view.side)

    @staticmethod
    def made(view: View, rows: Axis, columns: Axis, side: float) -> Tiling:
        """Return the tiling whose smoothing is given for inputs of a side in pixels."""
        return Tiling(view, rows, columns, (side / rows.length, side / columns.length))

    @staticmethod
    def of(view: View, native: Size, description: Description, memo: Path | None = None) -> Tiling:
        """Return the tiling of images of a `native` (height, width) for a backbone; `memo` as in `layers.describe`.

        Raise UsageError if the backbone does not take that size; a native one is padded to the next that it takes.
        """
        found = view.at(native)
        if not found.tile and not (view.is_native and not fits(description, found.size, memo)):
            check_size(description, found.size, memo)
            return Tiling.whole(found, view.side)
        check_tile(description, found)
        step = description.step
        rows, columns = (Axis.of(side, found.tile or side + step, found.overlap, step) for side in found.size)
        check_size(description, (rows.tile, columns.tile), memo)
        return Tiling.made(found, rows, columns, view.side)

    @property
    def inputs(self) -> Size:
        """(height, width) of one input."""
        return self.rows.tile, self.columns.tile

    @cached_property
    def is_whole(self) -> bool:
        """Whether the image is one input, without padding."""
        return self.count == 1 and self.inputs == self.view.size

    @property
    def count(self) -> int:
        """Inputs per image."""
        return len(self.rows.starts) * len(self.columns.starts)

    def shape(self, shape: Shape) -> Shape:
        """Return (C, h, w) of the whole map of a layer whose map of one input is (C, h, w); raise UsageError if it has none."""
        if not self.is_whole and (self.rows.tile % shape[1] or self.columns.tile % shape[2]):
            raise UsageError(
                f"tiles cannot be joined: a map of {shape[1]} x {shape[2]} cells does not divide an input of {self.rows.tile} x "
                f"{self.columns.tile} px; take another layer, or no tile"
            )
        return shape[0], self.rows.count(shape[1]), self.columns.count(shape[2])

    def check_layers(self, description: Description, layers: Iterable[str], memo: Path | None = None) -> None:
        """Raise UsageError if the maps of one of these layers cannot be joined."""
        for shape in () if self.is_whole else map_shapes(description, layers, self.inputs, memo):
            self.shape(shape)

    def cut(self, image: NDArray[np.int16]) -> Iterator[NDArray[np.int16]]:
        """Yield the inputs of an image (H, W, 3), row by row; behind its ends it is mirrored."""
        for top, left in product(self.rows.starts, self.columns.starts):
            tile = image[top : top + self.rows.tile, left : left + self.columns.tile]
            missing = (self.rows.tile - tile.shape[0], self.columns.tile - tile.shape[1])
            yield np.pad(tile, ((0, missing[0]), (0, missing[1]), (0, 0)), "symmetric") if any(missing) else tile

    def joined(self, batches: Iterable[Maps]) -> Iterator[dict[str, NDArray[np.floating]]]:
        """Yield the whole maps (1, C, h, w) of each image, by layer, from batches of the maps of its inputs in order."""
        found: dict[str, NDArray[np.floating]] = {}
        done = 0
        for batch in batches:
            for index in range(len(next(iter(batch.values())))):
                for layer, maps in batch.items():
                    found[layer] = self._put(found.get(layer) if done else None, maps[index], done)
                done = (done + 1) % self.count
                if not done:
                    yield found
                    found = {}

    def _put(self, whole: NDArray[np.floating] | None, part: NDArray[np.floating], number: int) -> NDArray[np.floating]:
        """Return the whole map (1, C, h, w) with the part (C, h, w) of a tile in its place; made for the first tile."""
        if whole is None:
            whole = np.empty((1, *self.shape(part.shape)), part.dtype)
        if part.dtype.itemsize > whole.dtype.itemsize:  # values that do not fit float16
            whole = whole.astype(part.dtype)
        row, column = divmod(number, len(self.columns.starts))
        (to_rows, rows), (to_columns, columns) = self.rows.shares(part.shape[1])[row], self.columns.shares(part.shape[2])[column]
        whole[0, :, to_rows, to_columns] = part[:, rows, columns]
        return whole
