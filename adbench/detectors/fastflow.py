"""FastFlow (Yu et al., "FastFlow: Unsupervised Anomaly Detection and Localization via 2D Normalizing Flows", 2021).

A flow of `steps` coupling steps (flows.OneSidedStep), 3 x 3 and 1 x 1 kernels in turn, maps the features x (C, h, w) of
nominal images to a standard normal z: minimise 0.5 sum z^2 - log |det dz/dx| per image (equations 1 to 4), Adam without
a schedule, no augmentation. A cell's score is 0.5 mean_C z^2, an image's the largest of its cells.

The paper leaves much open; where the public implementations agree they are followed (0.1 on the subnet's output, a
scale and offset per channel after each coupling). Deviations from them:
- each layer is normalised over (C, h, w) of its image by a LayerNorm without parameters. Theirs has two parameters per
  element, which bakes the input size into the detector, counts as capacity, and shrinks x without paying in log |det J|.
  `normalise=channel` standardises each channel by its training mean and deviation instead;
- scores stay in the log domain: exp(-0.5 mean z^2) is 0 for all that lies far off, and ties would follow;
- joined layers are one flow on the finest grid, not one flow each with averaged maps;
- an epoch takes all images, in batches of nearly equal size (theirs drop the last, incomplete one);
- the permutation is an index, not a C x C matrix.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from adbench.detectors import register
from adbench.detectors.flows import Flow, OneSidedStep, negative_log_likelihood
from adbench.detectors.training import (
    TrainedDetector,
    TrainingSet,
    below,
    channel_moments,
    cpu_state,
    repeatable,
    standardise,
)  # fmt: skip
from adbench.errors import UsageError
from adbench.feature_maps import FeatureMaps, join
from adbench.registry import match
from adbench.types import OnStep, Scores, ignore_step

NORMALISATIONS = ("layer", "channel")
_BATCH = 16  # images scored at once
_WIDE = 1024  # channels from which hidden_ratio=0 means _NARROW_RATIO
_NARROW_RATIO = 0.25


@register("fastflow")
@dataclass
class FastFlow(TrainedDetector):
    """2D normalizing flow; a short run (tens of epochs) wants schedule=onecycle, batch_size=8, normalise=channel.

    hidden_ratio: the subnets' hidden channels over their input channels; 0 = 1.0 (published) below 1024 channels, else
    0.25. The flow has about 30 ratio C^2 parameters: a quarter gives 1024 channels what 512 have, and 2048 channels 32
    million (0.5 GB with Adam's state) in place of 126. clamp: bound of a coupling's log scale. normalise: layer or channel.
    """

    revision: ClassVar[int] = 1
    smoothing: ClassVar[float] = 0.0

    epochs: int = 500
    batch_size: int = 32
    steps: int = 8
    hidden_ratio: float = 0.0
    clamp: float = 2.0
    normalise: str = "layer"
    flow_: Flow | None = field(default=None, init=False, repr=False)
    mean_: Tensor = field(default_factory=lambda: torch.zeros(0), init=False, repr=False)  # (C,), normalise=channel
    deviation_: Tensor = field(default_factory=lambda: torch.ones(0), init=False, repr=False)  # (C,)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.normalise = match("normalise", self.normalise, NORMALISATIONS, where=" of fastflow")
        for name in ("steps", "clamp"):
            if getattr(self, name) <= 0:
                raise UsageError(f"fastflow: {name}={getattr(self, name):g} must be above 0")
        if self.hidden_ratio < 0:
            raise UsageError(f"fastflow: hidden_ratio={self.hidden_ratio:g} must not be negative (0 = automatic)")

    def fit(self, features: FeatureMaps, *, device: torch.device, on_step: OnStep = ignore_step) -> "FastFlow":
        """Train the flow on nominal images."""
        if self.normalise == "channel":
            self.mean_, self.deviation_ = channel_moments(features)
        with repeatable(self.seed):
            flow = self._make(features.joined_shape[0]).to(device)
            data = TrainingSet(features, self._prepare, device)

            def loss(x: Tensor) -> Tensor:
                return negative_log_likelihood(*flow(x)).sum(dim=(1, 2)).mean()

            self.curves_ = {"loss": self.train(flow, loss, data, on_step, math.prod(features.joined_shape))}
        self.flow_ = flow.cpu().eval()
        return self

    @torch.no_grad()
    def score(self, features: FeatureMaps, *, device: torch.device) -> Scores:
        """Return image scores (N,), the maxima of the maps, and 0.5 mean_C z^2 as maps (N, h, w)."""
        flow, maps = self._flow().to(device), []
        for _, layers in features.batches(_BATCH, device):
            z, _ = flow(self._prepare(layers))
            maps.append(0.5 * z.square().mean(dim=1).cpu().numpy())
        flow.cpu()
        whole = np.concatenate(maps)
        return Scores(whole.max(axis=(1, 2)), whole)

    def _flow(self) -> Flow:
        if self.flow_ is None:
            raise UsageError("fastflow: fit it before it is used")
        return self.flow_

    def _ratio(self, channels: int) -> float:
        return self.hidden_ratio or (1.0 if channels < _WIDE else _NARROW_RATIO)

    def _make(self, channels: int) -> Flow:
        ratio = self._ratio(channels)
        return Flow(OneSidedStep(channels, ratio, 1 if i % 2 else 3, self.clamp) for i in range(self.steps))

    def _prepare(self, layers: Sequence[Tensor]) -> Tensor:
        """(B, C_l, h_l, w_l) of each layer to the normalised (B, C, h, w) of the joined finest grid."""
        if self.normalise == "layer":
            return join([F.layer_norm(layer, layer.shape[1:]) for layer in layers])
        x = join(layers)
        return standardise(x, self.mean_, self.deviation_)

    def state_dict(self) -> dict[str, Tensor]:
        rest = {"mean": self.mean_, "deviation": self.deviation_, "curve": self.curves_["loss"]}
        return cpu_state(self._flow(), "flow") | rest

    def load_state_dict(self, state: dict[str, Tensor]) -> "FastFlow":
        with repeatable(self.seed):  # what it draws is replaced at once
            self.flow_ = self._make(len(state["flow.steps.0.permutation.order"])).eval()
        self.flow_.load_state_dict(below(state, "flow"))
        self.mean_, self.deviation_, self.curves_ = state["mean"], state["deviation"], {"loss": state["curve"]}
        return self

    def details(self) -> dict[str, object]:
        channels = len(self._flow().state_dict()["steps.0.permutation.order"])
        return self.training_details(self._flow()) | {"hidden_ratio": self._ratio(channels)}
