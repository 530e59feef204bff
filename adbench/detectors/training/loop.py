"""The base of detectors that train networks: parameters, standardization, the training loop, scoring, and their state.

float32, or convolutions in bfloat16 (`precision`). On a GPU, convolutions in float32 may use TF32 if torch's setting allows it
(its default; a result's environment says so), the host waits for it once per epoch, and the whole feature set is moved there
once, as it is stored, if it takes at most half of the free memory. Otherwise the features stream from disk, on a GPU a batch
ahead. A batch whose gradients do not fit into memory is split, unless it has batch statistics; the sum is the same but for
rounding. The global random state is left as it was.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from adbench.core.errors import DetectorError, UsageError
from adbench.core.memory import out_of_memory
from adbench.core.registry import match
from adbench.core.threads import in_background
from adbench.detectors import Detector, added
from adbench.detectors.training.precision import PRECISIONS, chosen_precision, set_precision
from adbench.features.feature_maps import FeatureMaps, Shape, join
from adbench.types import OnStep, Scores, ignore_step

SCHEDULES = ("constant", "cosine", "onecycle", "steps")
Input = TypeVar("Input")  # of a network: made of a batch of each layer's maps
_EXPLODED = 100.0  # times the first batch's loss
_BATCH = 16  # images scored, or whose moments are taken, at once
_DEAD = 1e-4  # share of the average channel's deviation below which a channel counts as constant


@dataclass(frozen=True)
class Standardization:
    """mean, deviation: (C,) of each channel; a dead channel, which does not vary in training, has the deviation 0."""

    mean: Tensor
    deviation: Tensor
    _moved: dict[torch.device, tuple[Tensor, Tensor, Tensor]] = field(default_factory=dict, repr=False, compare=False)

    @staticmethod
    def of(features: FeatureMaps) -> "Standardization":
        """Return the moments of the joined channels over all cells of all images; DetectorError if fewer than two vary."""
        mean = _mean(features, lambda x: x)
        deviation = _mean(features, lambda x: (x - mean[:, None, None]).square()).sqrt()
        deviation[deviation <= _DEAD * deviation.mean()] = 0
        made = Standardization(mean.float(), deviation.float())
        if made.alive < 2:
            raise DetectorError(f"{made.alive} of {len(mean)} channels vary, 2 are needed; take another layer")
        return made

    @staticmethod
    def by_layer(features: FeatureMaps) -> dict[str, "Standardization"]:
        """Return each layer's, by its suffix in a state: no shift, and one deviation for all channels."""
        scales = {}
        for index, layer in enumerate(features.layers):
            deviation = Standardization.of(FeatureMaps((layer,))).deviation
            whole = deviation.square().mean().sqrt()
            scales[f".{index}"] = Standardization(torch.zeros_like(deviation), whole.expand_as(deviation).clone())
        return scales

    @property
    def alive(self) -> int:
        """How many channels vary."""
        return int(self.deviation.count_nonzero())

    def apply(self, x: Tensor) -> Tensor:
        """Return (x - mean) / deviation of the channels that vary: (B, C, h, w) to (B, alive, h, w)."""
        if x.device not in self._moved:
            chosen = self.deviation.nonzero()[:, 0]
            mean, deviation = (moment[chosen, None, None].to(x.device) for moment in (self.mean, self.deviation))
            self._moved[x.device] = chosen.to(x.device), mean, deviation
        chosen, mean, deviation = self._moved[x.device]
        if len(chosen) < len(self.mean):
            x = x.index_select(1, chosen)
        return (x - mean) / deviation


def _mean(features: FeatureMaps, of: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the mean (C,) of a function of the joined maps over all cells of all images, in float64."""
    total = torch.zeros(features.joined_shape[0], dtype=torch.float64)
    for _, layers in features.batches(_BATCH, torch.device("cpu")):
        total += of(join(layers).double()).mean(dim=(2, 3)).sum(dim=0)
    return total / len(features)


@dataclass
class TrainedDetector(Detector):
    """Parameters of a detector that trains with Adam; the result is that of the last epoch, never of the best one.

    schedule of the learning rate: constant, cosine (falls to 0), onecycle (rises over the first 30 % of the steps, then
    falls as cosine does: allows a higher rate in a short run), steps (times 0.4 after 80 and 90 %). min_steps: if epochs,
    images and batch_size would give fewer steps in all, batches are smaller, down to two images. That makes a short run
    useful; a run of the published length is not affected. 0 = off. precision: float32, bfloat16 (of
    convolutions), or auto: bfloat16 where the hardware has units for it.
    """

    epochs: int = 1
    batch_size: int = 1
    learning_rate: float = 1e-3
    weight_decay: float = 1e-5
    schedule: str = "constant"
    min_steps: int = 400
    precision: str = added("float32")
    networks_: nn.ModuleDict = field(default_factory=nn.ModuleDict, init=False, repr=False)
    scales_: dict[str, Standardization] = field(default_factory=dict, init=False, repr=False)  # by their suffix in a state
    curves_: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False)  # loss per dimension and epoch
    batches_: int = field(default=0, init=False, repr=False)  # of an epoch
    compute_: torch.dtype = field(default=torch.float32, init=False, repr=False)  # the type that `precision` meant in `fit`

    def __post_init__(self) -> None:
        """Refuse values that cannot be trained with."""
        self.require_positive("epochs", "batch_size", "learning_rate")
        for key in ("weight_decay", "min_steps"):
            if getattr(self, key) < 0:
                raise UsageError(f"{self._name}: {key}={getattr(self, key):g} must not be negative")
        self.schedule = match("schedule", self.schedule, SCHEDULES, where=f" of {self._name}")
        self.precision = match("precision", self.precision, PRECISIONS, where=f" of {self._name}")

    @property
    def _name(self) -> str:
        return type(self).__name__.lower()

    def require_positive(self, *names: str) -> None:
        """Raise UsageError if one of these parameters is not above 0."""
        for name in names:
            if getattr(self, name) <= 0:
                raise UsageError(f"{self._name}: {name}={getattr(self, name):g} must be above 0")

    def make_scales(self, features: FeatureMaps) -> dict[str, Standardization]:
        """Return the standardizations of the features, by their suffix in a state: one of all layers, if not overridden."""
        return {"": Standardization.of(features)}

    def make_networks(self) -> nn.ModuleDict:
        """Return new networks, by their prefix in a state, for channels as `scales_` has them."""
        raise NotImplementedError

    def train_networks(self, networks: nn.ModuleDict, features: FeatureMaps, device: torch.device, on_step: OnStep) -> None:
        """Train new networks, which are on `device`, by `train`, and record the curves."""
        raise NotImplementedError

    def make_optimizer(self, network: nn.Module) -> torch.optim.Optimizer:
        """Return the optimizer of a network's parameters; groups may differ in the learning rate that the schedule scales."""
        return torch.optim.Adam(network.parameters(), self.learning_rate, weight_decay=self.weight_decay, fused=self.fused)

    @property
    def fused(self) -> bool | None:
        """Whether Adam takes one pass over the parameters; not in float32, where that would move the last bits of results."""
        return self.compute_ != torch.float32 or None

    def score_batch(self, layers: list[Tensor]) -> Scores:
        """Return the scores of a batch (B, C_l, h_l, w_l) of each layer, by `score_maps` and `score_images`."""
        maps = self.score_maps(layers).cpu().numpy()
        return Scores(self.score_images(maps), maps)

    def score_maps(self, layers: list[Tensor]) -> Tensor:
        """Return the maps (B, h, w) of a batch (B, C_l, h_l, w_l) of each layer."""
        raise NotImplementedError

    def score_images(self, maps: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the scores (N,) of images with these maps (N, h, w): the largest of their cells."""
        largest: NDArray[np.float32] = maps.max(axis=(1, 2))
        return largest

    def unsupported(self, shapes: Sequence[Shape]) -> str | None:
        """Return the reason if there is one channel: a coupling needs two."""
        channels = sum(shape[0] for shape in shapes)
        return None if channels >= 2 else f"a coupling flow needs at least 2 channels, the features have {channels}"

    def fit(self, features: FeatureMaps, *, device: torch.device, on_step: OnStep = ignore_step) -> "TrainedDetector":
        """Train the networks on nominal images."""
        self.scales_, self.curves_ = self.make_scales(features), {}
        self.compute_ = chosen_precision(self.precision, device)
        with repeatable(self.seed):
            networks = self.make_networks().to(device)
            set_precision(networks, self.compute_)
            self.train_networks(networks, features, device, on_step)
        self.networks_ = networks.cpu().eval()
        return self

    @torch.no_grad()
    def score(self, features: FeatureMaps, *, device: torch.device) -> Scores:
        """Return image scores (N,) and maps (N, h, w) on the finest grid."""
        networks, elsewhere = self._fitted(), device.type != "cpu"  # on the CPU, several threads may use them
        try:
            if elsewhere:
                networks.to(device)
            parts = [self.score_batch(layers) for _, layers in features.batches(_BATCH, device)]
        finally:
            if elsewhere:
                networks.cpu()
        return Scores(np.concatenate([part.image for part in parts]), np.concatenate([part.maps for part in parts]))

    def _fitted(self) -> nn.ModuleDict:
        if not self.networks_:
            raise UsageError(f"{self._name}: fit it before it is used")
        return self.networks_

    def train(
        self, network: nn.Module, loss: Callable[[Input], Tensor], data: "TrainingSet[Input]", on_step: OnStep, size: float = 1
    ) -> Tensor:
        """Minimize loss(batch) over the network's parameters; return each epoch's mean loss, divided by `size`.

        The minimized loss is not divided: weight decay and Adam's epsilon would weigh more than published.
        """
        curve: list[float] = []
        step = _Step(network, loss, self.make_optimizer(network))
        order = torch.Generator().manual_seed(self.seed)
        start = math.inf
        for epoch in range(self.epochs):
            batches = self._batches(len(data), order)
            total, steps = torch.zeros((), device=data.device), self.epochs * len(batches)
            for index, layers in enumerate(data.read(batches), epoch * len(batches)):
                value = step(data, layers, rate(self.schedule, (index + 0.5) / steps)) / size
                start = start if index else float(value)
                total += value * (len(layers[0]) / len(data))
                on_step(index + 1, steps, f"epoch {epoch + 1}/{self.epochs}, loss {curve[-1] if curve else start:.4g}")
            curve.append(float(total))
            if not math.isfinite(curve[-1]) or curve[-1] > _EXPLODED * (1 + abs(start)):
                raise DetectorError(
                    f"training diverged in epoch {epoch + 1}: loss {curve[-1]:.4g} after {start:.4g} at the start; "
                    f"lower learning_rate={self.learning_rate:g}"
                )
        return torch.tensor(curve)

    def _batches(self, count: int, order: torch.Generator) -> tuple[Tensor, ...]:
        """Return all images in random order, in batches of nearly equal sizes, `batch_size` at most."""
        wanted = max(math.ceil(count / self.batch_size), math.ceil(self.min_steps / self.epochs))
        self.batches_ = min(wanted, max(math.ceil(count / self.batch_size), count // 2))
        return torch.randperm(count, generator=order).tensor_split(self.batches_)

    def state_dict(self) -> dict[str, Tensor]:
        state = {name: value.detach().cpu().clone() for name, value in self._fitted().state_dict().items()}
        for suffix, scale in self.scales_.items():
            state |= {f"mean{suffix}": scale.mean, f"deviation{suffix}": scale.deviation}
        lower = {} if self.compute_ == torch.float32 else {"bfloat16": torch.tensor(True)}
        return state | self.curves_ | {"batches": torch.tensor(self.batches_)} | lower

    def load_state_dict(self, state: dict[str, Tensor]) -> "TrainedDetector":
        self.batches_ = int(state["batches"])
        self.curves_ = {name: value for name, value in state.items() if name.endswith("loss")}
        suffixes = sorted((name[4:] for name in state if name.startswith("mean")), key=lambda suffix: (len(suffix), suffix))
        self.scales_ = {suffix: Standardization(state[f"mean{suffix}"], state[f"deviation{suffix}"]) for suffix in suffixes}
        with repeatable(self.seed):  # what it draws is replaced at once
            self.networks_ = self.make_networks().eval()
        self.compute_ = torch.bfloat16 if "bfloat16" in state else torch.float32  # scores are computed as it was trained
        set_precision(self.networks_, self.compute_)
        self.networks_.load_state_dict({name: value for name, value in state.items() if name.split(".")[0] in self.networks_})
        return self

    def details(self) -> dict[str, object]:
        """Return the capacity, the batches of an epoch, the precision that was used, and the curves."""
        count = sum(parameter.numel() for parameter in self._fitted().parameters())
        curves = {name: [float(f"{v:.5g}") for v in curve.tolist()] for name, curve in self.curves_.items()}
        used = str(self.compute_).removeprefix("torch.")
        return {"trainable_parameters": count, "batches_per_epoch": self.batches_, "precision": used, **curves}


def training_bytes(network: nn.Module, inputs: object) -> int:
    """Return an upper bound of the memory of a training step, of a network and an input on the device "meta".

    float32 parameters with their gradients and Adam's state, and three numbers for each number that a module puts out.
    """
    sizes = [4 * sum(parameter.numel() for parameter in network.parameters())]
    for module in network.modules():
        if not list(module.children()):
            module.register_forward_hook(lambda _, __, output: sizes.append(3 * output.numel()))
    network(inputs)
    return 4 * sum(sizes)


def rate(schedule: str, done: float) -> float:
    """Return the factor of the learning rate when a share `done` (0 to 1) of the steps is over."""
    if schedule == "constant":
        return 1.0
    if schedule == "steps":
        return 0.4 ** ((done >= 0.8) + (done >= 0.9))
    rise = 0.3 if schedule == "onecycle" else 0.0
    if done < rise:
        return 0.04 + 0.96 * done / rise
    return 0.5 * (1 + math.cos(math.pi * (done - rise) / (1 - rise)))


class TrainingSet(Generic[Input]):
    """Images' features, prepared for a network batch by batch; on the GPU if they fit there."""

    def __init__(self, features: FeatureMaps, prepare: Callable[[list[Tensor]], Input], device: torch.device) -> None:
        self.features, self.prepare, self.device = features, prepare, device
        size = sum(layer.nbytes for layer in features.layers)
        fits = device.type == "cuda" and size <= torch.cuda.mem_get_info(device)[0] / 2
        self._on_device = features.stored(slice(None), device) if fits else None

    def __len__(self) -> int:
        return len(self.features)

    def read(self, batches: Sequence[Tensor]) -> Iterator[list[Tensor]]:
        """Yield the float32 maps of each layer for batches of rows, from a GPU's memory or the disk."""
        if self._on_device is None:
            found = (self.features.read(rows.numpy(), self.device) for rows in batches)
            return in_background(found) if self.device.type == "cuda" else found
        order = torch.cat(list(batches)).to(self.device)  # once: each copy would make the host wait
        return (self._held(rows) for rows in torch.split(order, [len(rows) for rows in batches]))

    def _held(self, rows: Tensor) -> list[Tensor]:
        return [layer.index_select(0, rows).float() for layer in self._on_device or ()]


class _Step(Generic[Input]):
    """One step of an optimizer. `parts`: into how many parts batches are split, so that their gradients fit into memory."""

    def __init__(self, network: nn.Module, loss: Callable[[Input], Tensor], optimizer: torch.optim.Optimizer) -> None:
        self.loss, self.optimizer, self.parts = loss, optimizer, 1
        self.rates = [group["lr"] for group in optimizer.param_groups]
        self.divisible = not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules())

    def __call__(self, data: TrainingSet[Input], layers: list[Tensor], factor: float) -> Tensor:
        """Take a step with a batch at `factor` times the learning rates, and return its loss before the step."""
        for group, full in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = full * factor
        value = self._gradients(data, layers)
        while value is None:  # outside an except block, whose traceback would keep the failed try's tensors alive
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            self.parts *= 2
            value = self._gradients(data, layers)
        self.optimizer.step()
        return value

    def _gradients(self, data: TrainingSet[Input], layers: list[Tensor]) -> Tensor | None:
        """Set the gradients of a batch's loss and return the loss; None if memory ran out and smaller parts may do."""
        self.optimizer.zero_grad()
        count, total = len(layers[0]), torch.zeros((), device=layers[0].device)
        try:
            for part in zip(*(layer.tensor_split(self.parts) for layer in layers), strict=True):
                value = self.loss(data.prepare(list(part))) * (len(part[0]) / count)
                value.backward()  # type: ignore[no-untyped-call]
                total += value.detach()
        except Exception as error:
            if self.divisible and self.parts < count and out_of_memory(error):
                return None
            raise
        return total


@contextmanager
def repeatable(seed: int) -> Iterator[None]:
    """Inside, the CPU's random numbers follow `seed` and convolutions are deterministic; both are restored afterward.

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
