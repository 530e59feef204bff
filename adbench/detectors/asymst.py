"""Asymmetric student-teacher networks, AST (Rudolph et al., "Asymmetric Student-Teacher Networks for Industrial Anomaly
Detection", WACV 2023), on any layers.

Teacher: a flow of coupling steps (flows.TwoSidedStep) told each cell's position, trained on nominal features x by
mean over images and cells of 0.5 sum_C z^2 - log |det dz/dx| (equations 3 and 4). Student: a residual convolutional
network of x and the position, trained to give the teacher's z, by the mean squared error (equation 5). A cell's score
is the mean over C of (z_t - z_s)^2 (equation 6), an image's the mean of its cells (option: the maximum).

Deviations:
- features are standardised per channel by their mean and deviation over the training set (a fixed affine map, none in
  the paper): scales differ by orders between layers, and training would diverge on some. Channels that do not vary in
  training are left out: a density on them has no bound;
- the teacher's hidden channels and clamp are those of the authors' public code (64, 1.9), not the larger ones of the
  paper's experiments in 2D; both are parameters;
- an epoch takes all images, in batches of nearly equal size (the public code drops the last, incomplete one);
- joined layers are one teacher and one student on the finest grid.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adbench.core.errors import UsageError
from adbench.core.registry import match
from adbench.detectors import register
from adbench.detectors.training.flows import Flow, TwoSidedStep, negative_log_likelihood, position_map
from adbench.detectors.training.loop import TrainedDetector, TrainingSet, below, cpu_state, lent, repeatable
from adbench.detectors.training.standardization import Standardisation
from adbench.features.feature_maps import FeatureMaps, join
from adbench.types import OnStep, Scores, ignore_step

IMAGE_SCORES = ("mean", "max")
_KERNELS = (3, 3, 3, 5)  # of the coupling steps; further ones take the last
_PLACES = 32  # channels of the position map
_BLOCKS = 4  # residual blocks of the student
_BOUND = 1e6  # of the teacher's output
_BATCH = 16  # images scored at once
_HELD_BYTES = 1 << 30  # of the teacher's outputs over the training set
Lesson = tuple[Tensor, Tensor]  # the student's input and the teacher's output, (B, C, h, w) each


class Student(nn.Module):
    """(B, C + 32, h, w) to (B, C, h, w): a convolution, residual blocks without activation after the sum, a convolution."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels + _PLACES, hidden, 3, padding=1)
        self.blocks = nn.ModuleList(nn.Sequential(*_unit(hidden), *_unit(hidden)) for _ in range(_BLOCKS))
        self.last = nn.Conv2d(hidden, channels, 3, padding=1)

    def forward(self, x: Tensor, where: Tensor) -> Tensor:
        x = F.leaky_relu(self.first(torch.cat([x, where.expand(len(x), -1, -1, -1)], dim=1)))
        for block in self.blocks:
            x = x + block(x)
        return cast(Tensor, self.last(x))


def _unit(hidden: int) -> list[nn.Module]:
    return [nn.Conv2d(hidden, hidden, 3, padding=1), nn.BatchNorm2d(hidden), nn.LeakyReLU()]


@register("asymst")
@dataclass
class AsymST(TrainedDetector):
    """Distance of a student from a normalizing flow, which can be copied only where features are nominal.

    teacher_hidden, student_hidden: channels inside the couplings and the student (a small student, e.g. 64, is some
    hundred times quicker). steps: couplings. clamp: bounds their log scales. image_score: mean or max. epochs: of the
    teacher and of the student, each. For a short run (tens of epochs) take schedule=onecycle and learning_rate=0.002.
    """

    revision: ClassVar[int] = 3
    smoothing: ClassVar[float] = 0.0

    epochs: int = 240
    batch_size: int = 8
    learning_rate: float = 2e-4
    teacher_hidden: int = 64
    student_hidden: int = 1024
    steps: int = 4
    clamp: float = 1.9
    image_score: str = "mean"
    teacher_: Flow | None = field(default=None, init=False, repr=False)
    student_: Student | None = field(default=None, init=False, repr=False)
    scale_: Standardisation | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.image_score = match("image_score", self.image_score, IMAGE_SCORES, where=" of asymst")
        for name in ("teacher_hidden", "student_hidden", "steps", "clamp"):
            if getattr(self, name) <= 0:
                raise UsageError(f"asymst: {name}={getattr(self, name):g} must be above 0")

    def fit(self, features: FeatureMaps, *, device: torch.device, on_step: OnStep = ignore_step) -> "AsymST":
        """Train the teacher, then the student, on nominal images."""
        self.scale_ = Standardisation.of(features)
        where = position_map(_PLACES, *features.joined_shape[1:]).to(device)
        with repeatable(self.seed):
            teacher, student = self._make()
            teacher.to(device), student.to(device)
            self.curves_["teacher_loss"] = self._teach(teacher, features, where, on_step)
            self.curves_["student_loss"] = self._learn(teacher.eval(), student, features, where, on_step)
        self.teacher_, self.student_ = teacher.cpu().eval(), student.cpu().eval()
        return self

    def _teach(self, teacher: Flow, features: FeatureMaps, where: Tensor, on_step: OnStep) -> Tensor:
        def loss(x: Tensor) -> Tensor:
            return negative_log_likelihood(*teacher(x, where)).mean()

        def note(done: int, total: int, text: str) -> None:
            on_step(done, 2 * total, f"teacher {text}")

        data = TrainingSet(features, self._prepare, where.device)
        return self.train(teacher, loss, data, note, self._scale().alive)

    def _learn(self, teacher: Flow, student: Student, features: FeatureMaps, where: Tensor, on_step: OnStep) -> Tensor:
        def loss(lesson: Lesson) -> Tensor:
            x, target = lesson
            return F.mse_loss(student(x, where), target)

        def note(done: int, total: int, text: str) -> None:
            on_step(total + done, 2 * total, f"student {text}")

        return self.train(student, loss, self._lessons(teacher, features, where), note)

    def _lessons(self, teacher: Flow, features: FeatureMaps, where: Tensor) -> TrainingSet[Lesson]:
        """Return what the student learns from: inputs with the teacher's z, computed once if it is small enough to hold."""
        shape = (len(features), self._scale().alive, *features.joined_shape[1:])

        def ask(layers: Sequence[Tensor]) -> Lesson:
            x = self._prepare(layers)
            return x, _targets(teacher, x, where)

        if 4 * math.prod(shape) > _HELD_BYTES:
            return TrainingSet(features, ask, where.device)
        targets = np.empty(shape, np.float32)
        for rows, layers in features.batches(_BATCH, where.device):
            targets[rows] = ask(layers)[1].cpu().numpy()
        answered = FeatureMaps((*features.layers, targets))
        return TrainingSet(answered, lambda layers: (self._prepare(layers[:-1]), layers[-1]), where.device)

    @torch.no_grad()
    def score(self, features: FeatureMaps, *, device: torch.device) -> Scores:
        """Return image scores (N,) and mean_C (z_t - z_s)^2 as maps (N, h, w)."""
        teacher, student = self._networks()
        where, maps = position_map(_PLACES, *features.joined_shape[1:]).to(device), []
        with lent(device, teacher, student):
            for _, layers in features.batches(_BATCH, device):
                x = self._prepare(layers)
                gaps = (_targets(teacher, x, where) - student(x, where)).square().mean(dim=1)
                maps.append(gaps.cpu().numpy())
        whole = np.concatenate(maps)
        return Scores(whole.mean(axis=(1, 2)) if self.image_score == "mean" else whole.max(axis=(1, 2)), whole)

    def _networks(self) -> tuple[Flow, Student]:
        if self.teacher_ is None or self.student_ is None:
            raise UsageError("asymst: fit it before it is used")
        return self.teacher_, self.student_

    def _scale(self) -> Standardisation:
        if self.scale_ is None:
            raise UsageError("asymst: fit it before it is used")
        return self.scale_

    def _make(self) -> tuple[Flow, Student]:
        """Return new networks for the channels that vary."""
        channels = self._scale().alive
        kernels = [_KERNELS[min(i, len(_KERNELS) - 1)] for i in range(self.steps)]
        steps = (TwoSidedStep(channels, self.teacher_hidden, kernel, self.clamp, _PLACES) for kernel in kernels)
        return Flow(steps), Student(channels, self.student_hidden)

    def _prepare(self, layers: Sequence[Tensor]) -> Tensor:
        """(B, C_l, h_l, w_l) of each layer to the standardised (B, C, h, w) of the joined finest grid, C that vary."""
        return self._scale().apply(join(layers))

    def state_dict(self) -> dict[str, Tensor]:
        teacher, student = self._networks()
        state = cpu_state(teacher, "teacher") | cpu_state(student, "student") | self.training_state()
        return state | {"mean": self._scale().mean, "deviation": self._scale().deviation}

    def load_state_dict(self, state: dict[str, Tensor]) -> "AsymST":
        self.scale_ = Standardisation(state["mean"], state["deviation"])
        self.load_training_state(state)
        with repeatable(self.seed):  # what it draws is replaced at once
            teacher, student = self._make()
        teacher.load_state_dict(below(state, "teacher"))
        student.load_state_dict(below(state, "student"))
        self.teacher_, self.student_ = teacher.eval(), student.eval()
        return self

    def details(self) -> dict[str, object]:
        scale = self._scale()
        return self.training_details(*self._networks()) | {"dead_channels": len(scale.mean) - scale.alive}


@torch.no_grad()
def _targets(teacher: Flow, x: Tensor, where: Tensor) -> Tensor:
    z: Tensor = teacher(x, where)[0]
    return z.clamp(-_BOUND, _BOUND)
