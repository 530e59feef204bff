"""What each command does, as one function from plain values to a plain answer. The command line only parses and prints."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from adbench.calibration import HoldOut, calibrate, fitted_digests
from adbench.datasets import open_dataset
from adbench.heatmaps import draw_heatmaps
from adbench.layers import describe
from adbench.methods import method_of
from adbench.models import Model, load_model, make_detector, save_model
from adbench.pipeline import assess, features, fit
from adbench.planning import job_for, parse_layers
from adbench.prediction import Scorer
from adbench.setting import Setting
from adbench.types import Job, Result, Size


def extract_layers(
    setting: Setting, backbone: str, layers: Sequence[str], weights: str, image_size: int, dtype: str
) -> dict[str, Any]:
    """Extract layers of all images of the categories into the cache; return the entries and the speed of what was not there."""
    description = describe(backbone, setting.memo)
    names = [name for text in layers for name in parse_layers(text, description)]
    network, place, inputs = setting.network(backbone, weights), setting.workplace(), setting.inputs([image_size])
    entries: list[dict[str, Any]] = []
    images, started = 0, time.perf_counter()
    for item in inputs:
        for split in ("train", "test"):
            if not item.split(split):
                continue
            found = features(place, network, item, split, names, image_size, dtype)
            images += 0 if all(cached for _, cached in found.values()) else len(item.split(split))
            for layer, (entry, cached) in found.items():
                facts = {"path": str(entry.path), "shape": list(entry.array.shape), "dtype": entry.array.dtype.name}
                entries.append(
                    {"category": item.category.name, "split": split, "layer": layer, **facts, "cached": cached}
                )
    speed = images / (time.perf_counter() - started) if images else None
    return {"entries": entries, "images_per_second": speed}


@dataclass(frozen=True)
class Choices:
    """One cell of the grid as a user names it."""

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
    setting: Setting, choices: Choices, params: dict[str, Any], model: Path, hold_out: HoldOut | None = None
) -> dict[str, Any]:
    """Fit a detector on a category's good images and write it; return what was trained and its cost.

    With `hold_out`, it is fitted to fewer of them, and the others set its threshold.
    """
    detector = make_detector(choices.detector, params, choices.seed)
    layers = parse_layers(choices.layer, describe(choices.backbone, setting.memo))
    network, inputs = setting.network(choices.backbone, choices.weights), setting.single(sizes=[choices.image_size])
    rest = {name: getattr(choices, name) for name in ("image_size", "eval_size", "dtype", "pro_limit")}
    inputs, held = hold_out.divide(inputs, choices.seed) if hold_out else (inputs, ())
    job = job_for(inputs, network, layers, method_of(detector, choices.detector), choices.seed, **rest)
    place = setting.workplace()
    fitted, cost = fit(place, network, inputs, job)
    threshold = None
    if hold_out:
        paths = [sample.path for sample in held]
        threshold = calibrate(Scorer(network, job, fitted, place.device), paths, hold_out.fpr, place.on_step)
    save_model(model, Model(job, fitted, cost, fitted_digests(inputs), threshold))
    answer = {"model": str(model), "job": Result(job, "done").record(), "cost": cost, "details": fitted.details()}
    return answer | {"threshold": threshold.record() if threshold else None}


def evaluate_model(
    setting: Setting, model: Path, heatmaps: Path | None = None, pro_limit: float | None = None
) -> Result:
    """Score a category's test images with a saved detector; `heatmaps` is a folder for one picture per image."""
    saved = load_model(model)
    job, detector = saved.job, saved.detector
    network = setting.network_of(model, job)
    inputs = (setting if setting.categories else replace(setting, categories=_only(setting, job))).single(
        sizes=[job.image_size]
    )
    category = inputs.category
    job = replace(job, dataset=category.dataset, category=category.name, fingerprint=inputs.fingerprint)
    job = replace(job, pro_limit=pro_limit or job.pro_limit)
    place = setting.workplace()
    field = describe(job.backbone, setting.memo).field(job.layers)
    result, scores = assess(place, network, inputs, job, detector, saved.cost, field)
    if heatmaps and scores:
        draw_heatmaps(heatmaps, category.test, scores, detector.smoothing, setting.on_step)
    return replace(
        result, details=result.details | {"fitted_images": len(saved.fitted)}
    )  # fewer where some were held out


def _only(setting: Setting, job: Job) -> tuple[str, ...]:
    """The category that the model was trained on, if the data has it."""
    names = [category.name for category in open_dataset(setting.data, setting.cache)]
    return (job.category,) if job.category in names else ()
