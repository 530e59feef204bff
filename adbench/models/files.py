"""Model files: a fitted detector as safetensors, with its job in the header. Never pickle."""

import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from adbench.core.errors import DataError, UsageError
from adbench.core.files import check_folder, replacing
from adbench.detectors import Detector, detector_of
from adbench.features.cache import EXTRACTION_REVISION
from adbench.models.thresholds import Threshold
from adbench.types import Job

SUFFIX = ".safetensors"
_SPLITS = ("held_out", "selected_on")


@dataclass(frozen=True)
class Model:
    """A fitted detector, its job, and its cost.

    fitted: SHA-256 of each image that it was fitted to; held_out: of each that set the threshold; selected_on: of each that took
    part in the selection of the detector. All are empty where they are unknown, as in files of older versions. threshold: None
    until one is set. size: (height, width) of the fitted images, to which a native view resizes all others; None: no such view.
    white: that of the fitted images, see `data.images.white_of`.
    """

    job: Job
    detector: Detector
    cost: dict[str, Any]
    fitted: tuple[str, ...] = ()
    threshold: Threshold | None = None
    held_out: tuple[str, ...] = ()
    selected_on: tuple[str, ...] = ()
    size: tuple[int, int] | None = None
    white: float = 1.0


def check_name(path: Path) -> None:
    """Raise UsageError unless a file's name says what it will be, DataError if a file lies where its folder should be."""
    if path.suffix != SUFFIX:
        raise UsageError(f"--model {path}: models are written as safetensors; write --model {path.with_suffix(SUFFIX)}")
    check_folder("--model", path.parent)


def save_model(path: Path, model: Model) -> None:
    """Write a model atomically: the detector's state as tensors, the rest in the header. Raise DataError if that fails."""
    header = {"schema": 1, "job": model.job.record(), "cost": model.cost, "fitted": model.fitted}
    header |= {name: split for name in _SPLITS if (split := getattr(model, name))}
    header |= {"threshold": model.threshold.stored() if model.threshold else None}
    header |= ({"size": model.size} if model.size else {}) | ({"white": model.white} if model.white != 1 else {})
    with replacing(path) as temporary:
        state = {key: value.contiguous() for key, value in model.detector.state_dict().items()}
        text = json.dumps(header)
        save_file(state, temporary, {"adbench": text, "crc32": checksum(text, state)})


def checksum(header: str, state: dict[str, Tensor]) -> str:
    """Return the CRC-32 of a model's header and tensors: safetensors alone would not notice a flipped bit."""
    crc = zlib.crc32(header.encode())
    for key in sorted(state):
        crc = zlib.crc32(state[key].contiguous().numpy().data, zlib.crc32(key.encode(), crc))
    return f"{crc:08x}"


def load_model(path: Path) -> Model:
    """Read a file that `save_model` wrote.

    Raise DataError if it is missing, damaged, not a model, or of another revision of the detector or of the extraction.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            header = json.loads(metadata["adbench"])
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  not a mapping
        found = checksum(metadata["adbench"], state)
        if metadata.get("crc32", found) != found:  # the first versions wrote no checksum
            raise ValueError("the checksum does not fit")
        job = Job.from_record(header["job"])
        detector = detector_of(job)
        revisions = {job.detector: (job.revision, detector.revision), "the extraction": (job.extraction, EXTRACTION_REVISION)}
        for name, (fitted, current) in revisions.items():
            if fitted != current:  # this version would give the model other scores than those that set its threshold
                raise DataError(
                    f"model {path}: fitted by revision {fitted} of {name}, this version has revision {current}; train it again"
                )
        threshold = Threshold(**header["threshold"]) if header.get("threshold") else None
        native = (int(header["size"][0]), int(header["size"][1])) if "size" in header else None
        own = {name: tuple(header.get(name, ())) for name in ("fitted", *_SPLITS)}
        return Model(
            job,
            detector.load_state_dict(state),
            header["cost"],
            threshold=threshold,
            size=native,
            white=float(header.get("white", 1)),
            **own,
        )
    except FileNotFoundError:
        raise DataError(f"model {path}: no such file; make it with 'adbench train'") from None
    except UsageError as error:  # of the detector's plug-in: the checksum has shown that the file is whole
        raise DataError(
            f"model {path}: made with a detector that is not installed here ({error}); install its plug-in, or train again"
        ) from error
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        problem = "a folder, not a file" if path.is_dir() else "damaged, or not written by 'adbench train'"
        raise DataError(f"model {path}: {problem}; name a model file, or train it again") from error
