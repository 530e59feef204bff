"""PatchCore (Roth et al., "Towards Total Recall in Industrial Anomaly Detection", CVPR 2022) on any layers.

A patch is the average of a cell's neighborhood (section 3.1). A coreset of the patches of all nominal images is the memory bank
(section 3.2, algorithm 1). A cell's score is the L2 distance of its patch to the nearest patch of the bank (equation 6), in
units of the features: features (N, C, h, w) of the joined layers become patches (N h w, C) and maps (N, h, w).

Deviations from the paper and its official code, for the sake of a study of single layers:
- a patch is the 3 x 3 average of its neighborhood (zero padded) with the layer's own channels. The official adaptive
  pooling to 1024 numbers equals that for 1024 channels only, and mixes or repeats channels elsewhere: distances differ there.
  It is the option `embedding=adaptive`;
- the coreset is the exact greedy one; its random start is part of the bank. The official approximation covers slightly worse;
  it is the option `coreset=approximate`;
- points are projected before the selection only where that shrinks them (paper: always, to 128). With fewer channels the
  selection is then that of the true distances;
- distances are L2 (the official code reports squared L2, the option `squared=true`): cells keep their order, but smoothing
  weighs large ones less;
- the image score is the largest patch distance, as in the official code. The paper's reweighting of it (equation 7) is the
  option `image_score=reweighted`. `image_score=smoothed` is the maximum of the smoothed map on a 256 grid: it depends on more
  than one cell, but keeps 13, 37, 64 and 81 % of a peak of one cell at strides 4, 8, 16 and 32 (256 px), so it favors deep
  layers. `image_score=top1pct` is the mean of the highest 1 % of the patch distances, after AnomalyDINO.

For transformers, `distance=cosine` and `mask=pca` follow AnomalyDINO (Damm et al., "AnomalyDINO: Boosting Patch-based Few-shot
Anomaly Detection with DINOv2", WACV 2025): patches of unit length, the score is half the squared distance, 1 - cosine, and
masked patches score 0. Deviations: smoothing is that of PatchCore (official: 4 px of the original image), and those of the
mask in features/foreground.py. The preset anomalydino has its settings. `normalize=layer` is not published.
"""

import math
from collections.abc import Collection, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from adbench.core.environment import memory_bytes
from adbench.core.errors import DetectorError, UsageError
from adbench.core.registry import match
from adbench.core.threads import workers
from adbench.detectors import Detector, added, register
from adbench.detectors.search import BYTES_PER_POINT, InvertedFile, NearestNeighbors, greedy_coreset, project
from adbench.detectors.search.approximate_coreset import approximate_coreset
from adbench.detectors.search.patches import NUMBERS, adaptive_patches
from adbench.features.anomaly_maps import Smoothing, maxima, resizer
from adbench.features.feature_maps import FeatureMaps, Shape, join, joined_shape
from adbench.features.foreground import foreground
from adbench.types import OnStep, Scores, ignore_step

IMAGE_SCORES = ("patch", "smoothed", "top1pct", "reweighted")
CHOICES = {
    "search": ("exact", "ivf"), "distance": ("l2", "cosine"), "normalize": ("none", "layer"), "mask": ("none", "pca"),
    "embedding": ("channels", "adaptive"), "coreset": ("exact", "approximate"),
}  # fmt: skip
_STARTS = 10  # random points of the approximate coreset
BOUND = 8192  # patches of the bank where many candidates are compared
_TOP_SHARE = 0.01  # of an image's patches behind `top1pct`
_BATCH, _BATCH_BYTES = 16, 1 << 28  # most images whose patches are held at once, and most bytes of these
_SMALL = 1 << 18  # numbers that are averaged faster by one thread than by several
_RECALL_QUERIES = 1024  # training patches on which an approximate search is measured


@register("patchcore")
@dataclass
class PatchCore(Detector):
    """Memory bank of nominal patches; a patch's score is its distance to the nearest of them.

    coreset_fraction: share of the patches kept (1 = all, no selection). coreset_max: at most so many, 0 = no limit.
    projection: dimensions in which the selection measures distances, 0 = all. neighbourhood: side of the average, in
    cells, odd. image_score: patch, smoothed, top1pct or reweighted; the last over the `neighbours` patches of the bank that are
    nearest to the winner (the paper leaves their number open). search: exact, or ivf for banks that are too large for it:
    faiss's inverted file, which finds the nearest patch of most. Its recall on training patches is in the result (ivf_recall).
    distance: l2, or cosine: 1 - cosine of two patches. normalize: layer scales each of several joined layers to a total
    variance of 1 over the training patches, so that all have the same weight; none leaves them as they are. mask: pca scores
    only the part in test images (features/foreground.py), and its background is 0; mask_threshold: in units of the features.
    embedding: channels, or adaptive for the official 1024 numbers. coreset: exact, or approximate for the official selection from
    10 random points. squared: whether distances are squared. All of the official code's are in the preset patchcore-official.
    """

    revision: ClassVar[int] = 2
    smoothing: ClassVar[float] = 4.0

    coreset_fraction: float = 0.1
    coreset_max: int = 0
    projection: int = 128
    neighbourhood: int = 3
    image_score: str = "patch"
    neighbours: int = 9
    search: str = added("exact")
    distance: str = added("l2")
    normalize: str = added("none")
    mask: str = added("none")
    mask_threshold: float = added(10.0)
    embedding: str = added("channels")
    coreset: str = added("exact")
    squared: bool = added(False)
    scales_: tuple[float, ...] = field(default=(), init=False, repr=False)  # of the joined layers; empty without normalize
    bank_: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 0), np.float32), init=False, repr=False)
    ivf_: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False)  # ivf_centers (lists, C), ivf_recall ()
    _index: tuple[torch.device, NearestNeighbors] | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 0 < self.coreset_fraction <= 1:
            raise UsageError(f"patchcore: coreset_fraction={self.coreset_fraction:g} must be above 0 and at most 1")
        if self.neighbourhood < 1 or self.neighbourhood % 2 == 0:
            raise UsageError(f"patchcore: neighbourhood={self.neighbourhood} must be an odd number of cells, e.g. 3")
        self.image_score = match("image_score", self.image_score, IMAGE_SCORES, where=" of patchcore")
        for name, allowed in CHOICES.items():
            setattr(self, name, match(name, getattr(self, name), allowed, where=" of patchcore"))
        if not math.isfinite(self.mask_threshold):
            raise UsageError(f"patchcore: mask_threshold={self.mask_threshold} must be a number, e.g. 10")
        if self.squared and (self.image_score == "reweighted" or self.distance == "cosine"):
            other = "image_score=reweighted" if self.image_score == "reweighted" else "distance=cosine"
            raise UsageError(f"patchcore: squared=true and {other} exclude each other; leave one out")
        if self.embedding == "adaptive" and self.normalize == "layer":
            raise UsageError("patchcore: embedding=adaptive and normalize=layer exclude each other; leave one out")
        for name in ("coreset_max", "projection", "neighbours"):
            if getattr(self, name) < (name == "neighbours"):
                raise UsageError(f"patchcore: {name}={getattr(self, name)} must not be negative (neighbours: at least 1)")

    def bounds(self, given: Collection[str]) -> dict[str, Any]:
        """Return a bound on the bank that hardly moves a ranking of candidates (benchmarks/bank.py)."""
        return {} if {"coreset_fraction", "coreset_max"} & set(given) else {"coreset_max": BOUND}

    def fit(self, features: FeatureMaps, *, device: torch.device, on_step: OnStep = ignore_step) -> "PatchCore":
        """Keep a coreset of all nominal patches; raise DetectorError if they need more memory than this machine has.

        Of many channels only the projected ones are held at once; the patches that are picked are then read again.
        """
        shape = self._patch_shape(features.shapes)
        channels, (count, dim, kept) = shape[0], self._sizes(len(features), shape)
        needed, here = self.memory_bytes(len(features), features.shapes), memory_bytes()
        if needed > here:
            raise DetectorError(
                f"patchcore: {count:,} patches need {needed / 1e9:.1f} GB, this machine has {here / 1e9:.1f} GB; take a deeper "
                "layer, a smaller image_size, fewer images, or a lower projection or coreset_fraction"
            )
        self.scales_ = self._layer_scales(features.watched(on_step, "scaling the layers"))
        note = f"{count:,} patches, {needed / 1e6:,.0f} MB"
        points = self._points(features, dim if kept < count else channels, device, partial(_noted, on_step, note))
        if kept < count:
            picks = self._picks(points, kept, device, partial(_noted, on_step, f"coreset of {count:,} patches"))
            bank = features.watched(on_step, "reading the picked patches")
            points = points[picks] if dim == channels else self._patches_at(bank, picks, device)
        self.bank_, self.ivf_, self._index = points, {}, None
        if self.search == "ivf":
            self._measure_recall(features.watched(on_step, "measuring the recall of the search"), count, device)
        return self

    def _picks(self, points: NDArray[np.float32], kept: int, device: torch.device, on_step: OnStep) -> NDArray[np.int64]:
        """Return the indices (kept,) of the coreset of `points` (N, d)."""
        rng = np.random.default_rng(self.seed)
        if self.coreset == "approximate":
            starts = rng.choice(len(points), min(_STARTS, len(points)), replace=False)
            return approximate_coreset(points, kept, starts, device=device, on_step=on_step)
        return greedy_coreset(points, kept, int(rng.integers(len(points))), device=device, on_step=on_step)

    def _patch_shape(self, shapes: Sequence[Shape]) -> Shape:
        """Return the numbers of a patch, and the finest grid of layers of these shapes."""
        channels, height, width = joined_shape(shapes)
        return (NUMBERS if self.embedding == "adaptive" else channels), height, width

    def _measure_recall(self, features: FeatureMaps, count: int, device: torch.device) -> None:
        """Make the inverted file, and measure it on some of the `count` training patches, drawn by the seed."""
        index = InvertedFile(self.bank_, self.seed)
        drawn = np.random.default_rng(self.seed).choice(count, min(count, _RECALL_QUERIES), replace=False)
        recall = index.recall(torch.from_numpy(self._patches_at(features, drawn, device)))
        self._index = torch.device("cpu"), index
        self.ivf_ = {"ivf_centers": index.centers, "ivf_recall": torch.tensor(recall)}

    def _sizes(self, images: int, shape: Shape) -> tuple[int, int, int]:
        """Return the number of patches, of dimensions that the selection measures in, and of patches that are kept."""
        count = images * shape[1] * shape[2]
        kept = max(1, int(count * self.coreset_fraction))
        return count, min(self.projection or shape[0], shape[0]), min(kept, self.coreset_max or kept)

    def memory_bytes(self, images: int, shapes: Sequence[Shape]) -> int:
        """Return the bytes of the points, of what the selection holds beside them, and of the bank."""
        joined = self._patch_shape(shapes)
        count, dim, kept = self._sizes(images, joined)
        bank = 4 * joined[0] * kept
        selection = (4 * dim + BYTES_PER_POINT) * count + bank if kept < count else bank
        return max(selection, 3 * bank) if self.search == "ivf" else selection

    def score(self, features: FeatureMaps, *, device: torch.device) -> Scores:
        """Return image scores (N,), the patch distances or their squares as maps (N, h, w), and the foreground of a mask."""
        nearest = self._nearest(device)
        _, height, width = features.joined_shape
        images, maps, seen = [], [], []
        for _, layers in features.batches(self._batch_size(features), device):
            patches, part = self._patches(layers), None
            if self.mask == "pca":
                part = foreground(join(layers), self.mask_threshold)
                seen.append(part.cpu().numpy())
            distances, winners = self._distances(nearest, patches, part)
            grid = (distances.square() if self.squared else distances).view(-1, height, width)
            highest = _highest(grid, self.gaussian) if self.image_score == "smoothed" else None  # no wait before it
            maps.append(grid.cpu().numpy())
            if highest is None:
                images.append(self._worst(patches, maps[-1], winners[:, 0], nearest))
            else:
                images.append(highest.cpu().numpy())
        return Scores(np.concatenate(images), np.concatenate(maps), np.concatenate(seen) if seen else None)

    def _distances(self, nearest: NearestNeighbors, patches: Tensor, part: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the distance of each patch (Q, 1) and its winner (Q, 1); both are 0 outside of `part`."""
        if part is None:
            distances, winners = nearest.find(patches)
            return self._scaled(distances), winners
        rows = torch.nonzero(part.flatten())[:, 0]
        found, their = nearest.find(patches[rows])
        distances = torch.zeros(len(patches), 1, device=found.device).index_copy(0, rows.to(found.device), self._scaled(found))
        winners = torch.zeros(len(patches), 1, dtype=torch.int64, device=found.device)
        return distances, winners.index_copy(0, rows.to(found.device), their)

    def _scaled(self, distances: Any) -> Any:
        """Return L2 distances, an array or a tensor, in the detector's own measure: of unit vectors, 1 - cosine = d^2 / 2."""
        return distances * distances / 2 if self.distance == "cosine" else distances

    def _nearest(self, device: torch.device) -> NearestNeighbors:
        """Return the index of the bank; kept for the next call."""
        approximate, bank = self.search == "ivf", self.bank_
        device = device if device.type == "cuda" and not approximate else torch.device("cpu")
        if self._index is None or self._index[0] != device:
            made = (
                InvertedFile(bank, self.seed, self.ivf_["ivf_centers"]) if approximate else NearestNeighbors(bank, device=device)
            )
            self._index = device, made
        return self._index[1]

    def _worst(
        self, patches: Tensor, maps: NDArray[np.float32], winners: Tensor, nearest: NearestNeighbors
    ) -> NDArray[np.float32]:
        """Return the largest distance of each image, reweighted, or the mean of the largest, as `image_score` says.

        patches (B hw, C), their distances as maps (B, h, w), their nearest rows of the bank (B hw,).
        """
        distances = maps.reshape(len(maps), -1)
        if self.image_score == "top1pct":
            count = max(1, int(_TOP_SHARE * distances.shape[1]))
            return np.asarray(np.sort(distances, axis=1)[:, -count:].mean(axis=1), dtype=np.float32)
        rows, worst = np.arange(len(distances)), distances.argmax(axis=1)
        top: NDArray[np.float32] = distances[rows, worst]
        if self.image_score != "reweighted":
            return top
        count = min(self.neighbours, len(self.bank_))
        patch = torch.from_numpy(rows * distances.shape[1] + worst)
        _, around = nearest.query(nearest.bank[winners[patch]], count)  # m* and its neighbors in the bank
        tested = patches[patch].cpu().numpy()
        to_around = self._scaled(np.linalg.norm(tested[:, None] - self.bank_[around], axis=2).astype(np.float64))
        # exp(s*) / sum(exp(d)), written so that nothing overflows
        share = 1 / np.exp(to_around - top[:, None]).sum(axis=1)
        return np.asarray((1 - share) * top, dtype=np.float32)

    def _points(self, features: FeatureMaps, dim: int, device: torch.device, on_step: OnStep) -> NDArray[np.float32]:
        """Return all patches (N h w, dim), projected if they have more channels."""
        _, height, width = features.joined_shape
        points = np.empty((len(features) * height * width, dim), np.float32)
        for rows, patches in self._batches(features, device):
            points[rows.start * height * width : rows.stop * height * width] = project(patches, dim, self.seed)
            on_step(rows.stop, len(features), "")
        return points

    def _patches_at(self, features: FeatureMaps, picks: NDArray[np.int64], device: torch.device) -> NDArray[np.float32]:
        """Return the patches (K, C) with the given numbers (K,)."""
        channels, height, width = self._patch_shape(features.shapes)
        found, order = np.empty((len(picks), channels), np.float32), np.argsort(picks)
        for rows, patches in self._batches(features, device):
            first, stop = rows.start * height * width, rows.stop * height * width
            own = order[slice(*np.searchsorted(picks, (first, stop), sorter=order))]
            found[own] = patches.cpu().numpy()[picks[own] - first]
        return found

    def _batches(self, features: FeatureMaps, device: torch.device) -> Iterator[tuple[slice, Tensor]]:
        """Yield (rows, patches (B h w, C)) of all images."""
        return ((rows, self._patches(layers)) for rows, layers in features.batches(self._batch_size(features), device))

    def _batch_size(self, features: FeatureMaps) -> int:
        numbers = math.prod(features.joined_shape) * (self.neighbourhood**2 if self.embedding == "adaptive" else 1)
        return max(1, min(_BATCH, _BATCH_BYTES // (4 * numbers)))

    def _layer_scales(self, features: FeatureMaps) -> tuple[float, ...]:
        """Return the factor of each layer that gives its patches a total variance of 1; a constant layer keeps its scale."""
        if self.normalize == "none":
            return ()
        moments = [torch.zeros(2, shape[0], dtype=torch.float64) for shape in features.shapes]
        for _, layers in features.batches(self._batch_size(features), torch.device("cpu")):
            for sums, pooled in zip(moments, self._pooled(layers), strict=True):
                values = pooled.double()
                sums += torch.stack([values.sum((0, 2, 3)), values.square().sum((0, 2, 3))])
        means = [sums / (len(features) * math.prod(shape[1:])) for sums, shape in zip(moments, features.shapes, strict=True)]
        variances = [float((mean[1] - mean[0].square()).sum()) for mean in means]
        return tuple(variance**-0.5 if variance > 0 else 1.0 for variance in variances)

    def _patches(self, layers: Sequence[Tensor]) -> Tensor:
        """(B, C_l, h_l, w_l) of each layer to (B h w, C), or (B h w, 1024), of the finest grid; of unit length for the cosine.

        Raise DetectorError for a patch of zeros, which has no cosine.
        """
        if self.embedding == "adaptive":
            patches = adaptive_patches(layers, self.neighbourhood).permute(0, 2, 3, 1).flatten(0, 2)
            return _unit(patches) if self.distance == "cosine" else patches
        small = sum(layer.numel() for layer in layers) < _SMALL
        with workers(layers[0].device, parallel=False) if small else nullcontext():
            pooled = self._pooled(layers)
            if self.scales_:
                pooled = [layer * scale for layer, scale in zip(pooled, self.scales_, strict=True)]
            patches = join(pooled).permute(0, 2, 3, 1).flatten(0, 2)
        return _unit(patches) if self.distance == "cosine" else patches

    def _pooled(self, layers: Sequence[Tensor]) -> list[Tensor]:
        """Return the mean of each cell's neighborhood."""
        side, order = self.neighbourhood, torch.channels_last  # in which torch averages the same bits 5 times as fast
        return [F.avg_pool2d(layer.contiguous(memory_format=order), side, 1, side // 2) for layer in layers]

    def state_dict(self) -> dict[str, Tensor]:
        scales = {"layer_scales": torch.tensor(self.scales_, dtype=torch.float64)} if self.scales_ else {}
        return {"bank": torch.from_numpy(self.bank_)} | self.ivf_ | scales

    def load_state_dict(self, state: dict[str, Tensor]) -> "PatchCore":
        self.bank_, self._index = state["bank"].numpy(), None
        self.scales_ = tuple(state["layer_scales"].tolist()) if "layer_scales" in state else ()
        self.ivf_ = {name: value for name, value in state.items() if name.startswith("ivf_")}
        return self

    def details(self) -> dict[str, object]:
        sizes = {"bank_patches": len(self.bank_), "bank_channels": int(self.bank_.shape[1])}
        return sizes | ({"ivf_recall": round(float(self.ivf_["ivf_recall"]), 4)} if self.ivf_ else {})


def _unit(patches: Tensor) -> Tensor:
    """Return patches (Q, C) divided by their lengths; raise DetectorError for one of zeros."""
    lengths: Tensor = patches.norm(dim=1, keepdim=True)
    if zeros := int((lengths == 0).sum()):
        raise DetectorError(
            f"patchcore: distance=cosine is undefined for patches of zeros, and {zeros:,} of {len(patches):,} are; take "
            "distance=l2 or another layer"
        )
    return patches / lengths


def _highest(maps: Tensor, smoothing: Smoothing) -> Tensor:
    """Return the maximum (B,) of each of the maps (B, h, w), enlarged and smoothed, where they lie."""
    if maps.device.type == "cpu":
        return torch.from_numpy(maxima(maps.numpy(), smoothing))
    size = smoothing.grid(maps.shape[1:])
    sides = zip(maps.shape[1:], size, smoothing.pixels(size), strict=True)
    down, across = (_resizer(*side, maps.device) for side in sides)
    return (down @ (maps @ across.T)).amax((1, 2))


@lru_cache(maxsize=16)
def _resizer(cells: int, pixels: int, sigma: float, device: torch.device) -> Tensor:
    return torch.from_numpy(resizer(cells, pixels, sigma)).to(device)


def _noted(on_step: OnStep, note: str, done: int, total: int, _: str) -> None:
    on_step(done, total, note)
