"""Train a model and evaluate it: the functions behind `adbench train` and `adbench eval`."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from adbench.backbones.layers import check_size, describe, joined_field, parse_layers
from adbench.data.datasets import open_dataset
from adbench.detectors import make_detector
from adbench.models.calibration import HoldOut, calibrate, hold_out_images
from adbench.models.files import Model, load_model, save_model
from adbench.models.prediction import Scorer
from adbench.pictures.heatmaps import draw_heatmaps
from adbench.sweep.pipeline import assess, estimated_fields, fit
from adbench.sweep.plan import job_for, method_of
from adbench.sweep.workspace import Workspace
from adbench.types import Result, Size

_LOG = logging.getLogger("adbench")


@dataclass(frozen=True)
class TrainingRequest:
    """What to train, as a user names it: one job, whatever the data."""

    detector: str
    backbone: str
    layer: str
    weights: str = "imagenet"
    image_size: int = 256
    eval_size: Size = 256
    dtype: str = "float16"
    pro_limit: float = 0.3
    seed: int = 0


def train_model(
    workspace: Workspace, choices: TrainingRequest, params: dict[str, Any], model: Path, hold_out: HoldOut | None = None
) -> dict[str, Any]:
    """Fit a detector on a category's good images and write it to `model`; return its job, cost and details.

    With `hold_out`, some of the good images are held out from the fit and set the threshold.
    """
    detector = make_detector(choices.detector, params, choices.seed)
    description = describe(choices.backbone, workspace.memo)
    layers = parse_layers(choices.layer, description)
    check_size(description, choices.image_size, workspace.memo)
    network, inputs = workspace.network(choices.backbone, choices.weights), workspace.single(sizes=[choices.image_size])
    rest = {name: getattr(choices, name) for name in ("image_size", "eval_size", "dtype", "pro_limit")}
    inputs, held = hold_out_images(inputs, hold_out.share, choices.seed) if hold_out else (inputs, ())
    job = job_for(inputs, network, layers, choices.seed, **method_of(detector, choices.detector), **rest)
    runtime = workspace.runtime()
    fitted, cost = fit(runtime, network, inputs, job)
    threshold = None
    if hold_out:
        paths = [sample.path for sample in held]
        threshold = calibrate(Scorer(network, job, fitted, runtime.device), paths, hold_out.fpr, runtime.on_step)
    images = {inputs.facts[sample.path].sha256 for sample in inputs.category.train}
    save_model(model, Model(job, fitted, cost, tuple(sorted(images)), threshold))
    answer = {"model": str(model), "job": Result(job, "done").record(), "cost": cost, "details": fitted.details()}
    return answer | {"threshold": threshold.record() if threshold else None}


def evaluate_model(workspace: Workspace, model: Path, heatmaps: Path | None = None, pro_limit: float | None = None) -> Result:
    """Return the Result of a saved detector on a category's test images.

    The category is the workspace's, else the one that the model was trained on if the data has it. `heatmaps`: folder for a
    picture of each image.
    """
    saved = load_model(model)
    job, detector = saved.job, saved.detector
    network = workspace.network_of(model, job)
    if not workspace.categories and job.category in [c.name for c in open_dataset(workspace.data, workspace.cache)]:
        workspace = replace(workspace, categories=(job.category,))
    inputs = workspace.single(sizes=[job.image_size])
    category = inputs.category
    if category.name != job.category:
        text = "model %s was fitted to category '%s', not to '%s'; to measure a detector of '%s', train one on it"
        _LOG.warning(text, model, job.category, category.name, category.name)
    job = replace(
        job,
        dataset=category.dataset,
        category=category.name,
        fingerprint=inputs.fingerprint,
        pro_limit=pro_limit or job.pro_limit,
    )
    runtime = workspace.runtime()
    analytic = describe(job.backbone, workspace.memo).fields
    estimated = estimated_fields(runtime, network, job.layers, analytic, job.image_size)
    field = joined_field(job.layers, analytic, estimated)
    result, scores = assess(runtime, network, inputs, job, detector, saved.cost, field)
    if heatmaps and scores:
        draw_heatmaps(heatmaps, category.test, scores, detector.smoothing, workspace.on_step)
    return replace(result, details={**result.details, "fitted_images": len(saved.fitted)})  # fewer if some were held out
