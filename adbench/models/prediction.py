"""Predict on new images: scores, decisions, overlays and a CSV, in a stream whose memory does not grow with the images."""

from __future__ import annotations

import csv
import heapq
import logging
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, astuple, dataclass, field, fields
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from adbench.core.errors import DataError, UsageError
from adbench.core.files import replacing
from adbench.core.registry import match
from adbench.core.threads import ordered_map
from adbench.data.image_lists import NewImage, find_images, picture_names
from adbench.data.images import read_image
from adbench.data.pixels import Pixels, resize
from adbench.models.files import load_model
from adbench.models.scoring import Scorer
from adbench.models.thresholds import Threshold
from adbench.pictures.overlays import draw_overlay, smoothed, thumbnail
from adbench.sweep.workspace import Workspace
from adbench.types import OnStep

log = logging.getLogger("adbench")
OVERLAYS = ("all", "anomalous", "none")
OUTCOMES = ("anomalous", "good", "undecided", "failed")
_THREADS = min(8, os.cpu_count() or 1)  # that draw
_QUALITY = 90  # of the JPEGs, which take a fifth of a PNG's time and size
_AHEAD = 32  # images that wait to be drawn


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

    @property
    def outcome(self) -> str:
        """One of `OUTCOMES`."""
        return "failed" if self.error else self.decision or "undecided"


class ScoredImage(NamedTuple):
    """An image on its way to a row. picture: its thumbnail, if overlays may be drawn. error: why it could not be read."""

    path: Path
    name: PurePath  # of its overlay
    score: float
    anomaly_map: NDArray[np.float32]
    picture: NDArray[np.uint8] | None
    error: str | None


@dataclass
class Reader:
    """Decodes each image once, for the network and for its overlay.

    An unreadable image is noted in `errors` and replaced by a black one, so that the others go on.
    """

    keep_pictures: bool
    errors: dict[Path, str] = field(default_factory=dict)
    pictures: dict[Path, NDArray[np.uint8]] = field(default_factory=dict)

    def __call__(self, path: Path, image_size: int) -> Pixels:
        try:
            image = read_image(path)
        except DataError as error:
            self.errors[path] = str(error)
            return np.zeros((image_size, image_size, 3), np.int16)
        if self.keep_pictures:
            self.pictures[path] = thumbnail(image, image_size)
        return resize(image, image_size)


@dataclass(frozen=True)
class Predictor:
    """Makes the row of each image, and draws its overlay into `folder` if `overlays` (all, anomalous, none) asks for it."""

    scorer: Scorer
    threshold: Threshold | None
    overlays: str
    folder: Path

    def predict(self, images: Sequence[NewImage], on_step: OnStep) -> Iterator[Prediction]:
        """Yield the rows of the images in order; overlays are drawn in threads while the next images are scored."""
        return ordered_map(self._finish, self._scored(images, on_step), _THREADS, _AHEAD)

    def _scored(self, images: Sequence[NewImage], on_step: OnStep) -> Iterator[ScoredImage]:
        reader = Reader(self.overlays != "none")
        batches = self.scorer.score([image.path for image in images], on_step, reader)
        scores = (pair for batch in batches for pair in zip(batch.image, np.asarray(batch.maps), strict=True))
        for image, name, (score, anomaly_map) in zip(images, picture_names(images), scores, strict=True):
            picture, error = reader.pictures.pop(image.path, None), reader.errors.pop(image.path, None)
            yield ScoredImage(image.path, name, float(score), anomaly_map, picture, error)

    def _finish(self, image: ScoredImage) -> Prediction:
        """Decide, draw the overlay if asked for, and return the row."""
        if image.error:
            return Prediction(str(image.path), error=image.error)
        limit = self.threshold.image if self.threshold else None
        decision = None if limit is None else "anomalous" if image.score > limit else "good"
        overlay = None
        if image.picture is not None and self.overlays in ("all", decision):
            overlay = str(self._draw(image, image.picture, decision))
        return Prediction(str(image.path), image.score, limit, decision, overlay)

    def _draw(self, image: ScoredImage, picture: NDArray[np.uint8], decision: str | None) -> Path:
        limit, target = self.threshold, self.folder / image.name
        fine = smoothed(image.anomaly_map[None], self.scorer.detector.smoothing)[0]
        caption = f"{decision}: {image.score:.4g}, threshold {limit.image:.4g}" if limit else f"score {image.score:.4g}"
        overlay = draw_overlay(picture, fine, caption, (limit.typical, limit.pixel) if limit else None)
        with replacing(target, durable=False) as temporary:
            overlay.save(temporary, format="JPEG", quality=_QUALITY, subsampling=0)  # 0: outlines stay sharp
        return target


def predict_images(
    workspace: Workspace,
    file: Path,
    sources: Sequence[Path],
    out: Path,
    overlays: str | None = None,
    must_decide: bool = False,
    shown: int | None = None,
) -> dict[str, Any]:
    """Predict on the images in `sources` with the model in `file`; write predictions.csv and overlays/ into `out`.

    Return the counts, the speed, and all rows, or only the `shown` rows with the highest scores. By default the anomalous
    images get an overlay; all images do if the model has no threshold. Raise UsageError if it has none but `must_decide` or
    `overlays` needs one.
    """
    wish = match("overlays", overlays, OVERLAYS) if overlays else None
    images, model = find_images(sources, leave_out=out), load_model(file)
    threshold, remedy = model.threshold, f"set one with: adbench threshold {file} GOOD_IMAGES --fpr 0.01"
    if threshold is None and (must_decide or wish == "anomalous"):
        raise UsageError(f"predict: {file} has no threshold to decide by; {remedy}")
    scorer = Scorer.of(model, file, workspace)
    if threshold is None:
        log.warning("%s has no threshold: scores come without decisions; %s", file, remedy)
    predictor = Predictor(scorer, threshold, wish or ("anomalous" if threshold else "all"), out / "overlays")
    started, counts = time.perf_counter(), Counter[str]()
    rows = _write_rows(predictor.predict(images, workspace.on_step), out / "predictions.csv", counts)
    kept = list(rows) if shown is None else heapq.nlargest(shown, rows, key=_score)
    return {
        "images": len(images),
        **{outcome: counts[outcome] for outcome in OUTCOMES},
        "threshold": threshold.record() if threshold else None,
        "csv": str(out / "predictions.csv"),
        "images_per_second": len(images) / (time.perf_counter() - started),
        "predictions": [asdict(row) for row in kept],
    }


def _write_rows(rows: Iterable[Prediction], target: Path, counts: Counter[str]) -> Iterator[Prediction]:
    """Yield the rows while they are written and their outcomes counted; the CSV appears when the last one is written."""
    with replacing(target) as temporary, temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([column.name for column in fields(Prediction)])
        for row in rows:
            writer.writerow(astuple(row))
            counts[row.outcome] += 1
            if row.error:
                log.warning("%s", row.error)
            yield row


def _score(prediction: Prediction) -> float:
    return float("-inf") if prediction.score is None else prediction.score
