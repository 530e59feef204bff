"""The command that trains the detector of a job, for reports and selections that end in a decision."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from adbench.types import Job

DEFAULTS = {"weights": "imagenet", "image_size": 256, "seed": 0, "eval_size": 256, "dtype": "float16"}  # of `adbench train`
FPR = 0.01  # one false alarm in a hundred good images


def train_command(
    job: Job, data: str | None, category: str, defaults: Mapping[str, Any] | None = None, fpr: float | None = FPR
) -> str:
    """Return the command that fits a job's detector to the good images of a category, without options at their default.

    data: the folder as the user names it, None for one that the command finds by itself. defaults: the detector's parameters
    at their defaults (`adbench.sweep.plan.default_params`); those that are not in it are named. fpr: the false-positive rate of
    the threshold, None for a model without one.
    """
    words = ["adbench", "train", job.detector, job.backbone, job.layer]
    words += ["--data", data] if data is not None else []
    words += ["--category", category]
    for name, default in DEFAULTS.items():
        if (value := getattr(job, name)) != default:
            words += [f"--{name.replace('_', '-')}", str(value)]
    for name, value in job.params.items():
        if value != (defaults or {}).get(name):
            words += ["--param", f"{name}={value}"]
    words += ["--fpr", f"{fpr:g}"] if fpr is not None else []
    return shlex.join([*words, "--model", f"{category}.safetensors"])
