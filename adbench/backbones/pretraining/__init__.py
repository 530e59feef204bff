"""Pretrainings: published weights of one network by one method; one file each, found by import.

A file states the origin of its checkpoint, the layout of its keys, and the preprocessing of its training. Each key of a
checkpoint belongs to the backbone and loses its prefix, or belongs to a head and is dropped. Unexpected keys, and missing
ones except those of the network's classifier, are errors when the weights are loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from adbench.backbones.families import IMAGENET_MEAN, IMAGENET_STD
from adbench.core.registry import Registry, squeeze

if TYPE_CHECKING:
    from torch import Tensor

State = dict[str, "Tensor"]


def layout(prefix: str = "", heads: tuple[str, ...] = ()) -> Callable[[State], State]:
    """Return the conversion of a checkpoint whose backbone keys begin with `prefix` and its other keys with one of `heads`."""

    def rename(key: str) -> str:
        return key.removeprefix(prefix) if key.startswith(prefix) else f"{key} without {prefix}"

    return lambda state: {rename(key): value for key, value in state.items() if not key.startswith(heads)}


TORCHVISION = layout(heads=("fc.",))  # the keys of torchvision's ResNet-50


@dataclass(frozen=True)
class Pretraining:
    """The contract: one published checkpoint of one backbone."""

    name: str
    file: str  # its name in the folder of checkpoints
    url: str | None  # of the download; None if the file must be made or requested
    source: str  # page of the publisher
    license: str  # of the weights, as an SPDX identifier
    megabytes: int
    convert: Callable[[State], State] = TORCHVISION  # from the checkpoint's tensors to those of the backbone
    mean: tuple[float, ...] = IMAGENET_MEAN  # of RGB in [0, 1]
    std: tuple[float, ...] = IMAGENET_STD
    sha256_prefix: str = ""  # of the published file, if the publisher states it
    backbone: str = "resnet50"
    head: str = "fc."  # prefix of the backbone's classifier, which may be missing because no layer needs it

    @property
    def remedy(self) -> str:
        """How to get the file."""
        how = f"get it from {self.url}" if self.url else f"make it as {self.source} tells"
        return f"{how}, then run 'adbench weights import {self.name} FILE'"


PRETRAININGS: Registry[Pretraining] = Registry("pretraining", __name__)
register = PRETRAININGS.register


def fitting(backbone: str) -> list[str]:
    """Return the names of the pretrainings of a backbone, sorted."""
    return [name for name in PRETRAININGS.names() if PRETRAININGS.get(name).backbone == backbone]


def named(label: str) -> Pretraining | None:
    """Return the pretraining that a user means by `label`, or None if there is none of that name."""
    return next((item for name, item in PRETRAININGS.items().items() if squeeze(name) == squeeze(label)), None)
