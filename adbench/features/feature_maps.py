"""Feature maps of one or several layers over images, read from disk in batches and joined on the finest grid."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from adbench.types import OnStep, ignore_step

_BATCH_BYTES = 1 << 30  # of the maps of a batch
Shape = tuple[int, int, int]  # (channels, height, width) of one layer


def joined_shape(shapes: Sequence[Shape]) -> Shape:
    """Return (sum of the channels, h, w of the finest grid)."""
    finest = max(shapes, key=lambda shape: shape[1] * shape[2])
    return (sum(shape[0] for shape in shapes), finest[1], finest[2])


@dataclass(frozen=True)
class FeatureMaps:
    """N images' maps of L layers. layers: one (N, C_l, h_l, w_l) array each, memory-mapped float16 or float32.

    on_step, note: who is told of each batch that was used, and as what.
    """

    layers: tuple[NDArray[np.floating], ...]
    on_step: OnStep = field(default=ignore_step, compare=False)
    note: str = field(default="", compare=False)

    def __len__(self) -> int:
        return len(self.layers[0])

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """(C_l, h_l, w_l) of each layer."""
        return tuple((s[1], s[2], s[3]) for s in (layer.shape for layer in self.layers))

    @property
    def joined_shape(self) -> Shape:
        """(sum of the channels, h, w of the finest grid)."""
        return joined_shape(self.shapes)

    def part(self, rows: slice) -> "FeatureMaps":
        """Return the maps of some images, without a copy."""
        return replace(self, layers=tuple(layer[rows] for layer in self.layers))

    def watched(self, on_step: OnStep, note: str) -> "FeatureMaps":
        """Return the maps with a listener to their batches."""
        return replace(self, on_step=on_step, note=note)

    def at(self, rows: NDArray[np.int64]) -> "FeatureMaps":
        """Return a copy of the maps of the images with these numbers."""
        return replace(self, layers=tuple(layer[rows] for layer in self.layers))

    def read(self, rows: slice | Sequence[int] | NDArray[np.int64], device: torch.device) -> list[Tensor]:
        """Return the float32 maps of some images, one (B, C_l, h_l, w_l) tensor per layer."""
        return [layer.float() for layer in self.stored(rows, device)]

    def stored(self, rows: slice | Sequence[int] | NDArray[np.int64], device: torch.device) -> list[Tensor]:
        """Return the maps of some images in the type in which they are stored, one (B, C_l, h_l, w_l) tensor per layer."""
        return [_copied(layer[rows], device.type == "cuda").to(device, non_blocking=True) for layer in self.layers]

    def batches(self, size: int, device: torch.device) -> Iterator[tuple[slice, list[Tensor]]]:
        """Yield (rows, maps) of all images in order, `size` images at a time, fewer where they are large."""
        size = max(1, min(size, _BATCH_BYTES // sum(4 * math.prod(shape) for shape in self.shapes)))
        for start in range(0, len(self), size):
            rows = slice(start, min(start + size, len(self)))
            yield rows, self.read(rows, device)
            self.on_step(rows.stop, len(self), self.note)


def _copied(maps: NDArray[np.floating], pinned: bool) -> Tensor:
    """Return a copy, since memory maps are read-only; pinned: in page-locked memory, which a GPU copies asynchronously."""
    if not pinned:
        return torch.from_numpy(np.array(maps))
    copy = torch.empty(maps.shape, dtype=torch.from_numpy(np.empty(0, maps.dtype)).dtype, pin_memory=True)
    np.copyto(copy.numpy(), maps)
    return copy


def join(maps: Sequence[Tensor]) -> Tensor:
    """Return (B, sum C_l, h, w): all maps resized bilinearly (half-pixel centers) to the finest grid and concatenated.

    As PatchCore does (Roth et al., CVPR 2022, section 3.1), but the finest grid is used whatever the order of the layers.
    """
    grid = max((m.shape[-2:] for m in maps), key=lambda shape: shape[0] * shape[1])
    resized = [m if m.shape[-2:] == grid else F.interpolate(m, grid, mode="bilinear") for m in maps]
    return torch.cat(resized, dim=1) if len(resized) > 1 else resized[0]
