"""What a computation runs with: a feature cache, a device, a progress listener. Importing this module loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from adbench.backbones.families import Size
from adbench.backbones.layers import describe
from adbench.backbones.network import Network
from adbench.features.cache import FeatureCache
from adbench.features.tiling import Tiling
from adbench.features.view import View
from adbench.types import OnStep, ignore_step

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Runtime:
    """The feature cache, the device that computes, and the listener to its progress."""

    cache: FeatureCache
    device: torch.device
    on_step: OnStep = ignore_step

    @property
    def memo(self) -> Path:
        """The folder that describes traced backbones, beside that of the features."""
        return self.cache.folder.parent / "backbones"

    def tiling(self, view: View, native: Size, network: Network) -> Tiling:
        """Return where a network sees images of a `native` (height, width); raise UsageError if it cannot."""
        if isinstance(view.image_size, int) and not view.tile:
            return Tiling.whole(view.at(native))  # its size has been checked when the job was planned
        return Tiling.of(view, native, describe(network.backbone, self.memo), self.memo)
