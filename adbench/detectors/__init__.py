"""Anomaly detectors on feature maps; one file each, found by import. A detector never sees an image or a backbone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from adbench.feature_maps import FeatureMaps, Shape
from adbench.registry import Registry
from adbench.types import OnStep, Scores, ignore_step


@dataclass
class Detector:
    """The contract. Parameters are the fields of a subclass (a dataclass), each with its published default.

    `fit` and `score` take N images' maps of one or several layers; `score` returns float32 image scores (N,) and maps
    (N, h, w) on the feature grid. `revision` grows with every change of method, or of the features that all are given,
    that moves a number. `seed` decides all randomness. `smoothing` is the sigma of the Gaussian that the evaluation lays
    over the map, in pixels at a 256 grid.
    """

    revision: ClassVar[int] = 2
    smoothing: ClassVar[float] = 0.0
    seed: int = 0

    def unsupported(self, shapes: Sequence[Shape]) -> str | None:
        """Return why features of these shapes, one per joined layer, cannot be used, or None."""
        return None

    def memory_bytes(self, images: int, shapes: Sequence[Shape]) -> int:
        """Return what a fit to so many images' features of these shapes takes at most, as far as it can be told; else 0."""
        return 0

    def fit(self, features: FeatureMaps, *, device: torch.device, on_step: OnStep = ignore_step) -> "Detector":
        """Learn from nominal images and return self; raise DetectorError if that diverges."""
        raise NotImplementedError

    def score(self, features: FeatureMaps, *, device: torch.device) -> Scores:
        """Return scores of N images, higher = more anomalous. Once it has answered it may be asked by several threads at once."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Tensor]:
        """Return what `fit` learnt, as CPU tensors for a safetensors file."""
        raise NotImplementedError

    def load_state_dict(self, state: dict[str, Tensor]) -> "Detector":
        """Take over what `state_dict` gave and return self."""
        raise NotImplementedError

    def details(self) -> dict[str, object]:
        """Return what a reader of the result may want to know of the fit, e.g. the bank's size or a loss curve."""
        return {}


DETECTORS: Registry[type[Detector]] = Registry("detector", __name__)
register = DETECTORS.register
