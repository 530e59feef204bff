"""The command that trains the detector of a job, for reports and selections that end in a decision."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from adbench.types import Job

DEFAULTS = {"weights": "imagenet", "image_size": 256, "seed": 0, "eval_size": 256, "dtype": "float16"}  # of `adbench train`
FPR = 0.01  # one false alarm in a hundred good images
_RATES = (FPR, 0.02, 0.05, 0.1, 0.2)
_HELD_OUT = 0.25  # the default of --holdout
_FOLDS = 5


def train_command(
    job: Job, data: str | None, category: str, defaults: Mapping[str, Any] | None = None, fpr: float | None = FPR,
    cross_fit: int | None = None,
) -> str:  # fmt: skip
    """Return the command that fits a job's detector to the good images of a category, without options at their default.

    data: the folder as the user names it, None for one that the command finds by itself. defaults: the detector's parameters
    at their defaults; those that are not in it are named. fpr: the false-positive rate of the threshold, None for a model
    without one. cross_fit: the folds that set it, None to hold images out (`threshold_for` chooses both).
    """
    words = ["adbench", "train", job.detector, job.backbone, job.layer]
    words += ["--data", data] if data is not None else []
    words += ["--category", category]
    for name, default in DEFAULTS.items():
        if (value := getattr(job, name)) != default:
            words += [f"--{name.replace('_', '-')}", str(value)]
    words += ["--tile", str(job.tile)] if job.tile else []
    words += ["--overlap", f"{job.overlap:g}"] if job.overlap != Job.overlap else []
    for name, value in job.params.items():
        if value != (defaults or {}).get(name):
            words += ["--param", f"{name}={value}"]
    words += ["--fpr", f"{fpr:g}"] if fpr is not None else []
    words += ["--cross-fit", str(cross_fit)] if cross_fit is not None else []
    return shlex.join([*words, "--model", f"{category}.safetensors"])


def threshold_for(images: int) -> tuple[float, int | None]:
    """Return the false-positive rate and the folds for so many good images: the lowest usual rate that they can attain.

    A quarter of them is held out if that is enough for `FPR`, because its promise is the stronger one; else cross-fitting
    scores all of them.
    """
    if (1 + int(_HELD_OUT * images)) * FPR >= 1:
        return FPR, None
    return next((rate for rate in _RATES if (1 + images) * rate >= 1), _RATES[-1]), min(_FOLDS, images)
