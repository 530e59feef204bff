"""New images through a saved model: scores, decisions and pictures, in a stream of bounded memory."""

from __future__ import annotations

import csv
import heapq
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, astuple, dataclass, field, fields
from functools import partial
from pathlib import Path, PurePath
from threading import Event, Lock
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from adbench.backbones.network import Network
from adbench.core.environment import choose_device
from adbench.core.errors import DataError, UsageError
from adbench.core.files import replacing
from adbench.core.registry import match
from adbench.core.threads import ordered_map
from adbench.data.image_lists import NewImage, find_images, picture_names
from adbench.data.images import read_image
from adbench.data.pixels import Pixels, read_pixels, resize
from adbench.detectors import Detector
from adbench.features.extraction import Features, extract_for, precision_of
from adbench.features.feature_maps import FeatureMaps
from adbench.models.files import Model, load_model
from adbench.models.thresholds import Threshold, set_threshold
from adbench.pictures.overlays import draw_overlay, smoothed, thumbnail
from adbench.sweep.workspace import Workspace
from adbench.types import Job, OnStep, Scores, ignore_step

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


@dataclass(frozen=True)
class Scorer:
    """A fitted detector with the network below it."""

    network: Network
    job: Job
    detector: Detector
    device: torch.device

    def score(
        self, paths: Sequence[Path], on_step: OnStep = ignore_step, read: Callable[[Path, int], Pixels] = read_pixels
    ) -> Iterator[Scores]:
        """Yield the scores of images in order, a batch at a time, maps (B, h, w) on the feature grid.

        Images are decoded ahead, by `read`. No feature is kept; each is rounded as the cache rounds it, so that an image
        scores as it does in `train` and `eval`. Batches are scored in the threads of their passes, where these run side by
        side. Raises DataError for a score that is not finite.
        """
        layers, size = self.job.layers, self.job.image_size
        precision, of = precision_of(self.job.dtype), first_alone(self._score)
        return extract_for(of, self.network, paths, layers, size, self.device, on_step, read, precision)

    def _score(self, batch: Features) -> Scores:
        maps = FeatureMaps(tuple(_rounded(batch[layer], self.job.dtype) for layer in self.job.layers))
        scores = self.detector.score(maps, device=self.device)
        if not (np.isfinite(scores.image).all() and np.isfinite(scores.maps).all()):
            raise DataError(f"{self.job.detector} gave scores that are not finite; train the model again")
        return scores

    def threshold(self, paths: Sequence[Path], fpr: float, on_step: OnStep = ignore_step) -> Threshold:
        """Return the threshold for a false-positive rate from good images that the detector was not fitted to."""
        images: list[float] = []
        highest: list[float] = []
        medians: list[float] = []
        for scores in self.score(paths, on_step):
            maps = smoothed(np.asarray(scores.maps), self.detector.smoothing)
            images += scores.image.tolist()
            highest += maps.max(axis=(1, 2)).tolist()
            medians += np.median(maps, axis=(1, 2)).tolist()
        return set_threshold(images, highest, float(np.median(medians)), fpr)


def first_alone(call: Callable[[Item], Outcome]) -> Callable[[Item], Outcome]:
    """Return `call` for several threads: the first call is over before another begins, which finds what that one made."""
    lock, over = Lock(), Event()

    def wrapped(item: Item) -> Outcome:
        with nullcontext() if over.is_set() else lock:
            outcome = call(item)
        over.set()
        return outcome

    return wrapped


def _rounded(features: NDArray[np.float32], dtype: str) -> NDArray[np.float32]:
    """Return features as the cache keeps them; what is too large for float16 stays as it is."""
    if dtype == "float32":
        return features
    exact = torch.from_numpy(features)
    rounded = exact.half().float()
    if all(bound.isfinite() for bound in rounded.aminmax()):
        return rounded.numpy()
    return torch.where(rounded.isfinite(), rounded, exact).numpy()


log = logging.getLogger("adbench")
OVERLAYS = ("all", "anomalous", "none")
_THREADS = min(8, os.cpu_count() or 1)  # that draw
_QUALITY = 90  # of the pictures, which take a fifth of a PNG's time and size
_AHEAD = 32  # images that wait to be drawn


@dataclass(frozen=True)
class Prediction:
    """What a model says of one image: a row of the CSV.

    decision: anomalous or good, None without a score or without a threshold. error: why there is no score.
    """

    path: str
    score: float | None = None
    threshold: float | None = None
    decision: str | None = None
    overlay: str | None = None
    error: str | None = None


class Reader:
    """Reads each image once, for the network and for its picture; one that cannot be read is noted, and black."""

    def __init__(self, pictures: bool) -> None:
        self.errors: dict[Path, str] = {}
        self.pictures: dict[Path, NDArray[np.uint8]] = {}
        self._keeps_pictures = pictures

    def __call__(self, path: Path, image_size: int) -> Pixels:
        try:
            image = read_image(path)
        except DataError as error:
            self.errors[path] = str(error)
            return np.zeros((image_size, image_size, 3), np.int16)
        if self._keeps_pictures:
            self.pictures[path] = thumbnail(image, image_size)
        return resize(image, image_size)


@dataclass(frozen=True)
class Inspection:
    """What is to be done: images through a model, into the folder `out`. overlays: all, anomalous or none."""

    model: Model
    scorer: Scorer
    images: Sequence[NewImage]
    out: Path
    overlays: str
    on_step: OnStep
    counts: Counter[str] = field(default_factory=Counter)  # of decisions and errors so far

    def run(self) -> Iterator[Prediction]:
        """Write the CSV, whole at the end, and the overlays; yield each row. Damaged images are logged, and rows too."""
        with (
            replacing(self.out / "predictions.csv") as temporary,
            temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
        ):
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow([column.name for column in fields(Prediction)])
            for prediction in ordered_map(_call, self._unfinished(), _THREADS, _AHEAD):
                rows.writerow(astuple(prediction))
                self.counts["failed" if prediction.error else prediction.decision or "undecided"] += 1
                if prediction.error:
                    log.warning("%s", prediction.error)
                yield prediction

    def _unfinished(self) -> Iterator[Callable[[], Prediction]]:
        """Yield for each image, in order and with its scores, the call that makes its row."""
        reader = Reader(self.overlays != "none")
        named = zip(self.images, picture_names(self.images), strict=True)
        for scores in self.scorer.score([image.path for image in self.images], self.on_step, reader):
            for score, anomaly_map in zip(scores.image, np.asarray(scores.maps), strict=True):
                image, name = next(named)
                if image.path in reader.errors:
                    yield partial(Prediction, str(image.path), error=reader.errors.pop(image.path))
                else:
                    picture = reader.pictures.pop(image.path, None)
                    yield partial(self._finish, str(image.path), name, float(score), anomaly_map, picture)

    def _finish(
        self, path: str, name: PurePath, score: float, anomaly_map: NDArray[np.float32], picture: NDArray[np.uint8] | None
    ) -> Prediction:
        """Decide, draw if so wished, and return the row."""
        limit, overlay = self.model.threshold, None
        decision = ("anomalous" if score > limit.image else "good") if limit else None
        if picture is not None and self.overlays in ("all", decision):
            overlay = self.out / "overlays" / name
            fine = smoothed(anomaly_map[None], self.model.detector.smoothing)[0]
            said = f"{decision}: {score:.4g}, threshold {limit.image:.4g}" if limit else f"score {score:.4g}"
            with replacing(overlay, durable=False) as temporary:
                drawn = draw_overlay(picture, fine, said, (limit.typical, limit.pixel) if limit else None)
                drawn.save(temporary, format="JPEG", quality=_QUALITY, subsampling=0)  # 0: outlines stay sharp
        return Prediction(path, score, limit.image if limit else None, decision, str(overlay) if overlay else None)


def _call(function: Callable[[], Prediction]) -> Prediction:
    return function()


def prepare(
    workspace: Workspace, file: Path, sources: Sequence[Path], out: Path, overlays: str | None, decide: bool
) -> Inspection:
    """Return what `predict` is to do; what is missing is said before any work. decide: decisions are a must.

    Unless said otherwise the anomalous images get an overlay, and all where there is no threshold to tell them by.
    """
    wish = match("overlays", overlays, OVERLAYS) if overlays else None
    images, model = find_images(sources, leave_out=out), load_model(file)
    remedy = f"set one with: adbench threshold {file} GOOD_IMAGES --fpr 0.01"
    if model.threshold is None and (decide or wish == "anomalous"):
        raise UsageError(f"predict: {file} has no threshold, so nothing is anomalous to it; {remedy}")
    scorer = Scorer(workspace.network_of(file, model.job), model.job, model.detector, choose_device(workspace.device))
    if model.threshold is None:
        log.warning("%s has no threshold: scores come without decisions; %s", file, remedy)
    overlays = wish or ("anomalous" if model.threshold else "all")
    return Inspection(model, scorer, images, out, overlays, workspace.on_step)


def inspect(inspection: Inspection, shown: int | None = None) -> dict[str, Any]:
    """Run an inspection; return its counts, its speed, and all rows, or the `shown` ones that score highest."""
    started = time.perf_counter()
    rows = inspection.run()
    kept = list(rows) if shown is None else heapq.nlargest(shown, rows, key=_score)
    speed = len(inspection.images) / (time.perf_counter() - started)
    threshold = inspection.model.threshold
    counts = {name: inspection.counts[name] for name in ("anomalous", "good", "undecided", "failed")}
    return {
        "images": len(inspection.images),
        **counts,
        "threshold": threshold.record() if threshold else None,
        "csv": str(inspection.out / "predictions.csv"),
        "images_per_second": speed,
        "predictions": [asdict(row) for row in kept],
    }


def _score(prediction: Prediction) -> float:
    return float("-inf") if prediction.score is None else prediction.score
