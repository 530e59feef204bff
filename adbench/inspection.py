"""New images through a saved model: scores, decisions and pictures, in a stream of bounded memory."""

from __future__ import annotations

import csv
import heapq
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, astuple, dataclass, field, fields
from functools import partial
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adbench.errors import DataError, UsageError
from adbench.extraction import in_order
from adbench.files import replacing
from adbench.image_lists import NewImage, find_images, picture_names
from adbench.images import read_image
from adbench.models import Model, load_model
from adbench.overlays import draw, smoothed, thumbnail
from adbench.pixels import Pixels, resize
from adbench.prediction import Scorer
from adbench.registry import match
from adbench.setting import Setting
from adbench.types import OnStep
from adbench.workplace import choose_device

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
            for prediction in in_order(_call, self._unfinished(), _THREADS, _AHEAD):
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
        self,
        path: str,
        name: PurePath,
        score: float,
        anomaly_map: NDArray[np.float32],
        picture: NDArray[np.uint8] | None,
    ) -> Prediction:
        """Decide, draw if so wished, and return the row."""
        limit, overlay = self.model.threshold, None
        decision = ("anomalous" if score > limit.image else "good") if limit else None
        if picture is not None and self.overlays in ("all", decision):
            overlay = self.out / "overlays" / name
            fine = smoothed(anomaly_map[None], self.model.detector.smoothing)[0]
            said = f"{decision}: {score:.4g}, threshold {limit.image:.4g}" if limit else f"score {score:.4g}"
            with replacing(overlay, durable=False) as temporary:
                drawn = draw(picture, fine, said, limit)
                drawn.save(temporary, format="JPEG", quality=_QUALITY, subsampling=0)  # 0: outlines stay sharp
        return Prediction(path, score, limit.image if limit else None, decision, str(overlay) if overlay else None)


def _call(function: Callable[[], Prediction]) -> Prediction:
    return function()


def prepare(
    setting: Setting, file: Path, sources: Sequence[Path], out: Path, overlays: str | None, decide: bool
) -> Inspection:
    """Return what `predict` is to do; what is missing is said before any work. decide: decisions are a must.

    Unless said otherwise the anomalous images get an overlay, and all where there is no threshold to tell them by.
    """
    wish = match("overlays", overlays, OVERLAYS) if overlays else None
    images, model = find_images(sources, leave_out=out), load_model(file)
    remedy = f"set one with: adbench threshold {file} GOOD_IMAGES --fpr 0.01"
    if model.threshold is None and (decide or wish == "anomalous"):
        raise UsageError(f"predict: {file} has no threshold, so nothing is anomalous to it; {remedy}")
    scorer = Scorer(setting.network_of(file, model.job), model.job, model.detector, choose_device(setting.device))
    if model.threshold is None:
        log.warning("%s has no threshold: scores come without decisions; %s", file, remedy)
    overlays = wish or ("anomalous" if model.threshold else "all")
    return Inspection(model, scorer, images, out, overlays, setting.on_step)


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
