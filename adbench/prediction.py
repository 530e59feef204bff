"""Scores of images that belong to no dataset, as a stream of bounded memory; and a threshold from good ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Lock
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from adbench.detectors import Detector
from adbench.errors import DataError
from adbench.extraction import Features, extract_for, precision_of
from adbench.feature_maps import FeatureMaps
from adbench.network import Network
from adbench.overlays import smoothed
from adbench.pixels import Pixels, read_pixels
from adbench.thresholds import Threshold, set_threshold
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
        self,
        paths: Sequence[Path],
        on_step: OnStep = ignore_step,
        read: Callable[[Path, int], Pixels] = read_pixels,
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
