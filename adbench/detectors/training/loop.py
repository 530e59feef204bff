"""What detectors that train a network share: the features in batches, the loop, its curve. Registers nothing.

float32 throughout: no autocast. On a GPU, convolutions may use TF32 where torch's own setting allows it (its default; a
result's environment says so), and the whole feature set is moved there once if it takes at most half of the free memory;
elsewhere the features stream from disk, a batch at a time. The global random state is left as it was.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from adbench.core.errors import DetectorError, UsageError
from adbench.core.registry import match
from adbench.detectors import Detector
from adbench.features.feature_maps import FeatureMaps, Shape
from adbench.types import OnStep

SCHEDULES = ("constant", "cosine", "onecycle")
Input = TypeVar("Input")  # what a network takes: made of a batch of each layer's maps
_EXPLODED = 100.0  # times the first batch's loss


@dataclass
class TrainedDetector(Detector):
    """Parameters and records of a detector that trains with Adam; the last epoch counts, never the best one.

    schedule of the learning rate: constant (as published), cosine (falls to 0), onecycle (rises over the first 30 % of
    the steps, then falls as cosine does: lets a short run use a higher rate). min_steps: where epochs, images and
    batch_size would give fewer steps in all, batches are smaller, down to two images; a run of the published length is
    never touched by it, a short run is of use only so. 0 = off.
    """

    epochs: int = 1
    batch_size: int = 1
    learning_rate: float = 1e-3
    weight_decay: float = 1e-5
    schedule: str = "constant"
    min_steps: int = 400
    curves_: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False)  # loss per dimension and epoch
    batches_: int = field(default=0, init=False, repr=False)  # of an epoch

    def __post_init__(self) -> None:
        """Refuse values that cannot be trained with; a subclass's own checks come on top."""
        name = type(self).__name__.lower()
        for key in ("epochs", "batch_size", "learning_rate"):
            if getattr(self, key) <= 0:
                raise UsageError(f"{name}: {key}={getattr(self, key):g} must be above 0")
        for key in ("weight_decay", "min_steps"):
            if getattr(self, key) < 0:
                raise UsageError(f"{name}: {key}={getattr(self, key):g} must not be negative")
        self.schedule = match("schedule", self.schedule, SCHEDULES, where=f" of {name}")

    def unsupported(self, shapes: Sequence[Shape]) -> str | None:
        """A coupling needs two channels."""
        channels = sum(shape[0] for shape in shapes)
        return None if channels >= 2 else f"a coupling flow needs at least 2 channels, the features have {channels}"

    def train(
        self, network: nn.Module, loss: Callable[[Input], Tensor], data: "TrainingSet[Input]", note: OnStep, size: float = 1
    ) -> Tensor:
        """Minimise loss(batch) over the network's parameters; return each epoch's mean loss, divided by `size`.

        What is minimised is not divided: weight decay and Adam's epsilon would weigh more than published.
        """
        curve: list[float] = []
        optimizer = torch.optim.Adam(network.parameters(), self.learning_rate, weight_decay=self.weight_decay)
        order = torch.Generator().manual_seed(self.seed)
        start = math.inf
        for epoch in range(self.epochs):
            batches = self._batches(len(data), order)
            total, steps = torch.zeros((), device=data.device), self.epochs * len(batches)
            for index, rows in enumerate(batches, epoch * len(batches)):
                value = self._step(optimizer, loss(data.batch(rows)), (index + 0.5) / steps) / size
                start = start if index else float(value)
                total += value * (len(rows) / len(data))
                note(index + 1, steps, f"epoch {epoch + 1}/{self.epochs}, loss {curve[-1] if curve else start:.4g}")
            curve.append(float(total))
            _check(curve, start, self.learning_rate)
        return torch.tensor(curve)

    def _batches(self, count: int, order: torch.Generator) -> tuple[Tensor, ...]:
        """Return all images in random order, in batches of nearly equal sizes, `batch_size` at most."""
        wished = max(math.ceil(count / self.batch_size), math.ceil(self.min_steps / self.epochs))
        self.batches_ = min(wished, max(math.ceil(count / self.batch_size), count // 2))
        return torch.randperm(count, generator=order).tensor_split(self.batches_)

    def _step(self, optimizer: torch.optim.Optimizer, loss: Tensor, done: float) -> Tensor:
        for group in optimizer.param_groups:
            group["lr"] = self.learning_rate * rate(self.schedule, done)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return loss.detach()

    def training_state(self) -> dict[str, Tensor]:
        """Return what `load_training_state` and the details need of the training."""
        return self.curves_ | {"batches": torch.tensor(self.batches_)}

    def load_training_state(self, state: dict[str, Tensor]) -> None:
        """Take over what `training_state` gave: the batches and every curve."""
        self.batches_ = int(state["batches"])
        self.curves_ = {name: value for name, value in state.items() if name.endswith("loss")}

    def training_details(self, *networks: nn.Module) -> dict[str, object]:
        """Return the capacity, the batches of an epoch and the curves for the result."""
        count = sum(p.numel() for network in networks for p in network.parameters())
        curves = {name: [float(f"{v:.5g}") for v in curve.tolist()] for name, curve in self.curves_.items()}
        return {"trainable_parameters": count, "batches_per_epoch": self.batches_, **curves}


def _check(curve: Sequence[float], start: float, learning_rate: float) -> None:
    """Raise DetectorError if the last epoch's loss is not finite or far above the first batch's."""
    loss, limit = curve[-1], _EXPLODED * (1 + abs(start))
    if not math.isfinite(loss) or loss > limit:
        raise DetectorError(
            f"training diverged in epoch {len(curve)}: loss {loss:.4g} after {start:.4g} at the start; "
            f"lower learning_rate={learning_rate:g}"
        )


def rate(schedule: str, done: float) -> float:
    """Return the factor of the learning rate when a share `done` (0 to 1) of the steps is over."""
    if schedule == "constant":
        return 1.0
    rise = 0.3 if schedule == "onecycle" else 0.0
    if done < rise:
        return 0.04 + 0.96 * done / rise
    return 0.5 * (1 + math.cos(math.pi * (done - rise) / (1 - rise)))


class TrainingSet(Generic[Input]):
    """Images' features, prepared for a network, batch by batch; held on the GPU if they fit there."""

    def __init__(self, features: FeatureMaps, prepare: Callable[[list[Tensor]], Input], device: torch.device) -> None:
        self.features, self.prepare, self.device = features, prepare, device
        self._held = features.read(slice(None), device) if _fits(features, device) else None

    def __len__(self) -> int:
        return len(self.features)

    def batch(self, rows: Tensor) -> Input:
        """Return the network's input made of some images."""
        if self._held is None:
            return self.prepare(self.features.read(rows.numpy(), self.device))
        chosen = rows.to(self.device)
        return self.prepare([layer.index_select(0, chosen) for layer in self._held])


def _fits(features: FeatureMaps, device: torch.device) -> bool:
    if device.type != "cuda":
        return False
    size = 4 * sum(layer.size for layer in features.layers)
    return size <= torch.cuda.mem_get_info(device)[0] / 2


@contextmanager
def repeatable(seed: int) -> Iterator[None]:
    """Random numbers of the CPU follow `seed` inside, convolutions take their deterministic forms; both as before after.

    Networks are made on the CPU and then moved, so that a seed means the same start on every device.
    """
    before = torch.backends.cudnn.deterministic
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        torch.backends.cudnn.deterministic = True
        try:
            yield
        finally:
            torch.backends.cudnn.deterministic = before


@contextmanager
def lent(device: torch.device, *networks: nn.Module) -> Iterator[None]:
    """Networks of the CPU are on `device` inside. Where that is the CPU they are not touched: several threads may use them."""
    moved = networks if device.type != "cpu" else ()
    for network in moved:
        network.to(device)
    try:
        yield
    finally:
        for network in moved:
            network.cpu()


def cpu_state(network: nn.Module, prefix: str) -> dict[str, Tensor]:
    """Return a network's parameters and buffers as CPU tensors, each name behind `prefix` and a dot."""
    return {f"{prefix}.{name}": value.detach().cpu().clone() for name, value in network.state_dict().items()}


def below(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the entries of a state whose names start with `prefix` and a dot, without it."""
    return {key[len(prefix) + 1 :]: value for key, value in state.items() if key.startswith(f"{prefix}.")}
