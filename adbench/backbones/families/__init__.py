"""Families of backbones: networks by name; one file per library or network, found by import.

No family imports torch at the module level, so that a finished sweep can be listed and planned without that import.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from adbench.core.errors import AdbenchError
from adbench.core.registry import Registry, squeeze, unknown

if TYPE_CHECKING:
    from torch import Tensor, nn

NORM = ".norm"  # `blocks.N.norm`: the tokens behind block N, and then the network's final norm
Size = tuple[int, int]  # height and width of an input image in pixels
Normalization = tuple[tuple[float, ...], tuple[float, ...]]  # mean and standard deviation of RGB in [0, 1]
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
ALIASES = {"wideresnet50": "wide_resnet50_2", "wideresnet101": "wide_resnet101_2", "wrn50": "wide_resnet50_2"}


@dataclass(frozen=True)
class WeightsFile:
    """The path of a checkpoint, its download, and the preprocessing of its training."""

    path: Path
    url: str | None = None
    mean: tuple[float, ...] = IMAGENET_MEAN  # of RGB in [0, 1]
    std: tuple[float, ...] = IMAGENET_STD
    sha256_prefix: str = ""  # of the file, if its publisher states it
    remedy: str = ""  # how to get the file; empty = put it at `path`
    others: tuple[tuple[Path, str], ...] = ()  # paths and downloads of the same weights in other formats
    license: str | None = None  # of the weights, as their publisher names it; None = unknown
    gated: bool | None = None  # whether the download needs an account that accepted the license; None = unknown
    megabytes: float | None = None
    source: str = ""  # page of the publisher
    note: str = ""  # what a user should know besides the license
    refusal: str = ""  # why these weights do not belong into this network, and which network they need


class Family:
    """The contract: networks of one source. `prefix/name` selects this family if several have a network of that name.

    A network has layers in one of two ways. A convolutional one is traced (`node_names`, `cut`). Of any other, the family knows
    the feature maps behind its blocks or stages (`stages`, `stage_maps`).
    """

    prefix: str = ""
    packages: tuple[str, ...] = ("torch", "torchvision")  # whose versions decide the layers' names
    stage_layers: dict[str, tuple[str, ...]] = {}  # noqa: RUF012  last layers of the main stages, where known

    def names(self) -> list[str]:
        """Return the names of the networks."""
        raise NotImplementedError

    def build(self, name: str, size: Size | None = None) -> nn.Module:
        """Return the network with its random initialization.

        size: of the input, for a network with `fixed_size`; None = the size of its published weights.
        """
        raise NotImplementedError

    def fixed_size(self, module: nn.Module) -> Size | None:
        """Return the only input size that a built network takes, None for one that takes many."""
        return None

    def usual_size(self, module: nn.Module) -> Size:
        """Return an input size that the network takes."""
        return self.fixed_size(module) or (256, 256)

    def resized(self, state: dict[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
        """Return the state dict of a network of another input size for `module`: position tables are interpolated."""
        return state

    def node_names(self, module: nn.Module) -> list[str]:
        """Return the names of the nodes of the network's graph in evaluation mode, in order."""
        raise NotImplementedError

    def cut(self, module: nn.Module, layers: dict[str, str]) -> nn.Module:
        """Return the graph up to the deepest of `layers` (node name to key of the output); it returns a dict of tensors."""
        raise NotImplementedError

    def stages(self, module: nn.Module) -> dict[str, str]:
        """Return {layer: name of the module that computes it} of the blocks or stages, shallow first; empty if unknown."""
        return {}

    def stage_names(self, module: nn.Module) -> list[str]:
        """Return the layers of all stages, shallow first; with a `.norm` one behind each where the final norm fits all."""
        marks = ("", NORM) if self.final_norm(module) else ("",)
        return [name + mark for name in self.stages(module) for mark in marks]

    def stage_maps(self, module: nn.Module, images: Tensor, indices: list[int]) -> list[Tensor]:
        """Return the maps (B, C, h, w) behind the stages with these ascending indices; nothing deeper is computed."""
        raise NotImplementedError

    def final_norm(self, module: nn.Module) -> nn.Module | None:
        """Return the norm behind the last block, applicable to the tokens (..., C) of any block; None if there is none."""
        return None

    def weights_file(self, name: str, label: str) -> WeightsFile:
        """Return the file of the pretrained weights `label` ("imagenet" = the default); UsageError if there is none."""
        raise NotImplementedError

    def labels(self, name: str) -> list[str]:
        """Return the labels of the pretrained weights that are published for a network."""
        raise NotImplementedError

    def convert(self, module: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return a published state dict with the keys of `module`; these must then match exactly, except those of the head.

        Raises WeightsError with the reason, without the file's name, if keys fit but values belong to another network.
        """
        return state

    def head(self, module: nn.Module) -> tuple[str, ...]:
        """Return the prefixes of the keys of the classifier, which no layer needs: they may be missing or of another shape."""
        return ()

    def normalization(self, name: str, keys: Iterable[str]) -> Normalization:
        """Return the normalization for a checkpoint with these keys: by default that of the network's default weights."""
        try:
            file = self.weights_file(name, "imagenet")
        except AdbenchError:  # no weights are published
            return IMAGENET_MEAN, IMAGENET_STD
        return file.mean, file.std


FAMILIES: Registry[Family] = Registry("backbone family", __name__)
register = FAMILIES.register


def sorted_families() -> list[Family]:
    """Return the families in the order of lookup of a name without prefix: families with a prefix are last."""
    return sorted(FAMILIES.items().values(), key=lambda family: bool(family.prefix))


def all_backbones() -> dict[str, Family]:
    """Return the family of each backbone by name, sorted; where an earlier family has the name, it begins with the prefix."""
    known: dict[str, Family] = {}
    for family in sorted_families():
        known |= {f"{family.prefix}/{name}" if name in known else name: family for name in family.names()}
    return dict(sorted(known.items()))


def find(name: str) -> tuple[Family, str]:
    """Return the family and the canonical name of a backbone; raise UsageError with the nearest valid name.

    If several families have the network, torchvision's is chosen unless the name is `timm/name`.
    """
    families = sorted_families()
    prefix, _, bare = name.rpartition("/")
    for family in families:
        if prefix and squeeze(prefix) != squeeze(family.prefix):
            continue
        names = {squeeze(n): n for n in family.names()}
        found = names.get(squeeze(bare)) or names.get(squeeze(ALIASES.get(squeeze(bare), bare)))
        if found:
            return family, f"{family.prefix}/{found}" if prefix else found
    raise unknown("backbone", name, [n for family in families for n in family.names()])


def bare(name: str) -> str:
    """Return a backbone's name without its family's prefix."""
    return name.rpartition("/")[2]
