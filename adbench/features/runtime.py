"""The place of work: a feature cache, a device, a listener. Importing this module loads no torch: a device is chosen with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from adbench.features.cache import FeatureCache
from adbench.types import OnStep, ignore_step

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Runtime:
    """Where features are kept, which device computes, and who listens."""

    store: FeatureCache
    device: torch.device
    on_step: OnStep = ignore_step
