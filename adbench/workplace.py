"""The place of work: a feature cache, a device, a listener. Importing this module loads no torch: a device is chosen with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from adbench.errors import UsageError
from adbench.store import FeatureStore
from adbench.types import OnStep, ignore_step

if TYPE_CHECKING:
    import torch


def choose_device(name: str) -> torch.device:
    """Return the device called auto, cpu, cuda, cuda:N or mps; raise UsageError if this machine lacks it."""
    import torch

    has_mps = torch.backends.mps.is_available()
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if has_mps else "cpu")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    present = ["cpu", *(["cuda"] if count else []), *(f"cuda:{i}" for i in range(count)), *(["mps"] if has_mps else [])]
    if name not in present:
        raise UsageError(f"device '{name}' is not on this machine; choose from: auto, {', '.join(present)}")
    return torch.device(name)


def check_device(name: str) -> None:
    """Raise UsageError as `choose_device` does, without torch for a name that is right on every machine."""
    if name not in ("auto", "cpu"):
        choose_device(name)


@dataclass(frozen=True)
class Workplace:
    """Where features are kept, which device computes, and who listens."""

    store: FeatureStore
    device: torch.device
    on_step: OnStep = ignore_step
