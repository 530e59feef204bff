"""PaDiM (Defard et al., "PaDiM: a Patch Distribution Modeling Framework", ICPR 2020 workshops) on any layers.

One Gaussian for each cell p of the grid, over the N nominal images (section III-B); a cell's score is the Mahalanobis
distance M(x_p) = sqrt((x_p - mu_p)^T S_p^-1 (x_p - mu_p)) (equation 2), in standard deviations. Several layers are joined on
the finest grid and `channels` of all their channels are drawn at random once, by the seed (section III-A). Features (N, C, h, w)
become vectors (N, P = h w, d) and maps (N, h, w).

Deviations, for the sake of a study of single layers:
- the paper adds 0.01 to the diagonal of S_p; here `shrinkage` * v with v = the mean variance over all cells and
  channels of the layer, so that the regularization means the same for layers whose scales differ by orders. At the default
  `shrinkage` of 0.01 the two agree where v is 1: a layer of smaller values is regularized less than in the paper;
- 100 channels are drawn by default, whatever the network: the paper's number for ResNet-18. For Wide ResNet-50 it draws 550:
  there, 100 give lower scores; set channels=550;
- layers are resized bilinearly before they are joined (official code: nearest): coarse layers give smoother maps;
- the image score is the maximum of the smoothed map on a 256 grid, as the public code takes it; the paper's is the
  maximum of the map, which depends on one cell.
Parts must lie at the same place in every image: a cell is compared with no other cell.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adbench.core.errors import UsageError
from adbench.detectors import Detector, inverse_factor, register
from adbench.features.anomaly_maps import maxima
from adbench.features.feature_maps import FeatureMaps, Shape, join
from adbench.types import OnStep, Scores, ignore_step

_BATCH = 16  # images read at once
_CELLS = 256  # cells whose covariances are held in float64 at once
_LIMIT_GB = 4.0  # of all cells' covariances


@register("padim")
@dataclass
class Padim(Detector):
    """One Gaussian per cell of the grid.

    channels: how many are drawn at random (paper: 100 for ResNet-18, 550 for Wide ResNet-50), 0 = all. shrinkage: of
    the covariances, as a share of the layer's mean variance.
    """

    smoothing: ClassVar[float] = 4.0

    channels: int = 100
    shrinkage: float = 0.01
    subset_: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64), init=False, repr=False)
    mean_: Tensor = field(default_factory=lambda: torch.empty(0), init=False, repr=False)  # (P, d)
    whitening_: Tensor = field(default_factory=lambda: torch.empty(0), init=False, repr=False)  # (P, d, d)

    def __post_init__(self) -> None:
        if self.channels < 0:
            raise UsageError(f"padim: channels={self.channels} must not be negative (0 = all)")
        if self.shrinkage <= 0:
            raise UsageError(f"padim: shrinkage={self.shrinkage:g} must be above 0, e.g. 0.01")

    def unsupported(self, shapes: Sequence[Shape]) -> str | None:
        """Return the reason if the covariances need more than 4 GB."""
        cells = max(height * width for _, height, width in shapes)
        kept = self._kept(sum(shape[0] for shape in shapes))
        size = cells * kept**2 * 4 / 1e9
        if size <= _LIMIT_GB:
            return None
        return f"{cells} covariances of {kept} x {kept} need {size:.1f} GB (limit {_LIMIT_GB:g}); lower the parameter channels"

    def fit(self, features: FeatureMaps, *, device: torch.device, on_step: OnStep = ignore_step) -> "Padim":
        """Estimate each cell's mean and covariance; keep the inverse Cholesky factor L^-1 of the latter."""
        channels = features.joined_shape[0]
        drawn = np.random.default_rng(self.seed).permutation(channels)[: self._kept(channels)]
        self.subset_ = torch.from_numpy(np.sort(drawn).astype(np.int64))
        vectors = self._vectors(features)
        means = vectors.mean(axis=0, dtype=np.float64)
        ridge = self.shrinkage * max(float(vectors.var(axis=0, dtype=np.float64).mean()), 1e-12)
        cells, kept = means.shape
        self.mean_ = torch.from_numpy(means.astype(np.float32))
        self.whitening_ = torch.empty(cells, kept, kept)
        for start in range(0, cells, _CELLS):
            chosen = slice(start, start + _CELLS)
            x = torch.from_numpy(vectors[:, chosen] - means[chosen]).transpose(0, 1)
            self.whitening_[chosen] = inverse_factor(x.mT @ x / max(1, x.shape[1] - 1), ridge)
            on_step(min(start + _CELLS, cells), cells, "covariances")
        return self

    def score(self, features: FeatureMaps, *, device: torch.device) -> Scores:
        """Return image scores (N,) and the Mahalanobis distances of the cells as maps (N, h, w)."""
        _, height, width = features.joined_shape
        mean, whitening = self.mean_.to(device), self.whitening_.to(device)
        maps = []
        for _, batch in self._batches(features, device):  # (P, d, B): one matrix product per cell
            distances = (whitening @ (batch - mean[:, None]).transpose(1, 2)).norm(dim=1)
            maps.append(distances.T.reshape(-1, height, width).cpu().numpy())
        whole = np.concatenate(maps)
        return Scores(maxima(whole, self.gaussian), whole)

    def _kept(self, channels: int) -> int:
        return min(self.channels or channels, channels)

    def _batches(self, features: FeatureMaps, device: torch.device) -> Iterator[tuple[slice, Tensor]]:
        """Yield (rows, vectors (P, B, d)) of the drawn channels."""
        subset = self.subset_.to(device)
        for rows, layers in features.batches(_BATCH, device):
            yield rows, join(layers).index_select(1, subset).flatten(2).permute(2, 0, 1)

    def _vectors(self, features: FeatureMaps) -> NDArray[np.float32]:
        """Return the drawn channels of all images, (N, P, d)."""
        _, height, width = features.joined_shape
        vectors = np.empty((len(features), height * width, len(self.subset_)), np.float32)
        for rows, batch in self._batches(features, torch.device("cpu")):
            vectors[rows] = batch.transpose(0, 1).numpy()
        return vectors

    def state_dict(self) -> dict[str, Tensor]:
        return {"subset": self.subset_, "mean": self.mean_, "whitening": self.whitening_}

    def load_state_dict(self, state: dict[str, Tensor]) -> "Padim":
        self.subset_, self.mean_, self.whitening_ = state["subset"], state["mean"], state["whitening"]
        return self

    def details(self) -> dict[str, object]:
        return {"gaussians": len(self.mean_), "channels_kept": len(self.subset_)}
