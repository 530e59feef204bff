"""FastFlow (Yu et al., "FastFlow: Unsupervised Anomaly Detection and Localization via 2D Normalizing Flows", 2021).

A flow of `steps` coupling steps (flows.OneSidedStep), 3 x 3 and 1 x 1 kernels in turn, maps the features x (C, h, w) of
nominal images to a standard normal z: minimize 0.5 sum z^2 - log |det dz/dx| per image (equations 1 to 4), with Adam, no
schedule, no augmentation. A cell's score is e = 0.5 mean_C z^2, in nats per channel up to a constant, an image's the
largest of its cells. Joined layers have one flow each, trained on the sum of their losses; on the finest grid a cell's score
is -log mean_layers exp(-e), which has the order of the published average of exp(-e).

The paper leaves much open. Where the public implementations agree they are followed (0.1 on the subnet's output, a scale and
offset per channel after each coupling). Deviations from them:
- each channel is standardized by its mean and deviation over the training set; channels that do not vary are dropped.
  Theirs is a LayerNorm over (C, h, w) of an image with two parameters per element, which bakes the input size into the
  detector, counts as capacity, and shrinks x without paying in log |det J|. `normalise=layer` is that without parameters;
- scores stay in the log domain: exp(-e) is 0 far from the nominal features, so distant anomalies would tie; layers are resized
  in that domain. `anomaly_map=probability` is the published map, -mean_layers exp(-e). It has the same order before layers are
  resized; its interpolation, and so its pixel metrics, differ. (Theirs resizes each layer to the input's size at once, here
  layers meet on the finest grid);
- the image score is the largest of the cells. `image_score=map` is the published one, the largest value of the map enlarged to
  the input's size, taken on a 256 grid as for their inputs of 256 px: bilinear enlargement lowers peaks of single cells;
- `logdet=true` (not published) takes the negative log-likelihood per channel itself, e - log |det J| / C of the cell;
- an epoch takes all images, in batches of nearly equal size (theirs drop the last, incomplete one): it has no fewer steps;
- the permutation is an index, not a C x C matrix: the same numbers.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from adbench.core.errors import UsageError
from adbench.core.registry import match
from adbench.detectors import added, register
from adbench.detectors.training.flows import Flow, OneSidedStep, negative_log_likelihood
from adbench.detectors.training.loop import Standardization, TrainedDetector, TrainingSet
from adbench.features.anomaly_maps import maxima
from adbench.features.feature_maps import FeatureMaps, Shape, join
from adbench.types import OnStep

NORMALIZATIONS = ("channel", "layer")
MAPS, IMAGE_SCORES = ("log", "probability"), ("cell", "map")
_WIDE = 1024  # channels from which hidden_ratio=0 means _NARROW_RATIO
_NARROW_RATIO = 0.25


@register("fastflow")
@dataclass
class FastFlow(TrainedDetector):
    """2D normalizing flow, one for each layer; use schedule=onecycle for a short run (tens of epochs).

    hidden_ratio: the subnets' hidden channels over their input channels; 0 = 1.0 (published) below 1024 channels, else
    0.25. A flow has about 30 ratio C^2 parameters: a quarter gives 1024 channels what 512 have, and 2048 channels 32
    million (0.5 GB with Adam's state) in place of 126. clamp: bound of a coupling's log scale. normalise: channel or layer.
    logdet: whether a cell's score includes the flow's log-determinant. anomaly_map: log, e itself, or probability, -exp(-e) and
    its mean over layers (published). image_score: the largest cell, or the largest value of the enlarged map (published).
    """

    revision: ClassVar[int] = 3

    epochs: int = 500
    batch_size: int = 32
    steps: int = 8
    hidden_ratio: float = 0.0
    clamp: float = 2.0
    normalise: str = "channel"
    logdet: bool = False
    anomaly_map: str = added("log")
    image_score: str = added("cell")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.normalise = match("normalise", self.normalise, NORMALIZATIONS, where=" of fastflow")
        self.anomaly_map = match("anomaly_map", self.anomaly_map, MAPS, where=" of fastflow")
        self.image_score = match("image_score", self.image_score, IMAGE_SCORES, where=" of fastflow")
        self.require_positive("steps", "clamp")
        if self.hidden_ratio < 0:
            raise UsageError(f"fastflow: hidden_ratio={self.hidden_ratio:g} must not be negative (0 = automatic)")

    def unsupported(self, shapes: Sequence[Shape]) -> str | None:
        """Return the reason if a layer has one channel: a coupling needs two."""
        return next(filter(None, (super(FastFlow, self).unsupported([shape]) for shape in shapes)), None)

    def make_scales(self, features: FeatureMaps) -> dict[str, Standardization]:
        return {f".{i}": Standardization.of(FeatureMaps((layer,))) for i, layer in enumerate(features.layers)}

    def make_networks(self) -> nn.ModuleDict:
        """Return `flows`, one for each layer."""
        kernels = [1 if i % 2 else 3 for i in range(self.steps)]
        flows = nn.ModuleList(
            Flow(OneSidedStep(count, self._ratio(count), kernel, self.clamp) for kernel in kernels) for count in self._channels()
        )
        return nn.ModuleDict({"flows": flows})

    def train_networks(self, networks: nn.ModuleDict, features: FeatureMaps, device: torch.device, on_step: OnStep) -> None:
        flows = cast(nn.ModuleList, networks["flows"])

        def loss(layers: list[Tensor]) -> Tensor:
            parts = [negative_log_likelihood(*flow(x)) for flow, x in zip(flows, layers, strict=True)]
            return torch.stack([part.sum(dim=(1, 2)).mean() for part in parts]).sum()

        size = sum(math.prod(shape) for shape in features.shapes)
        self.curves_["loss"] = self.train(flows, loss, TrainingSet(features, self._prepare, device), on_step, size)

    def score_maps(self, layers: list[Tensor]) -> Tensor:
        flows = cast(nn.ModuleList, self.networks_["flows"])
        parts = []  # the scores (B, 1, h, w) of each layer's cells
        for flow, x in zip(flows, self._prepare(layers), strict=True):
            z, logdet = flow(x)
            energy = 0.5 * z.square().mean(dim=1, keepdim=True)
            parts.append(energy - logdet[:, None] / z.shape[1] if self.logdet else energy)
        if self.anomaly_map == "probability":
            return -join([(-part).exp() for part in parts]).mean(dim=1)
        return math.log(len(parts)) - (-join(parts)).logsumexp(dim=1)

    def score_images(self, maps: NDArray[np.float32]) -> NDArray[np.float32]:
        return maxima(maps, replace(self.gaussian, sigma=0)) if self.image_score == "map" else super().score_images(maps)

    def _ratio(self, channels: int) -> float:
        return self.hidden_ratio or (1.0 if channels < _WIDE else _NARROW_RATIO)

    def _channels(self) -> list[int]:
        """Return how many channels of each layer the flows take."""
        return [len(scale.mean) if self.normalise == "layer" else scale.alive for scale in self.scales_.values()]

    def _prepare(self, layers: Sequence[Tensor]) -> list[Tensor]:
        """Return each layer's maps (B, C_l, h_l, w_l) normalized, without channels that never vary."""
        if self.normalise == "layer":
            return [F.layer_norm(layer, layer.shape[1:]) for layer in layers]
        return [scale.apply(layer) for scale, layer in zip(self.scales_.values(), layers, strict=True)]

    def details(self) -> dict[str, object]:
        """Return the capacity, the curve, each layer's hidden ratio and the number of dropped channels."""
        channels = self._channels()
        dead = sum(len(scale.mean) for scale in self.scales_.values()) - sum(channels)
        return super().details() | {"hidden_ratios": [self._ratio(count) for count in channels], "dead_channels": dead}
