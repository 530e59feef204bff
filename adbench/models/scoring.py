"""New images through a network and a fitted detector, batch by batch, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Lock

import numpy as np
import torch
from numpy.typing import NDArray

from adbench.backbones.network import Network
from adbench.core.environment import choose_device
from adbench.core.errors import DataError
from adbench.core.threads import Item, Outcome
from adbench.data.pixels import Pixels, read_pixels
from adbench.detectors import Detector
from adbench.features.extraction import Features, extract_for, precision_of
from adbench.features.feature_maps import FeatureMaps
from adbench.models.files import Model
from adbench.sweep.workspace import Workspace
from adbench.types import Job, OnStep, Scores, ignore_step


@dataclass(frozen=True)
class Scorer:
    """A fitted detector with its network, on a device."""

    network: Network
    job: Job
    detector: Detector
    device: torch.device

    @staticmethod
    def of(model: Model, file: Path, workspace: Workspace) -> Scorer:
        """Return the scorer of a model that was read from `file`; raise DataError if its network's weights have changed."""
        network = workspace.network_of(file, model.job)
        return Scorer(network, model.job, model.detector, choose_device(workspace.device))

    def score(
        self, paths: Sequence[Path], on_step: OnStep = ignore_step, read: Callable[[Path, int], Pixels] = read_pixels
    ) -> Iterator[Scores]:
        """Yield the scores of images in order, a batch at a time, maps (B, h, w) on the feature grid.

        An image scores as in `train` and `eval`: its features are rounded as the cache rounds them. `read` decodes images
        ahead, in threads. Where forward passes run side by side, each thread also scores its own batch. Raise DataError for
        a score that is not finite.
        """
        layers, size = self.job.layers, self.job.image_size
        precision, score_batch = precision_of(self.job.dtype), first_call_alone(self._score)
        return extract_for(score_batch, self.network, paths, layers, size, self.device, on_step, read, precision)

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
