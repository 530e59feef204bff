"""What detectors that train a network share: the features in batches, the loop, its curve. Registers nothing.

float32 throughout: no autocast. On a GPU, convolutions may use TF32 where torch's own setting allows it (its default),
and the whole feature set is moved there once if it takes at most half of the free memory; elsewhere the features stream
from disk, a batch at a time. The global random state is left as it was.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from adbench.detectors import Detector
from adbench.errors import DetectorError, UsageError
from adbench.feature_maps import FeatureMaps, Shape, join
from adbench.registry import match
from adbench.types import OnStep

SCHEDULES = ("constant", "cosine", "onecycle")
Prepare = Callable[[list[Tensor]], Tensor]  # a batch of each layer's maps to the network's input
_BATCH = 16  # images whose moments are taken at once
_EXPLODED = 100.0  # times the first batch's loss


@dataclass
class TrainedDetector(Detector):
    """Parameters and records of a detector that trains with Adam; the last epoch counts, never the best one.

    schedule of the learning rate: constant (as published), cosine (falls to 0), onecycle (rises over the first 30 % of
    the steps, then falls as cosine does: lets a short run use a higher rate).
    """

    epochs: int = 1
    batch_size: int = 1
    learning_rate: float = 1e-3
    weight_decay: float = 1e-5
    schedule: str = "constant"
    curves_: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False)  # loss per dimension and epoch

    def __post_init__(self) -> None:
        """Refuse values that cannot be trained with; a subclass's own checks come on top."""
        name = type(self).__name__.lower()
        for key in ("epochs", "batch_size", "learning_rate"):
            if getattr(self, key) <= 0:
                raise UsageError(f"{name}: {key}={getattr(self, key):g} must be above 0")
        if self.weight_decay < 0:
            raise UsageError(f"{name}: weight_decay={self.weight_decay:g} must not be negative")
        self.schedule = match("schedule", self.schedule, SCHEDULES, where=f" of {name}")

    def unsupported(self, shapes: Sequence[Shape]) -> str | None:
        """A coupling needs two channels."""
        channels = sum(shape[0] for shape in shapes)
        return None if channels >= 2 else f"a coupling flow needs at least 2 channels, the features have {channels}"

    def train(
        self, network: nn.Module, loss: Callable[[Tensor], Tensor], data: "TrainingSet", note: OnStep, size: float = 1
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
            total = torch.zeros((), device=data.device)
            for index, rows in enumerate(batches):
                done = (epoch + (index + 0.5) / len(batches)) / self.epochs
                value = self._step(optimizer, loss(data.batch(rows)), done) / size
                if epoch == index == 0:
                    start = float(value)
                total += value * (len(rows) / len(data))
            curve.append(float(total))
            _check(curve, start, self.learning_rate)
            note(epoch + 1, self.epochs, f"loss {curve[-1]:.4g}")
        return torch.tensor(curve)

    def _batches(self, count: int, order: torch.Generator) -> tuple[Tensor, ...]:
        """Return all images in random order, in batches of nearly equal sizes, `batch_size` at most."""
        return torch.randperm(count, generator=order).tensor_split(math.ceil(count / self.batch_size))

    def _step(self, optimizer: torch.optim.Optimizer, loss: Tensor, done: float) -> Tensor:
        for group in optimizer.param_groups:
            group["lr"] = self.learning_rate * rate(self.schedule, done)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return loss.detach()

    def training_details(self, *networks: nn.Module) -> dict[str, object]:
        """Return the capacity and the curves for the result."""
        count = sum(p.numel() for network in networks for p in network.parameters())
        curves = {name: [float(f"{v:.5g}") for v in curve.tolist()] for name, curve in self.curves_.items()}
        return {"trainable_parameters": count, **curves}


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


class TrainingSet:
    """Images' features, prepared for a network, batch by batch; held on the GPU if they fit there."""

    def __init__(self, features: FeatureMaps, prepare: Prepare, device: torch.device) -> None:
        self.features, self.prepare, self.device = features, prepare, device
        self._held = features.read(slice(None), device) if _fits(features, device) else None

    def __len__(self) -> int:
        return len(self.features)

    def batch(self, rows: Tensor) -> Tensor:
        """Return the network's input (B, C, h, w) of some images, float32."""
        if self._held is None:
            return self.prepare(self.features.read(rows.numpy(), self.device))
        chosen = rows.to(self.device)
        return self.prepare([layer.index_select(0, chosen) for layer in self._held])


def _fits(features: FeatureMaps, device: torch.device) -> bool:
    if device.type != "cuda":
        return False
    size = 4 * sum(layer.size for layer in features.layers)
    return size <= torch.cuda.mem_get_info(device)[0] / 2


def channel_moments(features: FeatureMaps) -> tuple[Tensor, Tensor]:
    """Return the mean and the standard deviation (C,) of each joined channel over all cells of all images.

    A dead channel, one that varies 10000 times less than the average channel, gets the deviation 0.
    """
    mean = _mean(features, lambda x: x)
    deviation = _mean(features, lambda x: (x - mean[:, None, None]).square()).sqrt()
    deviation[deviation <= 1e-4 * deviation.mean()] = 0
    return mean.float(), deviation.float()


def _mean(features: FeatureMaps, of: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the mean (C,) of a function of the joined maps over all cells of all images."""
    total = torch.zeros(features.joined_shape[0], dtype=torch.float64)
    for _, layers in features.batches(_BATCH, torch.device("cpu")):
        total += of(join(layers).double()).mean(dim=(2, 3)).sum(dim=0)
    return total / len(features)


def standardise(x: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    """Return (x - mean) / deviation per channel of x (B, C, h, w); a dead channel becomes 0 whatever it shows."""
    scale = torch.where(deviation > 0, 1 / deviation, 0)
    return (x - mean.to(x.device)[:, None, None]) * scale.to(x.device)[:, None, None]


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


def cpu_state(network: nn.Module, prefix: str) -> dict[str, Tensor]:
    """Return a network's parameters and buffers as CPU tensors, each name behind `prefix` and a dot."""
    return {f"{prefix}.{name}": value.detach().cpu().clone() for name, value in network.state_dict().items()}


def below(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the entries of a state whose names start with `prefix` and a dot, without it."""
    return {key[len(prefix) + 1 :]: value for key, value in state.items() if key.startswith(f"{prefix}.")}
