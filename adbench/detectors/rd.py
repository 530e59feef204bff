"""Reverse distillation (Deng et al., "Anomaly Detection via Reverse Distillation from One-Class Embedding", CVPR 2022) on joined
layers of two or more strides.

The backbone's features x_l (C_l, h_l, w_l) are the teacher's. Fusion: 3 x 3 convolutions of stride 2 bring the finer layers to
the coarsest grid, where all are concatenated. One-class embedding: residual bottleneck blocks, the first of stride 2, compress
that to a code. A decoder of such blocks, whose first ones enlarge by transposed convolutions, rebuilds the layers y_l from the
code, from the coarsest to the finest. Trained on nominal images, it cannot rebuild what it never saw. Minimized is the sum
over layers of 1 - cos(x_l, y_l); the score of a cell is the sum over layers of 1 - cos(x_l, y_l) at its location, resized to the
finest grid; that of an image the maximum of the smoothed map. Features of N images become maps (N, h, w).

`loss=flattened` takes one cosine of all C_l h_l w_l numbers of a layer, as the authors' code does; `loss=cells` the mean of
the locations' cosines, as the paper writes it (equation 2). They differ where norms differ between locations.

Deviations:
- each layer is divided by its standard deviation, one number for all of its channels: cosines stay, and the fusion does not
  depend on the scale of the coarsest layer, the only one that enters it without a normalization;
- a layer with negative values (all but those behind a ReLU) is rebuilt without a final ReLU, which could not reach them;
- any two or more strides: n halvings between grids are n convolutions or n enlarging blocks, with channels in geometric
  progression (the published ones, for theirs); odd grids are met by bilinear resizing. A stage has 3, 4, 6, 6 ... blocks,
  the coarsest first, as published for three layers. Layers of one grid are concatenated;
- blocks have half of their output's channels inside, as in the published Wide ResNet-50 (`hidden_ratio`);
- layers' maps are added on the finest grid, not at the image's size, and resized with half-pixel centers;
- an epoch takes all images, in batches of nearly equal size.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import ClassVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from adbench.core.errors import DetectorError
from adbench.core.registry import match
from adbench.detectors import register
from adbench.detectors.training.loop import Standardization, TrainedDetector, TrainingSet, training_bytes
from adbench.detectors.training.precision import Mixed
from adbench.features.anomaly_maps import maxima
from adbench.features.feature_maps import FeatureMaps, Shape, join
from adbench.types import OnStep, ignore_step

LOSSES = ("flattened", "cells")
_EMBEDDING_BLOCKS = 3
_DECODER_BLOCKS = (3, 4, 6)  # of the stages, the coarsest first; further stages have as many as the last
_BETAS = (0.5, 0.999)  # of Adam


class Block(Mixed):
    """Residual bottleneck block: (B, inputs, h, w) to (B, outputs, h, w), half or twice the height and width."""

    def __init__(self, inputs: int, outputs: int, hidden: int, resize: str = "", rectified: bool = True) -> None:
        super().__init__()
        self.rectified = rectified
        self.main = nn.Sequential(
            nn.Conv2d(inputs, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU(),
            _resizing(hidden, hidden, 3, resize), nn.BatchNorm2d(hidden), nn.ReLU(),
            nn.Conv2d(hidden, outputs, 1, bias=False), nn.BatchNorm2d(outputs),
        )  # fmt: skip
        same = not resize and inputs == outputs
        self.short = nn.Sequential() if same else nn.Sequential(_resizing(inputs, outputs, 1, resize), nn.BatchNorm2d(outputs))

    def answer(self, x: Tensor) -> Tensor:
        y: Tensor = self.main(x) + self.short(x)
        return F.relu(y) if self.rectified else y


def _resizing(inputs: int, outputs: int, kernel: int, resize: str) -> nn.Module:
    """Return a convolution that keeps the grid, halves it (down) or doubles it (up)."""
    if resize == "up":
        return nn.ConvTranspose2d(inputs, outputs, 2, 2, bias=False)
    return nn.Conv2d(inputs, outputs, kernel, 2 if resize == "down" else 1, kernel // 2, bias=False)


class Student(Mixed):
    """Fusion, one-class embedding and decoder: layers (B, C_l, h_l, w_l), finest first, to the rebuilt ones.

    shapes: (C_l, h_l, w_l) of the layers. rectified: whether the layer has no negative values.
    """

    def __init__(self, shapes: Sequence[Shape], rectified: Sequence[bool], hidden_ratio: float) -> None:
        super().__init__()
        self.grids = [shape[1:] for shape in shapes]
        last = shapes[-1][0]
        self.fusion = nn.ModuleList(_reduction(shape, shapes[-1]) for shape in shapes[:-1])

        def block(inputs: int, outputs: int, resize: str = "", rectified: bool = True) -> Block:
            return Block(inputs, outputs, max(1, round(hidden_ratio * outputs)), resize, rectified)

        code = 2 * last
        further = (block(code, code) for _ in range(_EMBEDDING_BLOCKS - 1))
        self.embedding = nn.Sequential(block(len(shapes) * last, code, "down"), *further)
        self.decoder, inputs, halvings = nn.ModuleList(), code, 1
        for index, (shape, positive) in enumerate(zip(shapes[::-1], rectified[::-1], strict=True)):
            if index:
                halvings = _halvings(shape, shapes[::-1][index - 1])
            steps = _progression(inputs, shape[0], halvings)
            stage = [block(a, b, "up") for a, b in zip([inputs, *steps], steps, strict=False)]
            count = _DECODER_BLOCKS[min(index, len(_DECODER_BLOCKS) - 1)]
            stage += [block(shape[0], shape[0]) for _ in range(max(0, count - halvings))]
            stage[-1].rectified = positive
            self.decoder.append(nn.Sequential(*stage))
            inputs = shape[0]
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def answer(self, layers: Sequence[Tensor]) -> list[Tensor]:
        fused = [_fit(reduce(x), self.grids[-1]) for reduce, x in zip(self.fusion, layers, strict=False)]
        x = self.embedding(torch.cat([*fused, layers[-1]], dim=1))
        rebuilt = []
        for stage, grid in zip(self.decoder, self.grids[::-1], strict=True):
            x = _fit(stage(x), grid)
            rebuilt.append(x)
        return rebuilt[::-1]


def _reduction(fine: Shape, coarse: Shape) -> nn.Sequential:
    """Return the convolutions that bring a layer to the channels and the grid of the coarsest one."""
    steps = _progression(fine[0], coarse[0], _halvings(fine, coarse))
    parts: list[nn.Module] = []
    for inputs, outputs in zip([fine[0], *steps], steps, strict=False):
        parts += [_resizing(inputs, outputs, 3, "down"), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*parts)


def _halvings(fine: Shape, coarse: Shape) -> int:
    return max(1, round(math.log2(math.prod(fine[1:]) / math.prod(coarse[1:])) / 2))


def _progression(first: int, last: int, count: int) -> list[int]:
    """Return `count` numbers in geometric progression after `first`, up to `last`."""
    return [round(first * (last / first) ** (step / count)) for step in range(1, count + 1)]


def _fit(x: Tensor, grid: tuple[int, int]) -> Tensor:
    return x if x.shape[2:] == grid else F.interpolate(x, grid, mode="bilinear")


@register("rd")
@dataclass
class RD(TrainedDetector):
    """Reverse distillation: a decoder rebuilds layers of two or more strides from a code that only good images fit.

    loss: flattened or cells, the layer's cosines that are trained. hidden_ratio: channels inside a block over its outputs.
    """

    revision: ClassVar[int] = 1
    smoothing: ClassVar[float] = 4.0

    epochs: int = 200
    batch_size: int = 16
    learning_rate: float = 0.005
    weight_decay: float = 0.0
    loss: str = "flattened"
    hidden_ratio: float = 0.5
    shapes_: tuple[Shape, ...] = field(default=(), init=False, repr=False)  # of the joined layers
    rectified_: tuple[bool, ...] = field(default=(), init=False, repr=False)  # of each grid, the finest first

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_positive("hidden_ratio")
        self.loss = match("loss", self.loss, LOSSES, where=" of rd")

    def unsupported(self, shapes: Sequence[Shape]) -> str | None:
        """Return the reason if the layers have one stride."""
        grids = list(_by_grid(shapes))
        if len(grids) > 1 and all(math.prod(fine) >= 2 * math.prod(coarse) for fine, coarse in pairwise(grids)):
            return None
        shown = " and ".join(f"{height}x{width}" for height, width in grids)
        return f"reverse distillation needs layers of two or more strides, a factor of 2 or more apart; the grids are {shown}"

    def memory_bytes(self, images: int, shapes: Sequence[Shape]) -> int:
        """Return the bytes of the network with Adam's state, and of a batch's activations and their gradients."""
        grouped = _grouped(shapes)
        with torch.device("meta"):
            student = Student(grouped, [True] * len(grouped), self.hidden_ratio)
            return training_bytes(student, [torch.empty(min(images, self.batch_size), *shape) for shape in grouped])

    def fit(self, features: FeatureMaps, *, device: torch.device, on_step: OnStep = ignore_step) -> "RD":
        """Train the student on nominal images."""
        self.shapes_, fewest = features.shapes, min(map(len, self._batches(len(features), torch.Generator())))
        if fewest == 1 and math.prod(_grouped(self.shapes_)[-1][1:]) <= 4:
            raise DetectorError(f"rd: a batch of one image has one cell in the code; take a batch_size above {self.batch_size}, "
                                "more images or a larger image_size")  # fmt: skip
        first = features.part(slice(0, 16))
        positive = [bool((layer >= 0).all()) for layer in first.layers]
        self.rectified_ = tuple(all(positive[i] for i in members) for members in _by_grid(self.shapes_).values())
        super().fit(features, device=device, on_step=on_step)
        return self

    def make_scales(self, features: FeatureMaps) -> dict[str, Standardization]:
        return Standardization.by_layer(features)

    def make_networks(self) -> nn.ModuleDict:
        """Return `student`."""
        return nn.ModuleDict({"student": Student(_grouped(self.shapes_), self.rectified_, self.hidden_ratio)})

    def make_optimizer(self, network: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.Adam(
            network.parameters(), self.learning_rate, _BETAS, weight_decay=self.weight_decay, fused=self.fused
        )

    def train_networks(self, networks: nn.ModuleDict, features: FeatureMaps, device: torch.device, on_step: OnStep) -> None:
        student = networks["student"]

        def loss(layers: list[Tensor]) -> Tensor:
            return distillation_loss(layers, student(layers), self.loss)

        self.curves_["loss"] = self.train(student, loss, TrainingSet(features, self._prepare, device), on_step)

    def score_maps(self, layers: list[Tensor]) -> Tensor:
        """Return the sum of the grids' maps 1 - cos, on the finest grid."""
        given = self._prepare(layers)
        pairs = zip(given, self.networks_["student"](given), strict=True)
        return join([1 - F.cosine_similarity(x, y)[:, None] for x, y in pairs]).sum(dim=1)

    def score_images(self, maps: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the maxima (N,) of the smoothed maps."""
        return maxima(maps, self.gaussian)

    def _prepare(self, layers: Sequence[Tensor]) -> list[Tensor]:
        """Return the maps of each grid, the finest first, scaled; layers of one grid are concatenated."""
        scaled = [scale.apply(layer) for scale, layer in zip(self.scales_.values(), layers, strict=True)]
        return [torch.cat([scaled[i] for i in members], dim=1) for members in _by_grid(self.shapes_).values()]

    def state_dict(self) -> dict[str, Tensor]:
        return super().state_dict() | {"shapes": torch.tensor(self.shapes_), "rectified": torch.tensor(self.rectified_)}

    def load_state_dict(self, state: dict[str, Tensor]) -> "RD":
        self.shapes_ = tuple(cast(Shape, tuple(shape)) for shape in state["shapes"].tolist())
        self.rectified_ = tuple(state["rectified"].tolist())
        super().load_state_dict(state)
        return self


def distillation_loss(given: Sequence[Tensor], rebuilt: Sequence[Tensor], loss: str) -> Tensor:
    """Return the sum over layers (B, C_l, h_l, w_l) of the mean 1 - cosine."""
    start = 1 if loss == "flattened" else 2
    pairs = [(x.flatten(start), y.flatten(start)) for x, y in zip(given, rebuilt, strict=True)]
    return torch.stack([(1 - F.cosine_similarity(x, y, dim=1)).mean() for x, y in pairs]).sum()


def _by_grid(shapes: Sequence[Shape]) -> dict[tuple[int, int], list[int]]:
    """Return the numbers of the layers of each grid (h, w), the finest first."""
    grids = sorted({shape[1:] for shape in shapes}, key=math.prod, reverse=True)
    return {grid: [i for i, shape in enumerate(shapes) if shape[1:] == grid] for grid in grids}


def _grouped(shapes: Sequence[Shape]) -> list[Shape]:
    """Return (sum of the channels, h, w) of each grid, the finest first."""
    return [(sum(shapes[i][0] for i in members), *grid) for grid, members in _by_grid(shapes).items()]
