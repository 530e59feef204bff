"""Asymmetric student-teacher networks, AST (Rudolph et al., "Asymmetric Student-Teacher Networks for Industrial Anomaly
Detection", WACV 2023), on any layers.

Teacher: a flow of coupling steps (flows.TwoSidedStep) conditioned on each cell's position, trained on nominal features
x (C, h, w) by mean over images and cells of 0.5 sum_C z^2 - log |det dz/dx| (equations 3 and 4). Student: a residual
convolutional network of x and the position, trained to predict the teacher's z by the mean squared error (equation 5). A
cell's score is the mean over C of (z_t - z_s)^2 (equation 6), in units of the standard normal z, squared; an image's the mean
of its cells (option: the maximum).

Deviations:
- features are standardized per channel by their mean and deviation over the training set (a fixed affine map, none in
  the paper): scales differ by orders between layers, and training would diverge on some. Channels that do not vary in
  training are dropped: a density on them has no bound;
- the teacher's hidden channels and clamp are those of the authors' public code (64, 1.9), not the larger ones of the
  paper's experiments in 2D; both are parameters. A smaller teacher fits the density less closely;
- maps are resized bilinearly to the evaluation grid (public code: bicubic, which overshoots at edges), and images are 256 px by
  default (paper and public code: 768, a map of 24 x 24 cells at stride 32): at 256 px that layer has 8 x 8 cells, and small
  defects are found less often. Ask for 768 with image_sizes;
- an epoch takes all images, in batches of nearly equal size (the public code drops the last, incomplete one);
- joined layers are one teacher and one student on the finest grid.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import ClassVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from adbench.core.environment import memory_bytes
from adbench.core.registry import match
from adbench.detectors import register
from adbench.detectors.training.flows import Flow, TwoSidedStep, negative_log_likelihood, position_map
from adbench.detectors.training.loop import TrainedDetector, TrainingSet
from adbench.detectors.training.precision import Mixed
from adbench.features.feature_maps import FeatureMaps, Shape, join, joined_shape
from adbench.types import OnStep

IMAGE_SCORES = ("mean", "max")
_KERNELS = (3, 3, 3, 5)  # of the coupling steps; further ones take the last
_POSITIONS = 32  # channels of the position map
_BLOCKS = 4  # residual blocks of the student
_BOUND = 1e6  # of the teacher's output
_BATCH = 16  # images whose targets are computed at once
_HELD_BYTES, _HELD_SHARE = 4 << 30, 8  # of the teacher's outputs over the training set: at most, and of the machine's memory
Lesson = tuple[Tensor, Tensor]  # the student's input and the teacher's output, (B, C, h, w) each


class Student(Mixed):
    """(B, C + 32, h, w) to (B, C, h, w): a convolution, residual blocks without activation after the sum, a convolution."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels + _POSITIONS, hidden, 3, padding=1)
        self.blocks = nn.ModuleList(nn.Sequential(*_unit(hidden), *_unit(hidden)) for _ in range(_BLOCKS))
        self.last = nn.Conv2d(hidden, channels, 3, padding=1)

    def answer(self, x: Tensor, where: Tensor) -> Tensor:
        x = F.leaky_relu(self.first(torch.cat([x, where.expand(len(x), -1, -1, -1)], dim=1)))
        for block in self.blocks:
            x = x + block(x)
        return cast(Tensor, self.last(x))


def _unit(hidden: int) -> list[nn.Module]:
    return [nn.Conv2d(hidden, hidden, 3, padding=1), nn.BatchNorm2d(hidden), nn.LeakyReLU()]


@register("asymst")
@dataclass
class AsymST(TrainedDetector):
    """Distance of a student from a normalizing flow, which it can copy only where features are nominal.

    teacher_hidden, student_hidden: channels inside the couplings and the student (a small student, e.g. 64, is some
    hundred times faster). steps: couplings. clamp: bounds their log scales. image_score: mean or max. epochs: of the
    teacher and of the student, each. For a short run (tens of epochs) use schedule=onecycle and learning_rate=0.002.
    """

    revision: ClassVar[int] = 3

    epochs: int = 240
    batch_size: int = 8
    learning_rate: float = 2e-4
    teacher_hidden: int = 64
    student_hidden: int = 1024
    steps: int = 4
    clamp: float = 1.9
    image_score: str = "mean"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.image_score = match("image_score", self.image_score, IMAGE_SCORES, where=" of asymst")
        self.require_positive("teacher_hidden", "student_hidden", "steps", "clamp")

    def memory_bytes(self, images: int, shapes: Sequence[Shape]) -> int:
        """Return the bytes of the teacher's outputs, which come after what a trial of the teacher's training measures."""
        return _held_bytes((images, *joined_shape(shapes)))

    def make_networks(self) -> nn.ModuleDict:
        """Return `teacher` and `student` for the channels that vary."""
        channels = self.scales_[""].alive
        kernels = [_KERNELS[min(i, len(_KERNELS) - 1)] for i in range(self.steps)]
        steps = (TwoSidedStep(channels, self.teacher_hidden, kernel, self.clamp, _POSITIONS) for kernel in kernels)
        return nn.ModuleDict({"teacher": Flow(steps), "student": Student(channels, self.student_hidden)})

    def train_networks(self, networks: nn.ModuleDict, features: FeatureMaps, device: torch.device, on_step: OnStep) -> None:
        """Train the teacher, then the student."""
        teacher, student = networks["teacher"], networks["student"]
        where = _positions(*features.joined_shape[1:], device)

        def teacher_loss(x: Tensor) -> Tensor:
            return negative_log_likelihood(*teacher(x, where)).mean()

        def student_loss(lesson: Lesson) -> Tensor:
            x, target = lesson
            return F.mse_loss(student(x, where), target)

        def listen(name: str, before: int, done: int, total: int, note: str) -> None:
            on_step(before * total + done, 2 * total, f"{name} {note}")

        data, size = TrainingSet(features, self._prepare, device), self.scales_[""].alive
        self.curves_["teacher_loss"] = self.train(teacher, teacher_loss, data, partial(listen, "teacher", 0), size)
        lessons = self._lessons(teacher.eval(), features, where)
        self.curves_["student_loss"] = self.train(student, student_loss, lessons, partial(listen, "student", 1))

    def _lessons(self, teacher: nn.Module, features: FeatureMaps, where: Tensor) -> TrainingSet[Lesson]:
        """Return the student's training set: inputs with the teacher's z, which is computed once if memory allows."""
        shape = (len(features), self.scales_[""].alive, *features.joined_shape[1:])

        def make(layers: Sequence[Tensor]) -> Lesson:
            x = self._prepare(layers)
            return x, _targets(teacher, x, where)

        if not _held_bytes(shape):
            return TrainingSet(features, make, where.device)
        targets = np.empty(shape, np.float32)
        for rows, layers in features.batches(_BATCH, where.device):
            targets[rows] = make(layers)[1].cpu().numpy()
        with_targets = FeatureMaps((*features.layers, targets))
        return TrainingSet(with_targets, lambda layers: (self._prepare(layers[:-1]), layers[-1]), where.device)

    def score_maps(self, layers: list[Tensor]) -> Tensor:
        """Return mean_C (z_t - z_s)^2 of each cell."""
        x = self._prepare(layers)
        where = _positions(x.shape[2], x.shape[3], x.device)
        difference: Tensor = _targets(self.networks_["teacher"], x, where) - self.networks_["student"](x, where)
        return difference.square().mean(dim=1)

    def score_images(self, maps: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the scores (N,) of images with these maps (N, h, w): their mean or maximum."""
        return maps.mean(axis=(1, 2)) if self.image_score == "mean" else super().score_images(maps)

    def _prepare(self, layers: Sequence[Tensor]) -> Tensor:
        """(B, C_l, h_l, w_l) of each layer to the standardized (B, C, h, w) of the joined finest grid, C that vary."""
        return self.scales_[""].apply(join(layers))

    def details(self) -> dict[str, object]:
        """Return the capacity, the curves and the number of dropped channels."""
        scale = self.scales_[""]
        return super().details() | {"dead_channels": len(scale.mean) - scale.alive}


def _held_bytes(shape: tuple[int, ...]) -> int:
    """Return the bytes of the teacher's outputs (N, C, h, w), 0 if they take too much and are computed in each epoch."""
    size = 4 * math.prod(shape)
    return size if size <= min(_HELD_BYTES, memory_bytes() // _HELD_SHARE) else 0


@lru_cache(maxsize=8)
def _positions(height: int, width: int, device: torch.device) -> Tensor:
    return position_map(_POSITIONS, height, width)[None].to(device)


@torch.no_grad()
def _targets(teacher: nn.Module, x: Tensor, where: Tensor) -> Tensor:
    z: Tensor = teacher(x, where)[0]
    return z.clamp(-_BOUND, _BOUND)
