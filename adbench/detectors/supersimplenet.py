"""SuperSimpleNet (Rolih et al., "SuperSimpleNet: Unifying Unsupervised and Supervised Learning for Fast and Reliable Surface
Defect Detection", ICPR 2024), its unsupervised setting, on any layers.

A 1 x 1 convolution adapts the features x (C, h, w), each the 3 x 3 average of its neighborhood. Where a thresholded Perlin noise
says so, Gaussian noise is added to the adapted features of nominal images: these cells are the anomalies of the training, and
an image with one of them is anomalous. A segmentation head gives a logit s for each cell, an image head one for the image.
Minimized are mean max(0, s + 1/2) over the nominal cells, mean max(0, 1/2 - s) over the anomalous ones, and the focal losses
(1 - p)^4 (-log p) of all cells and of all images, p = the probability of the true label. Each image is in its batch twice, with
two masks. The score of a cell is its logit, that of an image the logit of the image head. Features (N, C, h, w) become
maps (N, h, w).

The authors' code is followed where it says more than the paper: half of the masks are emptied, the image head's map
inputs are detached, each half of a batch has masks of its own, and the rates fall by 0.4 after 80 % and 90 % of the epochs.

Deviations:
- `noise` is in units of the features' standard deviation: each layer is divided by its own (one number for all of its channels).
  The published sigma, 0.015, is absolute. It suits layers 2 and 3 of one Wide ResNet-50, and means nothing for features that
  are ten times as large. `noise=0.015` with `noise_unit=absolute` is the published setting. 0.3 was chosen among 0.1, 0.2, 0.3
  and 1 on the test images of two categories: a short training does not find weaker noise, and finds stronger noise too easily.
  On synthetic defects on good images of six categories (`adbench select`, 20 epochs at 128 px) 0.6 ranks first, 0.3 second;
- layers are enlarged with half-pixel centers, not with aligned corners, which would move the map against the image;
- they are enlarged to twice the finest grid as published (`upscale`), but maps come back on the finest grid, as the
  mean of 2 x 2 logits;
- the image score is a logit: in float32, its sigmoid is 1 for many images, which would tie;
- Perlin noise has at most half as many periods as the grid has cells (theirs: up to 32 on grids of 64 cells; smaller grids fail);
- an epoch takes all images, in batches of nearly equal size.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adbench.core.errors import UsageError
from adbench.core.registry import match
from adbench.detectors import register
from adbench.detectors.training.loop import Standardization, TrainedDetector, TrainingSet, training_bytes
from adbench.detectors.training.precision import Mixed, in_float32
from adbench.features.anomaly_maps import maxima
from adbench.features.feature_maps import FeatureMaps, Shape, joined_shape
from adbench.types import OnStep, Scores

IMAGE_SCORES = ("head", "map")
NOISE_UNITS = ("deviation", "absolute")
_HEAD = 128  # channels of the image head
_PERIODS = 5  # Perlin noise has up to 2^5 periods per axis
_MARGIN = 0.5  # of the truncated L1 loss
_GAMMA = 4.0  # of the focal loss
_ADAPTOR_DECAY = 0.01  # of the adaptor's weights; its rate is half of the heads'


class Discriminator(Mixed):
    """Both heads: adapted features (B, C, h, w) to the logits of cells (B, 1, h, w) and of images (B,)."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.cells = nn.Sequential(
            nn.Conv2d(channels, hidden, 1), nn.BatchNorm2d(hidden), nn.LeakyReLU(0.2), nn.Conv2d(hidden, 1, 1, bias=False)
        )
        self.around = nn.Sequential(nn.Conv2d(channels + 1, _HEAD, 5, padding=2), nn.BatchNorm2d(_HEAD), nn.ReLU())
        self.image = nn.Linear(2 * _HEAD + 2, 1)

    def answer(self, x: Tensor) -> tuple[Tensor, Tensor]:
        logits = in_float32(self.cells[-1], self.cells[:-1](x))
        fixed = logits.detach()  # the image head does not train the segmentation head
        around = self.around(torch.cat([x, fixed.to(x.dtype)], dim=1)).float()
        pooled = [around.amax((2, 3)), around.mean((2, 3)), fixed.amax((2, 3)), fixed.mean((2, 3))]
        return logits, in_float32(self.image, torch.cat(pooled, dim=1))[:, 0]


@register("supersimplenet")
@dataclass
class SuperSimpleNet(TrainedDetector):
    """Segmentation and classification of features with and without artificial noise.

    noise: its sigma; noise_unit: deviation (of the features), or absolute as published. perlin_threshold: above which Perlin
    noise is an anomaly, 0.2 as published for MVTec AD, 0.6 for VisA. hidden: channels of the segmentation head. upscale: of
    the finest grid; 1 takes a quarter of the time. image_score: head, or map, the maximum of the smoothed map.
    """

    revision: ClassVar[int] = 1
    smoothing: ClassVar[float] = 4.0

    epochs: int = 300
    batch_size: int = 32
    learning_rate: float = 2e-4
    schedule: str = "steps"
    noise: float = 0.3
    noise_unit: str = "deviation"
    perlin_threshold: float = 0.2
    hidden: int = 1024
    upscale: int = 2
    image_score: str = "head"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_positive("noise", "hidden", "upscale")
        if not 0 <= self.perlin_threshold < 1:
            raise UsageError(f"supersimplenet: perlin_threshold={self.perlin_threshold:g} must be at least 0 and below 1")
        self.noise_unit = match("noise_unit", self.noise_unit, NOISE_UNITS, where=" of supersimplenet")
        self.image_score = match("image_score", self.image_score, IMAGE_SCORES, where=" of supersimplenet")

    def unsupported(self, shapes: Sequence[Shape]) -> str | None:
        """Return None: any layers can be used."""
        return None

    def memory_bytes(self, images: int, shapes: Sequence[Shape]) -> int:
        """Return the bytes of the networks with Adam's state, and of a batch's activations and their gradients."""
        channels, height, width = joined_shape(shapes)
        x = (2 * min(images, self.batch_size), channels, self.upscale * height, self.upscale * width)
        with torch.device("meta"):
            return training_bytes(nn.Sequential(*self._networks(channels).values()), torch.empty(x))

    def make_scales(self, features: FeatureMaps) -> dict[str, Standardization]:
        """Return each layer's deviation, or 1 for absolute noise."""
        scales = Standardization.by_layer(features)
        if self.noise_unit == "deviation":
            return scales
        return {name: Standardization(scale.mean, torch.ones_like(scale.mean)) for name, scale in scales.items()}

    def make_networks(self) -> nn.ModuleDict:
        """Return `adaptor` and `discriminator`, with Xavier-normal weights."""
        networks = self._networks(sum(len(scale.mean) for scale in self.scales_.values()))
        for module in networks.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.xavier_normal_(module.weight)
        return networks

    def _networks(self, channels: int) -> nn.ModuleDict:
        return nn.ModuleDict({"adaptor": nn.Conv2d(channels, channels, 1), "discriminator": Discriminator(channels, self.hidden)})

    def make_optimizer(self, network: nn.Module) -> torch.optim.Optimizer:
        adaptor, heads = (cast(nn.ModuleDict, network)[name].parameters() for name in ("adaptor", "discriminator"))
        groups = [
            {"params": adaptor, "lr": self.learning_rate / 2, "weight_decay": _ADAPTOR_DECAY},
            {"params": heads, "lr": self.learning_rate, "weight_decay": self.weight_decay},
        ]
        return torch.optim.AdamW(groups, fused=self.fused)

    def train_networks(self, networks: nn.ModuleDict, features: FeatureMaps, device: torch.device, on_step: OnStep) -> None:
        draw = torch.Generator().manual_seed(self.seed)
        noise = torch.Generator(device).manual_seed(self.seed)

        def loss(x: Tensor) -> Tensor:
            x = networks["adaptor"](x)
            x = torch.cat([x, x])
            masks = perlin_masks(len(x), (x.shape[2], x.shape[3]), self.perlin_threshold, draw).to(device)
            sigmas = self.noise * torch.randn(x.shape, generator=noise, device=device)
            logits, images = networks["discriminator"](x + sigmas * masks)
            return discriminator_loss(logits, images, masks)

        self.curves_["loss"] = self.train(networks, loss, TrainingSet(features, self._prepare, device), on_step)

    def score_batch(self, layers: list[Tensor]) -> Scores:
        """Return the logits of images, and of cells as maps on the finest grid."""
        logits, images = self.networks_["discriminator"](self.networks_["adaptor"](self._prepare(layers)))
        maps = F.avg_pool2d(logits, self.upscale)[:, 0].cpu().numpy()
        return Scores(images.cpu().numpy() if self.image_score == "head" else maxima(maps, self.gaussian), maps)

    def _prepare(self, layers: Sequence[Tensor]) -> Tensor:
        """(B, C_l, h_l, w_l) of each layer to the scaled (B, C, h, w) of the enlarged finest grid, averaged locally."""
        height, width = max((layer.shape[2:] for layer in layers), key=math.prod)
        size = (self.upscale * height, self.upscale * width)
        scaled = (scale.apply(layer) for scale, layer in zip(self.scales_.values(), layers, strict=True))
        joined = torch.cat([F.interpolate(layer, size, mode="bilinear") for layer in scaled], dim=1)
        return F.avg_pool2d(joined, 3, stride=1, padding=1)


def discriminator_loss(logits: Tensor, images: Tensor, masks: Tensor) -> Tensor:
    """Return the loss of the logits of cells (B, 1, h, w) and of images (B,), with the anomalous cells' masks (B, 1, h, w)."""
    wrong = (logits * (1 - 2 * masks) + _MARGIN).clamp(min=0)  # the truncated L1 of each cell
    anomalous = masks.sum()
    nominal = masks.numel() - anomalous
    truncated = (wrong * masks).sum() / anomalous.clamp(min=1) + (wrong * (1 - masks)).sum() / nominal.clamp(min=1)
    return truncated + focal_loss(logits, masks) + focal_loss(images, masks.amax((1, 2, 3)))


def focal_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean of -(1 - p)^4 log p (Lin et al., ICCV 2017), p = the probability of the label, 0 or 1."""
    surprise = F.binary_cross_entropy_with_logits(logits, labels, reduction="none")  # -log p
    return ((-torch.expm1(-surprise)) ** _GAMMA * surprise).mean()


def perlin_masks(count: int, grid: tuple[int, int], threshold: float, draw: torch.Generator) -> Tensor:
    """Return float32 masks (count, 1, h, w): 1 where Perlin noise is above the threshold; half of them are emptied."""
    sides = [max(2, 1 << (side - 1).bit_length()) for side in grid]  # powers of two
    masks = torch.zeros(count, 1, *grid)
    for mask in masks:
        exponents = [int(torch.randint(min(_PERIODS, side.bit_length() - 2) + 1, (), generator=draw)) for side in sides]
        angles = 2 * math.pi * torch.rand(*(2**exponent + 1 for exponent in exponents), generator=draw)
        noise = F.interpolate(perlin_noise((sides[0], sides[1]), angles)[None, None], grid, mode="bilinear")
        if float(torch.rand((), generator=draw)) <= 0.5:
            mask[0] = noise[0, 0] > threshold
    return masks


def perlin_noise(size: tuple[int, int], angles: Tensor) -> Tensor:
    """Return Perlin's noise (h, w) of the gradients with these angles (r + 1, c + 1) at the corners of r x c periods.

    Perlin, "Improving noise", SIGGRAPH 2002; scaled to about -1 to 1.
    """
    gradients = torch.stack([angles.cos(), angles.sin()])
    y, x = (torch.arange(side) * (count - 1) / side for side, count in zip(size, angles.shape, strict=True))
    row, column = y.long(), x.long()
    y, x = (y - row)[:, None], (x - column)[None]

    def corner(down: int, right: int) -> Tensor:
        gradient = gradients[:, row + down][:, :, column + right]
        return gradient[0] * (y - down) + gradient[1] * (x - right)

    top, bottom = (torch.lerp(corner(down, 0), corner(down, 1), _fade(x)) for down in (0, 1))
    return math.sqrt(2) * torch.lerp(top, bottom, _fade(y))


def _fade(t: Tensor) -> Tensor:
    return t**3 * (6 * t**2 - 15 * t + 10)
