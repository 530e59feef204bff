"""The workspace of a command: it opens and checks images, resolves weights and chooses the device."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from adbench.backbones.layers import describe
from adbench.backbones.network import Network
from adbench.backbones.weights import random_seed, resolve
from adbench.core.environment import choose_device
from adbench.core.errors import DataError, UsageError, WeightsError
from adbench.data.check import check_files, check_values, warn_of_remarks
from adbench.data.datasets import open_dataset, open_training
from adbench.data.pixels import MEMORY
from adbench.features.cache import FeatureCache
from adbench.features.runtime import Runtime
from adbench.features.view import View
from adbench.metrics.support.labels import CategoryInputs
from adbench.types import Category, Job, OnStep, ignore_step

log = logging.getLogger("adbench")


@dataclass(frozen=True)
class Workspace:
    """Data (a folder or `demo`), its categories (none = all), cache folder, device, and the receiver of progress."""

    data: str
    cache: Path
    categories: tuple[str, ...] = ()
    device: str = "auto"
    offline: bool = False
    on_step: OnStep = ignore_step
    verify_data: bool = False  # decode and hash every file, also those that look unchanged

    @property
    def memo(self) -> Path:
        """The folder that describes traced backbones."""
        return self.cache / "backbones"

    def runtime(self) -> Runtime:
        """Return the feature cache and the device as a Runtime."""
        return Runtime(FeatureCache(self.cache / "features"), choose_device(self.device), self.on_step)

    def inputs(self, views: Sequence[View] = (), warn: bool = True) -> list[CategoryInputs]:
        """Return the categories with all of their files decoded once and hashed; raise DataError that names every bad file.

        views: those that follow; pixels are kept in memory for them, so that images are not decoded twice. The values of the
        images must fit their range, which they share.
        warn: log what a user should know of how files were read.
        """
        return self._checked(open_dataset(self.data, self.cache, self.categories, self.on_step), views, warn)

    def _checked(self, categories: Sequence[Category], views: Sequence[View], warn: bool = True) -> list[CategoryInputs]:
        keep = MEMORY.keeper([(view.size, view.crop) for view in views if not view.is_native])
        facts = check_files(categories, self.cache / "files.json", self.on_step, keep, self.verify_data)
        stated = next((view.value_range for view in views), None)
        if views:
            check_values(categories, facts, stated)
        for category in categories if warn else ():
            warn_of_remarks(category, facts, stated)
        return [CategoryInputs(category, facts) for category in categories]

    def single(self, training_only: bool = False, views: Sequence[View] = ()) -> CategoryInputs:
        """Return the only category, checked as in `inputs`; raise UsageError if there are several.

        training_only: list and read its training images only.
        """
        if len(self.categories) > 1:
            raise UsageError(f"--category: this command takes one category, not {len(self.categories)}")
        opened = open_training if training_only else open_dataset
        categories = opened(self.data, self.cache, self.categories, self.on_step)
        if len(categories) > 1:
            names = ", ".join(category.name for category in categories)
            raise UsageError(f"--category is missing: '{self.data}' has {names}")
        return self._checked(categories, views)[0]

    def network(self, backbone: str, weights: str) -> Network:
        """Return a backbone with its weights, which are downloaded if necessary."""
        name = describe(backbone, self.memo).backbone
        return Network(name, resolve(name, weights, offline=self.offline, on_step=self.on_step))

    def network_of(self, model: Path, job: Job) -> Network:
        """Return the network that the model in this file was fitted on; raise DataError if its weights have changed."""
        network = self.network(job.backbone, job.weights).drawn_by(random_seed(job.weights_sha256))
        if network.weights.sha256 != job.weights_sha256:
            raise DataError(f"model {model}: made with other weights '{job.weights}' of {job.backbone}; train it again")
        return network

    def network_at_hand(self, backbone: str) -> Network:
        """Return a backbone with its ImageNet weights if they need no download, else with random weights and a warning."""
        try:
            return replace(self, offline=True).network(backbone, "imagenet")
        except WeightsError:
            log.warning("the imagenet weights of %s are not at hand: random ones are used; see --weights", backbone)
            return self.network(backbone, "random")
