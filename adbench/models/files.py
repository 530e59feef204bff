"""Detectors made by name, and fitted ones as files: safetensors with the job in the header, never pickle."""

import json
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from adbench.core.errors import DataError, UsageError
from adbench.core.files import replacing
from adbench.detectors import Detector, make_detector
from adbench.models.thresholds import Threshold
from adbench.types import Job


@dataclass(frozen=True)
class Model:
    """A fitted detector, the job that names all of it, and its cost.

    fitted: SHA-256 of each image that it was fitted to; none in a file of an older version. threshold: if one was set.
    """

    job: Job
    detector: Detector
    cost: dict[str, Any]
    fitted: tuple[str, ...] = ()
    threshold: Threshold | None = None


def save_model(path: Path, model: Model) -> None:
    """Write a model as safetensors, all but the detector's state in the header. Atomic; DataError if it cannot be written."""
    header = {"schema": 1, "job": model.job.record(), "cost": model.cost, "fitted": model.fitted}
    header |= {"threshold": asdict(model.threshold) if model.threshold else None}
    with replacing(path) as temporary:
        state = {key: value.contiguous() for key, value in model.detector.state_dict().items()}
        text = json.dumps(header)
        save_file(state, temporary, {"adbench": text, "crc32": _checksum(text, state)})


def _checksum(header: str, state: dict[str, Tensor]) -> str:
    """Return the CRC-32 of a model's header and tensors: safetensors alone would not notice a flipped bit."""
    crc = zlib.crc32(header.encode())
    for key in sorted(state):
        crc = zlib.crc32(state[key].contiguous().numpy().data, zlib.crc32(key.encode(), crc))
    return f"{crc:08x}"


def load_model(path: Path) -> Model:
    """Return what `save_model` wrote; raise DataError if the file is missing, damaged, not ours or of another revision."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            header = json.loads(metadata["adbench"])
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  no mapping
        found = _checksum(metadata["adbench"], state)
        if metadata.get("crc32", found) != found:  # older files hold none
            raise ValueError("the checksum does not fit")
        job = Job.from_record(header["job"])
        detector = make_detector(job.detector, job.params, job.seed)
        if job.revision != detector.revision:
            raise _other_revision(path, job, detector)
        threshold = Threshold(**header["threshold"]) if header.get("threshold") else None
        return Model(job, detector.load_state_dict(state), header["cost"], tuple(header.get("fitted", ())), threshold)
    except FileNotFoundError:
        raise DataError(f"model {path}: no such file; make it with 'adbench train'") from None
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, UsageError) as error:
        raise DataError(
            f"model {path}: damaged or not written by 'adbench train' ({type(error).__name__}); train it again"
        ) from error


def _other_revision(path: Path, job: Job, detector: Detector) -> DataError:
    """Return the error for a model whose scores would be of no known method, and whose threshold would fit no longer."""
    return DataError(
        f"model {path}: fitted by revision {job.revision} of {job.detector}, this version has revision {detector.revision}; "
        "train it again"
    )
