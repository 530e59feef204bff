"""One Gaussian per layer, after Rippel et al., "Modeling the Distribution of Normal Data in Pre-Trained Deep Features
for Anomaly Detection" (ICPR 2020).

Each layer's vectors are modeled by one Gaussian; the score is the Mahalanobis distance
M(x) = sqrt((x - mu)^T S^-1 (x - mu)) (equation 2), in standard deviations, summed over the layers (section III). S is shrunk
toward a multiple of the unit matrix, (1 - r) S + r * tr(S) / C * I, with r as Ledoit and Wolf estimate it (as in the paper).
Features (N, C, h, w) of each layer become vectors (N h w, C) and maps (N, h, w).

Deviations:
- the paper averages each layer over the image and fits the Gaussian to N vectors: no map. Here every cell is a vector,
  N h w of them, so that defects are located; a small defect is not averaged away. The position of a cell is not used, in
  contrast to PaDiM;
- the image score is the maximum of the smoothed map on a 256 grid, not the distance of the image's average;
- 1e-6 of the mean variance is added to the diagonal, so that constant channels do not make S singular: others do not notice.

Covariance and shrinkage are formed here in two passes over batches; scikit-learn's `ledoit_wolf` gives the same numbers, but
needs all N h w vectors in memory at once.
"""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from adbench.core.errors import DetectorError, UsageError
from adbench.detectors import Detector, inverse_factor, register
from adbench.features.anomaly_maps import maxima
from adbench.features.feature_maps import FeatureMaps, join
from adbench.types import OnStep, Scores, ignore_step

_BATCH = 16  # images held at once


@register("mahalanobis")
@dataclass
class Mahalanobis(Detector):
    """One Gaussian per layer over all cells of all images.

    shrinkage: r of the covariance, 0 to 1; negative = by Ledoit and Wolf.
    """

    smoothing: ClassVar[float] = 4.0

    shrinkage: float = -1.0
    means_: list[Tensor] = field(default_factory=list, init=False, repr=False)  # (C_l,) of each layer
    whitenings_: list[Tensor] = field(default_factory=list, init=False, repr=False)  # (C_l, C_l): L^-1 of S = L L^T
    shrinkages_: list[float] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.shrinkage > 1:
            raise UsageError(f"mahalanobis: shrinkage={self.shrinkage:g} must be at most 1 (negative: Ledoit-Wolf)")

    def fit(self, features: FeatureMaps, *, device: torch.device, on_step: OnStep = ignore_step) -> "Mahalanobis":
        """Estimate every layer's mean and covariance in two passes over the images."""
        self.means_, self.whitenings_, self.shrinkages_ = [], [], []
        for index in range(len(features.layers)):
            layer = FeatureMaps(features.layers[index : index + 1])
            mean = _mean(layer, device)
            covariance, amount = _covariance(layer, mean, self.shrinkage, device)
            self.means_.append(mean.float())
            floor = 1e-6 * float(covariance.diagonal().mean())  # keeps channels that never vary from making S singular
            if floor <= 0:
                raise DetectorError("mahalanobis: the features do not vary at all; take another layer")
            self.whitenings_.append(inverse_factor(covariance, floor))
            self.shrinkages_.append(amount)
            on_step(index + 1, len(features.layers), "layers")
        return self

    def score(self, features: FeatureMaps, *, device: torch.device) -> Scores:
        """Return image scores (N,) and the sum of the layers' distances as maps (N, h, w)."""
        gaussians = [(m.to(device), w.to(device)) for m, w in zip(self.means_, self.whitenings_, strict=True)]
        maps = []
        for _, layers in features.batches(_BATCH, device):
            parts = [_distances(layer, *gaussian) for layer, gaussian in zip(layers, gaussians, strict=True)]
            maps.append(join(parts).sum(dim=1).cpu().numpy())
        whole = np.concatenate(maps)
        return Scores(maxima(whole, self.gaussian), whole)

    def state_dict(self) -> dict[str, Tensor]:
        state = {f"mean.{i}": mean for i, mean in enumerate(self.means_)}
        state |= {f"whitening.{i}": whitening for i, whitening in enumerate(self.whitenings_)}
        return state | {"shrinkage": torch.tensor(self.shrinkages_, dtype=torch.float64)}

    def load_state_dict(self, state: dict[str, Tensor]) -> "Mahalanobis":
        count = len(state["shrinkage"])
        self.means_ = [state[f"mean.{i}"] for i in range(count)]
        self.whitenings_ = [state[f"whitening.{i}"] for i in range(count)]
        self.shrinkages_ = state["shrinkage"].tolist()
        return self

    def details(self) -> dict[str, object]:
        return {"shrinkages": [round(value, 6) for value in self.shrinkages_]}


def _vectors(maps: Tensor) -> Tensor:
    """(B, C, h, w) to (B h w, C)."""
    return maps.permute(0, 2, 3, 1).flatten(0, 2)


def _mean(layer: FeatureMaps, device: torch.device) -> Tensor:
    total = torch.zeros(layer.shapes[0][0], dtype=torch.float64)
    for _, maps in layer.batches(_BATCH, device):
        total += maps[0].mean(dim=(2, 3)).sum(dim=0).cpu().double()
    return total / len(layer)


def _covariance(layer: FeatureMaps, mean: Tensor, shrinkage: float, device: torch.device) -> tuple[Tensor, float]:
    """Return the shrunk covariance (C, C) and the shrinkage. Products per batch in float32, their sums in float64."""
    channels, height, width = layer.shapes[0]
    count = len(layer) * height * width
    products, fourth = torch.zeros(channels, channels, dtype=torch.float64), 0.0
    for _, maps in layer.batches(_BATCH, device):
        x = _vectors(maps[0]) - mean.float().to(device)
        products += (x.T @ x).cpu().double()
        fourth += float(x.square().sum(dim=1).cpu().double().square().sum())
    covariance = products / count
    amount = shrinkage if shrinkage >= 0 else _ledoit_wolf(covariance, fourth / count, count)
    scale = covariance.diagonal().mean()
    return (1 - amount) * covariance + amount * scale * torch.eye(channels, dtype=torch.float64), amount


def _ledoit_wolf(covariance: Tensor, fourth: float, count: int) -> float:
    """Return the shrinkage of Ledoit and Wolf (2004); `fourth` is the mean of |x|^4 over the centered vectors."""
    scale = float(covariance.diagonal().mean())
    squares = float(covariance.square().sum())
    away = squares - len(covariance) * scale**2  # squared distance of S from its target
    noise = (fourth - squares) / count
    return min(1.0, max(0.0, noise / away)) if away > 0 else 1.0


def _distances(layer: Tensor, mean: Tensor, whitening: Tensor) -> Tensor:
    """(B, C, h, w) to the Mahalanobis distances (B, 1, h, w)."""
    distances: Tensor = torch.linalg.vector_norm((_vectors(layer) - mean) @ whitening.T, dim=1)
    return distances.reshape(len(layer), 1, *layer.shape[2:])
