"""The command that trains the detector of a job, for reports and selections that end in a decision."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adbench.metrics.support.held_out import SHARE
from adbench.statistics.rules import images_needed
from adbench.types import ALL, Job

DEFAULTS = {
    "weights": "imagenet",
    "image_size": 256,
    "seed": 0,
    "eval_size": 256,
    "dtype": "float16",
    "shots": ALL,
    "rotations": 0,
}  # of `adbench train`
FPR = 0.01  # one false alarm in a hundred good images
_RATES = (FPR, 0.02, 0.05, 0.1, 0.2, 0.5)
_FOLDS = 5


def train_command(
    job: Job, data: str | None, category: str, defaults: Mapping[str, Any] | None = None, fpr: float | None = FPR,
    cross_fit: int | None = None, selection: Path | None = None,
) -> str:  # fmt: skip
    """Return the command that fits a job's detector to the good images of a category, without options at their default.

    data: the folder as the user names it, None for one that the command finds by itself. defaults: the detector's parameters
    at their defaults; those that are not in it are named. fpr: the false-positive rate of the threshold, None for a model
    without one. cross_fit: the folds that set it, None to hold images out (`threshold_for` chooses both). selection: the file of
    the selection that the job comes from; the images that took no part in it are held out.
    """
    words = ["adbench", "train", job.detector, job.backbone, job.layer]
    words += ["--data", data] if data is not None else []
    words += ["--category", category]
    for name, default in DEFAULTS.items():
        if (value := getattr(job, name)) != default:
            words += [f"--{name.replace('_', '-')}", str(value)]
    words += ["--tile", str(job.tile)] if job.tile else []
    words += ["--overlap", f"{job.overlap:g}"] if job.overlap != Job.overlap else []
    words += ["--crop", f"{job.crop:g}"] if job.crop != 1 else []
    words += ["--value-range", "{:.12g},{:.12g}".format(*job.value_range)] if job.value_range else []
    words += ["--smoothing", f"{job.unusual_smoothing:g}"] if job.unusual_smoothing is not None else []
    for name, value in job.params.items():
        if value != (defaults or {}).get(name):
            words += ["--param", f"{name}={value}"]
    if job.thresholds:  # it was fitted without the images that set them, as `train` will be
        return shlex.join([*words, "--rule", job.thresholds[0], "--model", f"{category}.safetensors"])
    words += ["--fpr", f"{fpr:g}"] if fpr is not None else []
    words += ["--cross-fit", str(cross_fit)] if cross_fit is not None else []
    words += ["--from-selection", str(selection)] if selection is not None else []
    return shlex.join([*words, "--model", f"{category}.safetensors"])


def threshold_of(job: Job, images: int) -> tuple[float | None, int | None]:
    """Return what `threshold_for` does for the images that a job is fitted to, of a category's `images`."""
    return threshold_for(images if job.shots == ALL else job.shots)


def threshold_for(images: int) -> tuple[float | None, int | None]:
    """Return the false-positive rate and the folds for so many good images: the lowest usual rate that they can attain.

    A quarter of them is held out if that is enough for `FPR`, because its promise is the stronger one; else cross-fitting
    scores all of them. A single image can set no threshold, so it has no rate.
    """
    if int(SHARE * images) >= images_needed(FPR):
        return FPR, None
    if images < 2:
        return None, None
    return attainable_rate(images), min(_FOLDS, images)


def attainable_rate(images: int) -> float:
    """Return the lowest usual false-positive rate that the scores of so many good images can promise."""
    return next((rate for rate in _RATES if images >= images_needed(rate)), _RATES[-1])
