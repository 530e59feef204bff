"""FastFlow (Yu et al., "FastFlow: Unsupervised Anomaly Detection and Localization via 2D Normalizing Flows", 2021).

A flow of `steps` coupling steps (flows.OneSidedStep), 3 x 3 and 1 x 1 kernels in turn, maps the features x (C, h, w) of
nominal images to a standard normal z: minimise 0.5 sum z^2 - log |det dz/dx| per image (equations 1 to 4), Adam without
a schedule, no augmentation. A cell's score is e = 0.5 mean_C z^2, an image's the largest of its cells. Joined layers
have one flow each, trained on the sum of their losses; on the finest grid a cell's score is -log mean_layers exp(-e):
the order of the published average of exp(-e).

The paper leaves much open; where the public implementations agree they are followed (0.1 on the subnet's output, a
scale and offset per channel after each coupling). Deviations from them:
- each channel is standardised by its mean and deviation over the training set; channels that do not vary are left out.
  Theirs is a LayerNorm over (C, h, w) of an image with two parameters per element, which bakes the input size into the
  detector, counts as capacity, and shrinks x without paying in log |det J|. `normalise=layer` is that without parameters;
- scores stay in the log domain: exp(-e) is 0 for all that lies far off, and ties would follow; layers are resized there;
- `logdet=true` (not published) takes the negative log-likelihood per channel itself, e - log |det J| / C of the cell;
- an epoch takes all images, in batches of nearly equal size (theirs drop the last, incomplete one);
- the permutation is an index, not a C x C matrix.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adbench.core.errors import UsageError
from adbench.core.registry import match
from adbench.detectors import register
from adbench.detectors.training.flows import Flow, OneSidedStep, negative_log_likelihood
from adbench.detectors.training.loop import TrainedDetector, TrainingSet, below, cpu_state, lent, repeatable
from adbench.detectors.training.standardization import Standardisation
from adbench.features.feature_maps import FeatureMaps, Shape, join
from adbench.types import OnStep, Scores, ignore_step

NORMALISATIONS = ("channel", "layer")
_BATCH = 16  # images scored at once
_WIDE = 1024  # channels from which hidden_ratio=0 means _NARROW_RATIO
_NARROW_RATIO = 0.25


@register("fastflow")
@dataclass
class FastFlow(TrainedDetector):
    """2D normalizing flow, one for each layer; a short run (tens of epochs) wants schedule=onecycle.

    hidden_ratio: the subnets' hidden channels over their input channels; 0 = 1.0 (published) below 1024 channels, else
    0.25. A flow has about 30 ratio C^2 parameters: a quarter gives 1024 channels what 512 have, and 2048 channels 32
    million (0.5 GB with Adam's state) in place of 126. clamp: bound of a coupling's log scale. normalise: channel or layer.
    logdet: whether a cell's score counts the flow's own log-determinant too.
    """

    revision: ClassVar[int] = 3
    smoothing: ClassVar[float] = 0.0

    epochs: int = 500
    batch_size: int = 32
    steps: int = 8
    hidden_ratio: float = 0.0
    clamp: float = 2.0
    normalise: str = "channel"
    logdet: bool = False
    flows_: nn.ModuleList = field(default_factory=nn.ModuleList, init=False, repr=False)
    scales_: list[Standardisation] = field(default_factory=list, init=False, repr=False)  # of each layer

    def __post_init__(self) -> None:
        super().__post_init__()
        self.normalise = match("normalise", self.normalise, NORMALISATIONS, where=" of fastflow")
        for name in ("steps", "clamp"):
            if getattr(self, name) <= 0:
                raise UsageError(f"fastflow: {name}={getattr(self, name):g} must be above 0")
        if self.hidden_ratio < 0:
            raise UsageError(f"fastflow: hidden_ratio={self.hidden_ratio:g} must not be negative (0 = automatic)")

    def unsupported(self, shapes: Sequence[Shape]) -> str | None:
        """A coupling needs two channels of each layer."""
        return next(filter(None, (super(FastFlow, self).unsupported([shape]) for shape in shapes)), None)

    def fit(self, features: FeatureMaps, *, device: torch.device, on_step: OnStep = ignore_step) -> "FastFlow":
        """Train the flows on nominal images."""
        self.scales_ = [Standardisation.of(FeatureMaps((layer,))) for layer in features.layers]
        with repeatable(self.seed):
            flows = self._make().to(device)
            data = TrainingSet(features, self._prepare, device)

            def loss(layers: list[Tensor]) -> Tensor:
                parts = [negative_log_likelihood(*flow(x)) for flow, x in zip(flows, layers, strict=True)]
                return torch.stack([part.sum(dim=(1, 2)).mean() for part in parts]).sum()

            size = sum(math.prod(shape) for shape in features.shapes)
            self.curves_ = {"loss": self.train(flows, loss, data, on_step, size)}
        self.flows_ = flows.cpu().eval()
        return self

    @torch.no_grad()
    def score(self, features: FeatureMaps, *, device: torch.device) -> Scores:
        """Return image scores (N,), the maxima of the maps, and maps (N, h, w) on the finest grid."""
        flows, maps = self._fitted(), []
        with lent(device, flows):
            for _, layers in features.batches(_BATCH, device):
                parts = [self._energy(*flow(x)) for flow, x in zip(flows, self._prepare(layers), strict=True)]
                maps.append((math.log(len(parts)) - (-join(parts)).logsumexp(dim=1)).cpu().numpy())
        whole = np.concatenate(maps)
        return Scores(whole.max(axis=(1, 2)), whole)

    def _energy(self, z: Tensor, logdet: Tensor) -> Tensor:
        """Return the scores (B, 1, h, w) of one layer's cells."""
        energy = 0.5 * z.square().mean(dim=1, keepdim=True)
        return energy - logdet[:, None] / z.shape[1] if self.logdet else energy

    def _fitted(self) -> nn.ModuleList:
        if not self.flows_:
            raise UsageError("fastflow: fit it before it is used")
        return self.flows_

    def _ratio(self, channels: int) -> float:
        return self.hidden_ratio or (1.0 if channels < _WIDE else _NARROW_RATIO)

    def _channels(self) -> list[int]:
        """Return how many channels of each layer the flows take."""
        return [len(scale.mean) if self.normalise == "layer" else scale.alive for scale in self.scales_]

    def _make(self) -> nn.ModuleList:
        """Return a new flow for each layer."""
        kernels = [1 if i % 2 else 3 for i in range(self.steps)]
        return nn.ModuleList(
            Flow(OneSidedStep(count, self._ratio(count), kernel, self.clamp) for kernel in kernels) for count in self._channels()
        )

    def _prepare(self, layers: Sequence[Tensor]) -> list[Tensor]:
        """Return each layer's maps (B, C_l, h_l, w_l) normalised, without channels that never vary."""
        if self.normalise == "layer":
            return [F.layer_norm(layer, layer.shape[1:]) for layer in layers]
        return [scale.apply(layer) for scale, layer in zip(self.scales_, layers, strict=True)]

    def state_dict(self) -> dict[str, Tensor]:
        state = cpu_state(self._fitted(), "flows") | self.training_state()
        for index, scale in enumerate(self.scales_):
            state |= {f"mean.{index}": scale.mean, f"deviation.{index}": scale.deviation}
        return state

    def load_state_dict(self, state: dict[str, Tensor]) -> "FastFlow":
        self.load_training_state(state)
        means, deviations = below(state, "mean"), below(state, "deviation")
        self.scales_ = [Standardisation(means[str(i)], deviations[str(i)]) for i in range(len(means))]
        with repeatable(self.seed):  # what it draws is replaced at once
            self.flows_ = self._make().eval()
        self.flows_.load_state_dict(below(state, "flows"))
        return self

    def details(self) -> dict[str, object]:
        """Return the capacity, the curve, and each layer's hidden ratio and channels left out."""
        channels = self._channels()
        dead = [len(scale.mean) - used for scale, used in zip(self.scales_, channels, strict=True)]
        ratios = [self._ratio(count) for count in channels]
        return self.training_details(self._fitted()) | {"hidden_ratios": ratios, "dead_channels": sum(dead)}
