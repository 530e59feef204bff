"""Pretrainings: weights of one network from the authors of a method; one file each, found by import.

A file says where its checkpoint comes from, how its keys are laid out, and which preprocessing it was trained with.
A key of the checkpoint is kept without its prefix or belongs to a head and is dropped. Any other one stays as it is and
is refused when the weights are loaded, as is a key of the network (but its classifier) that the checkpoint lacks.
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


@dataclass(frozen=True)
class Pretraining:
    """The contract: one published checkpoint of one backbone."""

    name: str
    file: str  # its name in the folder of checkpoints
    url: str | None  # where it can be downloaded; None if it must be made or asked for
    source: str  # the page that tells about it
    licence: str  # of the weights, as an SPDX identifier
    megabytes: int
    convert: Callable[[State], State]  # the checkpoint's tensors to those of the backbone
    mean: tuple[float, ...] = IMAGENET_MEAN  # of RGB in [0, 1]
    std: tuple[float, ...] = IMAGENET_STD
    sha256_prefix: str = ""  # checked after a download, where the publisher says so
    backbone: str = "resnet50"
    head: str = "fc."  # of the backbone: in no layer, so it may be missing

    @property
    def remedy(self) -> str:
        """What a user does who lacks the file."""
        how = f"get it from {self.url}" if self.url else f"make it as {self.source} tells"
        return f"{how}, then run 'adbench weights import {self.name} FILE'"


PRETRAININGS: Registry[Pretraining] = Registry("pretraining", __name__)
register = PRETRAININGS.register


def layout(prefix: str = "", heads: tuple[str, ...] = ()) -> Callable[[State], State]:
    """Return the map of a checkpoint whose backbone keys begin with `prefix` and whose other keys begin with one of `heads`."""

    def convert(state: State) -> State:
        kept = {key: value for key, value in state.items() if not key.startswith(heads)}
        return {
            key.removeprefix(prefix) if key.startswith(prefix) else f"{key} without {prefix}": value
            for key, value in kept.items()
        }

    return convert


def fitting(backbone: str) -> list[str]:
    """Return the names of the pretrainings of a backbone, sorted."""
    return [name for name in PRETRAININGS.names() if PRETRAININGS.get(name).backbone == backbone]


def named(label: str) -> Pretraining | None:
    """Return the pretraining that a user means by `label`, or None if it is none's name."""
    return next((item for name, item in PRETRAININGS.items().items() if squeeze(name) == squeeze(label)), None)
