"""Anomaly detectors on feature maps; one file each, found by import. A detector never sees an image or a backbone."""

import math
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import torch
from torch import Tensor

from adbench.core.errors import UsageError
from adbench.core.registry import Registry, match
from adbench.features.anomaly_maps import Smoothing
from adbench.features.feature_maps import FeatureMaps, Shape
from adbench.types import SMOOTHING_GRID, Job, OnStep, Scores, ignore_step


@dataclass
class Detector:
    """The contract. Parameters are the fields of a subclass (a dataclass), each with its published default.

    `fit` and `score` take the maps of N images, of one or several layers. `revision` grows with every change of the method that
    moves a number. `smoothing` is the sigma, in pixels of a 256 grid, of the Gaussian that the evaluation applies to the map.
    The class states it for inputs of 256 px; `detector_of` sets it on the instance for those of a job.
    """

    revision: ClassVar[int] = 2
    smoothing: ClassVar[float] = 0.0
    spread: ClassVar[tuple[float, float]] = (1.0, 1.0)
    seed: int = 0

    @property
    def gaussian(self) -> Smoothing:
        """The Gaussian of a map: `smoothing`, for images of which one network input is the share `spread` (see `Tiling`)."""
        return Smoothing(self.smoothing, self.spread)

    def spread_over(self, spread: tuple[float, float]) -> "Detector":
        """Set the spread of this instance, and return it."""
        vars(self)["spread"] = spread
        return self

    def bounds(self, given: Collection[str]) -> dict[str, Any]:
        """Return parameters that keep fits short where many candidates are compared, unless the `given` ones decide that."""
        return {}

    def unsupported(self, shapes: Sequence[Shape]) -> str | None:
        """Return why features of these shapes, one per joined layer, cannot be used, or None."""
        return None

    def memory_bytes(self, images: int, shapes: Sequence[Shape]) -> int:
        """Return an upper bound of the memory that a fit to so many images' features of these shapes needs; 0 if unknown."""
        return 0

    def fit(self, features: FeatureMaps, *, device: torch.device, on_step: OnStep = ignore_step) -> "Detector":
        """Learn from nominal images and return self; raise DetectorError if that diverges."""
        raise NotImplementedError

    def score(self, features: FeatureMaps, *, device: torch.device) -> Scores:
        """Return float32 scores (N,) and maps (N, h, w) on the feature grid, higher = more anomalous; safe in several threads."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Tensor]:
        """Return what `fit` learned, as CPU tensors for a safetensors file."""
        raise NotImplementedError

    def load_state_dict(self, state: dict[str, Tensor]) -> "Detector":
        """Restore what `state_dict` returned, and return self."""
        raise NotImplementedError

    def details(self) -> dict[str, object]:
        """Return facts about the fit for the result's record, e.g. the bank's size or a loss curve."""
        return {}


_KINDS = {float: "a number", int: "a whole number", bool: "true or false", str: "a word"}  # of parameters
DETECTORS: Registry[type[Detector]] = Registry("detector", __name__)
register = DETECTORS.register


def added(default: Any) -> Any:
    """Return the field of a parameter that came after the detector's first release: at its default, job keys leave it out."""
    return field(default=default, metadata={"added": True})


def make_detector(name: str, params: dict[str, Any], seed: int) -> Detector:
    """Return a detector with parameters by name; raise UsageError for an unknown name or a value of the wrong kind."""
    kind = DETECTORS.get(name)
    allowed = {f.name: f for f in fields(kind) if f.init and f.name != "seed"}
    values = {match("parameter", k, allowed, where=f" of {name}"): v for k, v in params.items()}
    for key, value in values.items():
        default = allowed[key].default
        wanted = type(default)
        if wanted is float:
            values[key] = value = _number(value)
        if type(value) is not wanted:
            shown = "null" if value is None else value
            raise UsageError(f"{name}: {key}={shown} must be {_KINDS[wanted]}, like its default {default}")
        if isinstance(value, float) and not math.isfinite(value):
            raise UsageError(f"{name}: {key}={value} must be finite, like its default {default}")
    return kind(seed=seed, **values)


def _number(value: Any) -> Any:
    """Return a whole number as a float, also a text such as 1e-3, which YAML takes for a word; all else as it is."""
    with suppress(ValueError, OverflowError):
        return float(value) if type(value) in (int, str) else value
    return value


def detector_of(job: Job) -> Detector:
    """Return the job's detector, with its parameters, seed and smoothing."""
    made = make_detector(job.detector, job.params, job.seed)
    if job.smoothing is not None:
        vars(made)["smoothing"] = job.smoothing * SMOOTHING_GRID / job.input_side
    return made


def detector_params(detector: Detector, every: bool = False) -> dict[str, Any]:
    """Return a detector's parameters without the seed, as job keys hold them: `added` ones only where not at their default.

    every: all of them.
    """
    return {
        f.name: getattr(detector, f.name)
        for f in fields(detector)
        if f.init and f.name != "seed" and (every or not f.metadata.get("added") or getattr(detector, f.name) != f.default)
    }


def inverse_factor(covariance: Tensor, ridge: float) -> Tensor:
    """Return L^-1 with L L^T = covariance + ridge * I of each covariance (..., C, C), as float32."""
    unit = torch.eye(covariance.shape[-1], dtype=torch.float64)
    factor = torch.linalg.cholesky(covariance + ridge * unit)
    inverse: Tensor = torch.linalg.solve_triangular(factor, unit.expand_as(factor), upper=False)
    return inverse.float()
