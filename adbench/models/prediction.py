"""Predict on new images: scores, decisions, overlays and a CSV, in a stream whose memory does not grow with the images."""

from __future__ import annotations

import csv
import heapq
import logging
import math
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, astuple, dataclass, field, fields, replace
from pathlib import Path, PurePath
from threading import Event, Lock
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from adbench.backbones.families import Size
from adbench.backbones.network import Network
from adbench.core.environment import choose_device
from adbench.core.errors import DataError, UsageError
from adbench.core.files import check_folder, replacing
from adbench.core.registry import match
from adbench.core.threads import Item, Outcome, ordered_map
from adbench.data.image_lists import NewImage, find_images, picture_names
from adbench.data.images import White, read_image, read_levels
from adbench.data.pixels import Pixels, middle, read_pixels, resize
from adbench.data.writing import check_no_image_is_replaced, save_picture
from adbench.detectors import Detector
from adbench.features.anomaly_maps import Smoothing, searched
from adbench.features.extraction import Features, Read, extract_for, precision_of
from adbench.features.feature_maps import FeatureMaps
from adbench.features.tiling import Tiling
from adbench.features.view import View
from adbench.models.files import Model, load_model
from adbench.models.thresholds import Threshold
from adbench.pictures.overlays import draw_overlay
from adbench.sweep.workspace import Workspace
from adbench.types import Job, OnStep, Scores, ignore_step

log = logging.getLogger("adbench")
OVERLAYS = ("all", "anomalous", "none")
OUTCOMES = ("anomalous", "good", "undecided", "failed")
_THREADS = min(8, os.cpu_count() or 1)  # that draw
_QUALITY = 90  # of the JPEGs, which take a fifth of a PNG's time and size
_AHEAD = 32  # images that wait to be drawn


@dataclass(frozen=True)
class Scorer:
    """A fitted detector with its network, on a device."""

    network: Network
    job: Job
    detector: Detector
    device: torch.device
    tiling: Tiling

    @staticmethod
    def of(model: Model, file: Path, workspace: Workspace) -> Scorer:
        """Return the scorer of a model that was read from `file`; raise DataError if its network's weights have changed."""
        network = workspace.network_of(file, model.job)
        tiling = workspace.runtime().tiling(replace(View.of(model.job), white=model.white), model.size or (0, 0), network)
        detector = model.detector.spread_over(tiling.spread)
        return Scorer(network, model.job, detector, choose_device(workspace.device), tiling)

    @property
    def smoothing(self) -> Smoothing:
        """The smoothing of the maps."""
        return self.detector.gaussian

    def score(self, paths: Sequence[Path], on_step: OnStep = ignore_step, read: Read = read_pixels) -> Iterator[Scores]:
        """Yield the scores of images in order, a batch at a time, maps (B, h, w) on the feature grid.

        An image scores as in `train` and `eval`: its features are rounded as the cache rounds them. `read` decodes images
        ahead, in threads. Where forward passes run side by side, each thread also scores its own batch. Raise DataError for
        a score that is not finite.
        """
        precision, score_batch = precision_of(self.job.dtype), first_call_alone(self._score)
        layers, tiling = self.job.layers, self.tiling
        return extract_for(score_batch, self.network, paths, layers, tiling, self.device, on_step, read, precision)

    def _score(self, batch: Features) -> Scores:
        maps = FeatureMaps(tuple(rounded(batch[layer], self.job.dtype) for layer in self.job.layers))
        scores = self.detector.score(maps, device=self.device)
        if not (np.isfinite(scores.image).all() and np.isfinite(scores.maps).all()):
            raise DataError(f"{self.job.detector} gave scores that are not finite; train the model again")
        return scores


def first_call_alone(call: Callable[[Item], Outcome]) -> Callable[[Item], Outcome]:
    """Return `call` for use in threads: other calls wait until the first has ended, so they share the values it cached."""
    lock, over = Lock(), Event()

    def wrapped(item: Item) -> Outcome:
        with nullcontext() if over.is_set() else lock:
            outcome = call(item)
        over.set()
        return outcome

    return wrapped


def rounded(features: NDArray[np.float32], dtype: str) -> NDArray[np.float32]:
    """Return float32 features rounded as the cache keeps them in `dtype`; values too large for float16 stay unrounded."""
    if dtype == "float32":
        return features
    exact = torch.from_numpy(features)
    half = exact.half().float()
    if all(bound.isfinite() for bound in half.aminmax()):
        return half.numpy()
    return torch.where(half.isfinite(), half, exact).numpy()


@dataclass(frozen=True)
class Prediction:
    """The row of one image in the CSV.

    decision: anomalous or good; None without a score or a threshold. overlay: its file, if drawn. error: why there is no score.
    """

    path: str
    score: float | None = None
    threshold: float | None = None
    decision: str | None = None
    overlay: str | None = None
    error: str | None = None


class ScoredImage(NamedTuple):
    """An image on its way to a row. error: why it could not be read."""

    path: Path
    name: PurePath  # of its overlay
    score: float
    anomaly_map: NDArray[np.float32]
    error: str | None


@dataclass
class Reader:
    """Decodes the images for the network.

    An unreadable image is noted in `errors` and replaced by a black one, so that the others go on.
    """

    errors: dict[Path, str] = field(default_factory=dict)

    def __call__(self, path: Path, size: Size, crop: float, white: White) -> Pixels:
        try:
            image = read_levels(path, white)
        except DataError as error:
            self.errors[path] = str(error)
            return np.zeros((*size, 3), np.int16)
        return resize(image[middle(image.shape, crop)], size)


@dataclass(frozen=True)
class Predictor:
    """Makes the row of each image, and draws its overlay into `folder` if `overlays` (all, anomalous, none) asks for it."""

    scorer: Scorer
    threshold: Threshold | None
    overlays: str
    folder: Path

    def scored(self, images: Sequence[NewImage], on_step: OnStep) -> Iterator[ScoredImage]:
        """Yield the images in order, each with its score and map."""
        reader = Reader()
        batches = self.scorer.score([image.path for image in images], on_step, reader)
        scores = (pair for batch in batches for pair in zip(batch.image, np.asarray(batch.maps), strict=True))
        for image, name, (score, anomaly_map) in zip(images, picture_names(images), scores, strict=True):
            yield ScoredImage(image.path, name, float(score), anomaly_map, reader.errors.pop(image.path, None))

    def finish(self, image: ScoredImage) -> Prediction:
        """Decide, draw the overlay if asked for, and return the row."""
        if image.error:
            return Prediction(str(image.path), error=image.error)
        limit, decision, target = self.threshold, None, None
        caption, colors = f"score {image.score:.4g}", None
        if limit:
            decision = "anomalous" if image.score > limit.image else "good"
            caption, colors = f"{decision}: {image.score:.4g}, threshold {limit.image:.4g}", (limit.typical, limit.pixel)
        if self.overlays in ("all", decision):
            target = self.folder / image.name
            fine = searched(image.anomaly_map[None], self.scorer.smoothing)[0]
            # read again: kept until its score is known, a large image would fill the memory with those decoded ahead
            whole = read_image(image.path, self.scorer.tiling.view.levels)
            overlay = draw_overlay(whole[middle(whole.shape, self.scorer.job.crop)], fine, [image.path.name, caption], colors)
            save_picture(overlay, target, "JPEG", durable=False, quality=_QUALITY, subsampling=0)  # 0: outlines stay sharp
        return Prediction(str(image.path), image.score, limit.image if limit else None, decision, str(target) if target else None)


def predict_images(
    workspace: Workspace, file: Path, sources: Sequence[Path], out: Path, overlays: str | None = None,
    must_decide: bool = False, shown: int | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Predict on the images in `sources` with the model in `file`; write predictions.csv and overlays/ into `out`.

    Return the counts, the speed, and all rows, or only the `shown` rows with the highest scores. By default the anomalous
    images get an overlay; all images do if the model has no threshold. Raise UsageError if it has none but `must_decide` or
    `overlays` needs one.
    """
    wish = match("overlays", overlays, OVERLAYS) if overlays else None
    check_folder("--out", out)
    model, images = load_model(file), find_images(sources, skip=out)
    pictures = (out / "overlays" / name for name in picture_names(images))
    check_no_image_is_replaced(pictures, (image.path for image in images), f"--out {out}")
    threshold, remedy = model.threshold, f"set one with: adbench threshold {file} GOOD_IMAGES --fpr 0.01"
    if threshold is None and (must_decide or wish == "anomalous"):
        raise UsageError(f"predict: {file} has no threshold to decide by; {remedy}")
    scorer = Scorer.of(model, file, workspace)
    if threshold is None:
        log.warning("%s has no threshold: scores come without decisions; %s", file, remedy)
    predictor = Predictor(scorer, threshold, wish or ("anomalous" if threshold else "all"), out / "overlays")
    started, counts = time.perf_counter(), Counter[str]()
    earlier = {str(path) for path in predictor.folder.rglob("*.jpg")}
    # overlays are drawn in threads while the next images are scored
    predictions = ordered_map(predictor.finish, predictor.scored(images, workspace.on_step), _THREADS, _AHEAD)
    rows = _write_rows(predictions, out / "predictions.csv", counts, earlier)
    kept = list(rows) if shown is None else heapq.nlargest(shown, rows, key=lambda r: -math.inf if r.score is None else r.score)
    if earlier:
        log.warning("%d pictures in %s are of earlier runs, such as %s", len(earlier), predictor.folder, min(earlier))
    return {
        "images": len(images),
        **{outcome: counts[outcome] for outcome in OUTCOMES},
        "threshold": threshold.record() if threshold else None,
        "csv": str(out / "predictions.csv"),
        "images_per_second": len(images) / (time.perf_counter() - started),
        "predictions": [asdict(row) for row in kept],
    }


def _write_rows(rows: Iterable[Prediction], target: Path, counts: Counter[str], earlier: set[str]) -> Iterator[Prediction]:
    """Yield the rows while they are written, their outcomes counted and their overlays taken out of those of `earlier` runs.

    The CSV appears when the last one is written.
    """
    with replacing(target) as temporary, temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([column.name for column in fields(Prediction)])
        for row in rows:
            writer.writerow(astuple(row))
            counts["failed" if row.error else row.decision or "undecided"] += 1
            earlier.discard(row.overlay or "")
            if row.error:
                log.warning("%s", row.error)
            yield row
