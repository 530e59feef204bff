"""The command that trains a job's choice on all good images, as a user would type it."""

from __future__ import annotations

import shlex

from adbench.detectors import detector_params, make_detector
from adbench.types import Job

_RATES = (0.01, 0.02, 0.05, 0.1, 0.2)
_HELD_OUT = 0.25  # the default of --holdout


def train_command(job: Job, data: str, category: str, images: int | None = None) -> str:
    """Return the `adbench train` command of a job for all good images of a category, without options at their default.

    images: how many good images there are; with it, the command also sets a threshold (`threshold_options`).
    """
    defaults = detector_params(make_detector(job.detector, {}, 0), every=True)
    words = ["adbench", "train", job.detector, job.backbone, job.layer, "--data", data, "--category", category]
    options = {"--weights": (job.weights, "imagenet"), "--image-size": (job.image_size, 256), "--seed": (job.seed, 0),
               "--eval-size": (job.eval_size, 256), "--dtype": (job.dtype, "float16")}  # fmt: skip
    words += [word for name, (value, default) in options.items() if value != default for word in (name, str(value))]
    words += [word for name, value in job.params.items() if value != defaults[name] for word in ("--param", f"{name}={value}")]
    words += [] if images is None else threshold_options(images)
    return shlex.join([*words, "--model", f"{category}.safetensors"])


def threshold_options(images: int) -> list[str]:
    """Return options that set a threshold from so many good images: for the lowest usual rate that they can attain.

    A quarter of them is held out if that is enough for 1 %, because its promise is the stronger one; else cross-fitting
    scores all of them.
    """
    if (1 + int(_HELD_OUT * images)) * _RATES[0] >= 1:
        return ["--fpr", f"{_RATES[0]:g}"]
    rate = next((rate for rate in _RATES if (1 + images) * rate >= 1), _RATES[-1])
    return ["--fpr", f"{rate:g}", "--cross-fit", str(min(5, images))]
