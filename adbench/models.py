"""Detectors made by name, and fitted ones as files: safetensors with the job in the header, never pickle."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from adbench.detectors import DETECTORS, Detector
from adbench.errors import DataError, UsageError
from adbench.files import replacing
from adbench.registry import match
from adbench.types import Job


def make_detector(name: str, params: dict[str, Any], seed: int) -> Detector:
    """Return a detector with parameters by name; raise UsageError for an unknown name or a value of the wrong kind."""
    kind = DETECTORS.get(name)
    allowed = {f.name: f for f in fields(kind) if f.init and f.name != "seed"}
    values = {match("parameter", k, allowed, where=f" of {name}"): v for k, v in params.items()}
    for key, value in values.items():
        values[key] = _cast(f"{name}: {key}", value, allowed[key].default)
    return kind(seed=seed, **values)


def _cast(where: str, value: Any, default: Any) -> Any:
    wanted = type(default)
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not wanted:
        raise UsageError(f"{where}={value} must be of the kind {wanted.__name__}, like its default {default}")
    return value


def detector_params(detector: Detector) -> dict[str, Any]:
    """Return all parameters of a detector, defaults included, without the seed."""
    return {f.name: getattr(detector, f.name) for f in fields(detector) if f.init and f.name != "seed"}


def save_model(path: Path, job: Job, detector: Detector, cost: dict[str, Any]) -> None:
    """Write a fitted detector as safetensors, its job and cost in the header. Atomic; DataError if it cannot be written."""
    header = {"adbench": json.dumps({"schema": 1, "job": job.record(), "cost": cost})}
    with replacing(path) as temporary:
        save_file({k: v.contiguous() for k, v in detector.state_dict().items()}, temporary, header)


def load_model(path: Path) -> tuple[Job, Detector, dict[str, Any]]:
    """Return the job, the fitted detector and its cost; raise DataError if the file is missing, damaged or not ours."""
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["adbench"])
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  no mapping
        job = Job.from_record(header["job"])
        detector = make_detector(job.detector, job.params, job.seed).load_state_dict(state)
        return job, detector, header["cost"]
    except FileNotFoundError:
        raise DataError(f"model {path}: no such file; make it with 'adbench train'") from None
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, UsageError) as error:
        raise DataError(
            f"model {path}: damaged or not written by 'adbench train' ({type(error).__name__}); train it again"
        ) from error
