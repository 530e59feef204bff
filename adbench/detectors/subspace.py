"""Distance from a principal subspace, after SubspaceAD (Lendering et al., "SubspaceAD: Training-Free Few-Shot Anomaly Detection
via Subspace Modeling", CVPR 2026), on any layers.

The patches x (C,) of all cells of all nominal images have the mean mu and the covariance S = U diag(lambda) U^T. The first k
columns of U span the principal subspace, with the smallest k for which lambda_1 + ... + lambda_k reach the share `explained` of
the variance. A cell's score is the squared norm of its residual, |(I - U_k U_k^T)(x - mu)|^2, in squared units of the features,
so that scores compare only within one backbone and layer. An image's score is the mean of the largest 1 % of the pixels
of its map. Features (N, C, h, w) of the joined layers become patches (N h w, C) and maps (N, h, w).

Deviations from the paper and the authors' code:
- `explained` is 0.9 (theirs: 0.99, on the mean of seven blocks of DINOv2-G). In convolutional layers of a few hundred channels,
  0.99 leaves so few directions outside that defects are located less well;
- layers are joined on the finest grid (one of the authors' options; their default, the mean of the layers, needs equal
  channels). The layer with the largest variance dominates the subspace;
- the 1 % are taken on a 256 grid (theirs: 672 px), and maps are smoothed with sigma 4 px there. Their Gaussian has sigma
  4, too, but a kernel of 3 x 3 pixels, which hardly smooths;
- S is formed in one pass over batches, products in float32 and sums in float64 (theirs: two passes in float64);
- no rotated copies of the training images, which belong to the input: see `rotations` of a sweep;
- `whiten` (not published: the authors' option of this name changes no score) divides each direction of the residual by its
  standard deviation: the Mahalanobis distance, squared, in the directions outside the subspace.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adbench.core.errors import DetectorError, UsageError
from adbench.core.registry import match
from adbench.detectors import Detector, register
from adbench.detectors.search import project
from adbench.features.anomaly_maps import maxima, searched
from adbench.features.feature_maps import FeatureMaps, Shape, join, joined_shape
from adbench.types import OnStep, Scores, ignore_step

IMAGE_SCORES = ("top1pct", "max")
_BATCH, _BATCH_BYTES = 16, 1 << 27  # most images whose patches are held at once, and most bytes of these
_FLOOR = 1e-6  # of the mean variance: the least variance by which `whiten` divides
_CANCELS = 0.9  # explained share above which |x|^2 - |U_k^T x|^2 would lose more than four digits


@register("subspace")
@dataclass
class Subspace(Detector):
    """Distance of a patch from the principal subspace of the nominal patches (PCA): no memory bank, no training loop.

    explained: share of the variance inside the subspace. whiten: whether directions outside it count in their standard
    deviations. projection: dimensions of a random projection before, for thousands of channels; 0 = none. image_score:
    top1pct, the mean of the largest 1 % of the map's pixels, or max.
    """

    revision: ClassVar[int] = 1
    smoothing: ClassVar[float] = 4.0

    explained: float = 0.9
    whiten: bool = False
    projection: int = 0
    image_score: str = "top1pct"
    mean_: Tensor = field(default_factory=lambda: torch.empty(0), init=False, repr=False)  # (C,)
    basis_: Tensor = field(default_factory=lambda: torch.empty(0, 0), init=False, repr=False)  # (C, m)
    rank_: int = field(default=0, init=False, repr=False)  # k
    outside_: bool = field(default=True, init=False, repr=False)  # whether the basis spans the complement of the subspace

    def __post_init__(self) -> None:
        if not 0 < self.explained < 1:
            raise UsageError(f"subspace: explained={self.explained:g} must be above 0 and below 1, e.g. 0.9")
        if self.projection < 0:
            raise UsageError(f"subspace: projection={self.projection} must not be negative (0 = none)")
        self.image_score = match("image_score", self.image_score, IMAGE_SCORES, where=" of subspace")

    def unsupported(self, shapes: Sequence[Shape]) -> str | None:
        """Return the reason if there is one dimension, beside which no direction is left."""
        dims = self._dims(sum(shape[0] for shape in shapes))
        return None if dims >= 2 else f"a subspace needs at least 2 dimensions, the features have {dims}"

    def memory_bytes(self, images: int, shapes: Sequence[Shape]) -> int:
        """Return the bytes of the covariance, its eigenvectors and the solver's workspace, and of a batch."""
        shape = joined_shape(shapes)
        return 6 * 8 * self._dims(shape[0]) ** 2 + 4 * 4 * min(images, _images(shape)) * math.prod(shape)

    def fit(self, features: FeatureMaps, *, device: torch.device, on_step: OnStep = ignore_step) -> "Subspace":
        """Estimate mean and covariance in one pass over the images, then the eigenvectors."""
        mean, covariance = self._moments(features.watched(on_step, "covariance"), device)
        variances, vectors = torch.linalg.eigh(covariance)
        variances, vectors = variances.flip(0).clamp(min=0), vectors.flip(1)
        if variances[0] <= 0:
            raise DetectorError("subspace: the features do not vary at all; take another layer")
        shares = variances.cumsum(0) / variances.sum()
        dims = len(variances)
        self.mean_, self.rank_ = mean.float(), min(int((shares < self.explained).sum()) + 1, dims - 1)
        self.outside_ = self.whiten or self.explained > _CANCELS or dims - self.rank_ <= self.rank_
        basis = vectors[:, self.rank_ :] if self.outside_ else vectors[:, : self.rank_]
        if self.whiten:
            basis = basis / variances[self.rank_ :].clamp(min=_FLOOR * float(variances.mean())).sqrt()
        self.basis_ = basis.float().contiguous()
        return self

    def score(self, features: FeatureMaps, *, device: torch.device) -> Scores:
        """Return image scores (N,) and the squared residuals as maps (N, h, w)."""
        mean, basis = self.mean_.to(device), self.basis_.to(device)
        maps = np.concatenate([self._residuals(x - mean, basis).cpu().numpy() for x in self._batches(features, device)])
        grids = maps.reshape(len(features), *features.joined_shape[1:])
        return Scores(self._image_scores(grids), grids)

    def _residuals(self, x: Tensor, basis: Tensor) -> Tensor:
        """Return the squared residuals (n,) of centered patches (n, C): one product with the smaller of the two bases."""
        inside = (x @ basis).square().sum(dim=1)
        return inside if self.outside_ else (x.square().sum(dim=1) - inside).clamp(min=0)

    def _image_scores(self, maps: NDArray[np.float32]) -> NDArray[np.float32]:
        if self.image_score == "max":
            return maxima(maps, self.gaussian)
        pixels = searched(maps, self.gaussian).reshape(len(maps), -1)
        count = pixels.shape[1] // 100
        largest: NDArray[np.float32] = np.partition(pixels, -count, axis=1)[:, -count:].mean(axis=1)
        return largest

    def _moments(self, features: FeatureMaps, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return the mean (C,) and the covariance (C, C), n - 1 in its denominator, in float64.

        Sums are taken about the mean of the first batch, so that nothing cancels where means are large.
        """
        shift, count = torch.empty(0), 0
        dims = self._dims(features.joined_shape[0])
        total, products = torch.zeros(dims, dtype=torch.float64), torch.zeros(dims, dims, dtype=torch.float64)
        for patches in self._batches(features, device):
            if count == 0:
                shift = patches.mean(dim=0)
            x = patches - shift
            total += x.sum(dim=0).cpu().double()
            products += (x.T @ x).cpu().double()
            count += len(x)
        offset = total / count
        return shift.cpu().double() + offset, (products - count * torch.outer(offset, offset)) / max(1, count - 1)

    def _batches(self, features: FeatureMaps, device: torch.device) -> Iterator[Tensor]:
        """Yield the patches (B h w, C) of all images, projected if `projection` says so."""
        for _, layers in features.batches(_images(features.joined_shape), device):
            patches = join(layers).permute(0, 2, 3, 1).flatten(0, 2)
            yield torch.from_numpy(project(patches, self.projection, self.seed)).to(device) if self.projection else patches

    def _dims(self, channels: int) -> int:
        return min(self.projection or channels, channels)

    def state_dict(self) -> dict[str, Tensor]:
        facts = torch.tensor([self.rank_, int(self.outside_)])
        return {"mean": self.mean_, "basis": self.basis_, "rank_and_side": facts}

    def load_state_dict(self, state: dict[str, Tensor]) -> "Subspace":
        self.mean_, self.basis_ = state["mean"], state["basis"]
        rank, outside = state["rank_and_side"].tolist()
        self.rank_, self.outside_ = rank, bool(outside)
        return self

    def details(self) -> dict[str, object]:
        return {"components": self.rank_, "dimensions": len(self.mean_)}


def _images(shape: Shape) -> int:
    """Return how many images' patches are held at once."""
    return max(1, min(_BATCH, _BATCH_BYTES // (4 * math.prod(shape))))
