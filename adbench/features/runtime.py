"""What a computation runs with: a feature cache, a device, a progress listener. Importing this module loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from adbench.features.cache import FeatureCache
from adbench.types import OnStep, ignore_step

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Runtime:
    """The feature cache, the device that computes, and the listener to its progress."""

    store: FeatureCache
    device: torch.device
    on_step: OnStep = ignore_step
