"""Train a model and evaluate it: the functions behind `adbench train` and `adbench eval`."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from adbench.backbones.layers import describe, joined_field, parse_layers
from adbench.backbones.network import Network
from adbench.core.errors import UsageError
from adbench.core.files import check_folder
from adbench.data.datasets import category_names
from adbench.data.shots import drawn, shortage
from adbench.detectors import Detector, detector_of, make_detector
from adbench.features.feature_maps import FeatureMaps
from adbench.features.runtime import Runtime
from adbench.features.tiling import check_view
from adbench.features.view import View
from adbench.metrics import check_pro_limit
from adbench.metrics.support.held_out import distinct_images, for_thresholds
from adbench.metrics.support.labels import CategoryInputs
from adbench.models.calibration import CrossFit, HoldOut, calibrate, cross_calibrate, fresh_images, unseen_images
from adbench.models.files import Model, check_name, load_model, save_model
from adbench.models.prediction import Scorer
from adbench.models.thresholds import Threshold
from adbench.pictures.heatmaps import draw_heatmaps, heatmap_files
from adbench.sweep.job_features import job_features, tiling_of
from adbench.sweep.pipeline import assess, check_finite, check_supported, drawn_images, estimated_fields, fit, score_in_parts
from adbench.sweep.plan import job_for, method_of
from adbench.sweep.workspace import Workspace
from adbench.types import ALL, Job, OnStep, Result, Scores, Shots, Size

_LOG = logging.getLogger("adbench")


@dataclass(frozen=True)
class TrainingRequest:
    """What to train, as a user names it: one job, whatever the data."""

    detector: str
    backbone: str
    layer: str
    weights: str = "imagenet"
    view: View = View()  # noqa: RUF009  frozen
    eval_size: Size = 256
    dtype: str = "float16"
    pro_limit: float = 0.3
    seed: int = 0
    shots: Shots = ALL
    smoothing: float | None = None  # sigma in input pixels of the map's Gaussian; None = the detector's


def train_model(
    workspace: Workspace, choices: TrainingRequest, params: dict[str, Any], model: Path,
    calibration: HoldOut | CrossFit | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Fit a detector on a category's good images and write it to `model`; return its job, cost and details.

    With a HoldOut, good images that are held out from the fit set the threshold (`_split`). With a CrossFit, further fits do,
    each without a part of the images, and the fit that is saved has all. Shots are drawn among the images not held out.
    """
    check_name(model)
    detector = make_detector(choices.detector, params, choices.seed)
    description = describe(choices.backbone, workspace.memo)
    layers = parse_layers(choices.layer, description)
    view = choices.view
    check_view(description, view, workspace.memo)
    network, inputs = workspace.network(choices.backbone, choices.weights).drawn_by(choices.seed), workspace.single(views=[view])
    rest: dict[str, Any] = {name: getattr(choices, name) for name in ("eval_size", "dtype", "pro_limit", "shots")}
    rest |= {"sigma": choices.smoothing, **view.job_fields()}
    held, selected = dict[str, Path](), frozenset[str]()
    whole = set(distinct_images(inputs))
    if isinstance(calibration, HoldOut):
        inputs, held, selected = _split(workspace, inputs, calibration, choices.seed)
    if short := shortage(inputs.category, choices.shots, len(whole & held.keys())):
        raise UsageError(short)
    job = job_for(inputs, network, layers, choices.seed, **method_of(detector, choices.detector), **rest)
    runtime, threshold = workspace.runtime(), None
    tiling = tiling_of(runtime, network, inputs, view)
    tiling.check_layers(description, layers, workspace.memo)
    if isinstance(calibration, CrossFit):  # first: it finds too few images, and the bar counts up to the last fit
        threshold = _cross_threshold(runtime, network, inputs, job, calibration)
    fitted, cost = fit(runtime, network, inputs, job)
    if isinstance(calibration, HoldOut):
        scorer = Scorer(network, job, fitted, runtime.device, tiling)
        threshold = calibrate(scorer, list(held.values()), calibration.rule, runtime.on_step)
    images = {inputs.facts[sample.path].sha256 for sample in drawn(inputs.category, job.shots, job.seed)}
    size = inputs.native_size if view.is_native else None
    own, others, chosen = (tuple(sorted(found)) for found in (images, held, selected))
    save_model(model, Model(job, fitted, cost, own, threshold, others, chosen, size, inputs.white))
    details = fitted.details() | drawn_images(inputs, job)
    answer = {"model": str(model), "job": Result(job, "done").record(), "cost": cost, "details": details}
    counts = {"fitted_images": len(images), "held_out_images": len(whole & held.keys()), "selected_on_images": len(selected)}
    counts |= {"validation_images": len(held)} if {s.path for s in inputs.category.validation} & {*held.values()} else {}
    return answer | counts | {"threshold": threshold.record() if threshold else None}


def _split(
    workspace: Workspace, inputs: CategoryInputs, wish: HoldOut, seed: int
) -> tuple[CategoryInputs, dict[str, Path], frozenset[str]]:
    """Return the inputs to fit to, the held-out images by their SHA-256, and the SHA-256 of images of a selection, if any."""
    if wish.folder:
        used = {f"--calibrate-on {wish.folder}: the detector is fitted to": set(distinct_images(inputs))}
        return inputs, unseen_images(workspace, [wish.folder], used), frozenset()
    if wish.selection:
        rest, held, selected = fresh_images(inputs, wish.selection)
    else:
        (rest, held, _), selected = for_thresholds(inputs, seed, wish.share), frozenset()
    return rest, {inputs.facts[sample.path].sha256: sample.path for sample in held}, selected


def _cross_threshold(runtime: Runtime, network: Network, inputs: CategoryInputs, job: Job, wish: CrossFit) -> Threshold:
    """Return the threshold from the fits of a job that each hold out a fold; features are those of the final fit."""
    maps, _ = job_features(runtime, network, inputs, "train", job)

    spread = tiling_of(runtime, network, inputs, View.of(job)).spread

    def made() -> Detector:
        return detector_of(job).spread_over(spread)

    def scored(rest: FeatureMaps, own: FeatureMaps, on_step: OnStep) -> Scores:
        detector = made()
        check_supported(detector, rest)
        fitted = detector.fit(rest, device=runtime.device, on_step=on_step)
        scores = score_in_parts(fitted, own, runtime.device, on_step)
        check_finite(scores, job)
        return scores

    digests = [inputs.facts[sample.path].sha256 for sample in drawn(inputs.category, job.shots, job.seed)] * View.of(job).copies
    smoothing = made().gaussian
    return cross_calibrate(maps, digests, scored, smoothing, wish, job.seed, runtime.on_step)


def evaluate_model(workspace: Workspace, model: Path, heatmaps: Path | None = None, pro_limit: float | None = None) -> Result:
    """Return the Result of a saved detector on a category's test images.

    The category is the workspace's, else the one that the model was trained on if the data has it. `heatmaps`: folder for a
    picture of each image.
    """
    if pro_limit is not None:
        check_pro_limit(pro_limit)
    saved = load_model(model)
    job = saved.job
    network = workspace.network_of(model, job)
    if not workspace.categories and job.category in category_names(workspace.data):
        workspace = replace(workspace, categories=(job.category,))
    inputs = replace(workspace.single(views=[View.of(job)]), fitted_size=saved.size, fitted_white=saved.white)
    category = inputs.category
    if heatmaps:
        check_folder("--heatmaps", heatmaps)
        heatmap_files(heatmaps, category.test)
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
    _warn_of_promise(model, saved, inputs)
    runtime = workspace.runtime()
    analytic = describe(job.backbone, workspace.memo).fields
    tiling = tiling_of(runtime, network, inputs, View.of(job))
    detector = saved.detector.spread_over(tiling.spread)
    estimated = estimated_fields(runtime, network, job.layers, analytic, tiling)
    field = joined_field(job.layers, analytic, estimated)
    limits = [saved.threshold.limits] if saved.threshold else []
    result, scores = assess(runtime, network, inputs, job, detector, saved.cost, field, limits)
    if heatmaps and scores:
        levels = tiling.view.levels
        draw_heatmaps(heatmaps, category.test, scores, detector.gaussian, workspace.on_step, job.crop, levels)
    return replace(result, details={**result.details, "fitted_images": len(saved.fitted)})  # fewer if some were held out


def _warn_of_promise(model: Path, saved: Model, inputs: CategoryInputs) -> None:
    """Warn if test images have set the model's threshold: then its rates on them say little about new images."""
    own = {inputs.facts[sample.path].sha256 for sample in inputs.category.test} & {*saved.held_out}
    if saved.threshold and own:
        text = "model %s: %d of the test images set its threshold, so image_fpr there is no estimate for new images; test others"
        _LOG.warning(text, model, len(own))
