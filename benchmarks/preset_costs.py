"""What a preset costs on MVTec AD, for the heads of the presets. Run: python benchmarks/preset_costs.py layers image-size

Forward passes and bytes of cache are what `sweep --dry-run` says of a stand-in with MVTec AD's number of images. Hours are
computed, not measured: a training step's products, at a share of each GPU's peak for the precision, and the bytes that its
other operations read and write, at the rate of memory; or what the host takes to start all of them, if that is more. Expect a
factor of two either way. Only the time of a coreset's pick was measured, on an H100. Detectors other than patchcore, fastflow
and asymst are named as not counted.
"""

import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from PIL import Image
from torch import Tensor, nn
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from adbench.backbones.families import bare, find
from adbench.backbones.layers import describe, map_shapes
from adbench.detectors import make_detector
from adbench.detectors.asymst import Student
from adbench.detectors.patchcore import PatchCore
from adbench.detectors.training.flows import Flow, OneSidedStep, TwoSidedStep, negative_log_likelihood
from adbench.detectors.training.precision import Mixed
from adbench.features.feature_maps import Shape, joined_shape
from adbench.sweep.forecast import Forecaster
from adbench.sweep.plan import Group
from adbench.sweep.run import plan_sweep
from adbench.sweep.spec import Spec, parse, preset_text
from adbench.sweep.workspace import Workspace
from adbench.types import ALL, Job

aten = torch.ops.aten


class Gpu(NamedTuple):
    """Peak operations per second in float32, which backbones and distances use, and of dense products in TF32, which training
    in float32 uses, and in bfloat16; bytes per second of memory as it is reached.
    """

    float32: float
    tf32: float
    bfloat16: float
    memory: float

    def rate(self, precision: str, wide: bool = False) -> float:
        """Return the operations per second that are reached."""
        return float(getattr(self, precision)) * (WIDE_SHARE if wide else SHARE)


GPUS = {"A100": Gpu(19.5e12, 156e12, 312e12, 1.2e12), "H100": Gpu(67e12, 494e12, 989e12, 2.2e12)}  # classes
SHARE = 0.2  # of the peak that convolutions of usual networks reach
WIDE_SHARE = 0.5  # that convolutions of 512 or more channels reach
WIDE = 512
START_S = 6e-6  # that the host takes to start one operation
PICK_S, PICK_S_PER_POINT = 20e-6, 6.5e-12  # of a coreset of points of 128 dimensions on an H100 (gpu.py); else by memory's pace
CPU_SECONDS_PER_JOB = 4.0  # metrics with their intervals, reading features, writing results
MVTEC_AD = {  # images: train, test
    "carpet": (280, 117), "grid": (264, 78), "leather": (245, 124), "tile": (230, 117), "wood": (247, 79), "bottle": (209, 83),
    "cable": (224, 150), "capsule": (219, 132), "hazelnut": (391, 110), "metal_nut": (220, 115), "pill": (267, 167),
    "screw": (320, 160), "toothbrush": (60, 42), "transistor": (213, 100), "zipper": (240, 151),
}  # fmt: skip


def stand_in(root: Path) -> Path:
    """Write as many tiny images as MVTec AD has, all of them good, and return the folder."""
    for category, counts in MVTEC_AD.items():
        for split, count in zip(("train", "test"), counts, strict=True):
            folder = root / category / split / "good"
            folder.mkdir(parents=True)
            for index in range(count):
                Image.new("L", (8, 8)).save(folder / f"{index:03}.png")
    return root


@cache
def of_backbone(name: str, size: int) -> float:
    """Return the operations of one forward pass, a multiply-add counted as two."""
    family, canonical = find(name)
    with torch.device("meta"), FlopCounterMode(display=False) as counter, torch.no_grad():
        network = family.build(bare(canonical)).eval().requires_grad_(False)  # the counter looks at what parameters expand to
        network(torch.zeros(1, 3, size, size))
    return float(counter.get_total_flops())


@dataclass
class Work(TorchDispatchMode):
    """Counts what is done inside: operations of narrow and of wide products, bytes that all else moves, and calls."""

    narrow: float = 0
    wide: float = 0
    bytes: float = 0
    calls: int = 0

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_dispatch__(self, call: OpOverload, _: object, given: Any = (), named: Any = None) -> Any:
        out, packet = call(*given, **(named or {})), call.overloadpacket
        if call.is_view or call.namespace == "prim" or packet in _FREE:
            return out
        self.calls += 1
        tensors = [value for value in tree_leaves((given, named, out)) if isinstance(value, Tensor)]
        if packet not in flop_registry:
            self.bytes += sum(value.nbytes for value in tensors)
            return out
        weight = given[2 if packet is aten.convolution_backward else 1]
        work = flop_registry[packet](*given, **(named or {}), out_val=out)
        if min(weight.shape[:2]) >= WIDE:
            self.wide += work
        else:
            self.narrow += work
        return out

    def seconds(self, gpu: Gpu, precision: str) -> float:
        """Return the time on a GPU: of its work, or of the host's if that is more."""
        products = self.narrow / gpu.rate(precision) + self.wide / gpu.rate(precision, wide=True)
        return max(products + self.bytes / gpu.memory, self.calls * START_S)


_FREE = (aten.detach, aten._unsafe_view, aten.empty, aten.empty_like, aten.empty_strided, aten.new_empty, aten.new_empty_strided)


@cache
def of_step(
    kind: str, images: int, channels: int, side: int, hidden: float, steps: int, clamp: float, compute: torch.dtype
) -> Work:
    """Return the work of a training step on joined or single maps: of a FastFlow, an AsymST's teacher, or its student."""
    with FakeTensorMode():
        x, where = torch.empty(images, channels, side, side), torch.empty(1, 32, side, side)
        if kind == "fastflow":
            ratio = hidden or (1.0 if channels < 1024 else 0.25)
            network: nn.Module = Flow(OneSidedStep(channels, ratio, 1 if i % 2 else 3, clamp) for i in range(steps))
        elif kind == "teacher":
            network = Flow(TwoSidedStep(channels, int(hidden), kernel, clamp, 32) for kernel in (3, 3, 3, 5))
        else:
            network = Student(channels, int(hidden))
        for part in network.modules():
            if isinstance(part, Mixed):
                part.compute = compute
        with Work() as work:
            if kind == "student":
                F.mse_loss(network(x, where), x).backward()
            else:
                negative_log_likelihood(*network(x, *[where] * (kind == "teacher"))).mean().backward()
    work.bytes += 28 * sum(value.numel() for value in network.parameters())  # Adam: reads four float32 numbers, writes three
    work.calls += 10
    return work


def training_steps(job: Job, shapes: list[Shape]) -> list[Work]:
    """Return the work of the steps that a trained detector takes with each batch."""
    params, images = job.params, job.params["batch_size"]
    compute = torch.float32 if params.get("precision", "float32") == "float32" else torch.bfloat16
    if job.detector == "fastflow":
        given = params["hidden_ratio"], params["steps"], params["clamp"], compute
        return [of_step("fastflow", images, channels, side, *given) for channels, side, _ in shapes]
    channels, side, _ = joined_shape(shapes)
    given = params["steps"], params["clamp"], compute
    return [of_step(kind, images, channels, side, params[f"{kind}_hidden"], *given) for kind in ("teacher", "student")]


def of_patchcore(job: Job, shapes: list[Shape], train: int, test: int, gpu: Gpu) -> float:
    """Return the seconds of a coreset and of the distances to the bank."""
    detector = cast(PatchCore, make_detector(job.detector, job.params, job.seed))
    patch = detector._patch_shape(shapes)
    count, dim, picks = detector._sizes(train, patch)
    distances = 2 * test * patch[1] * patch[2] * patch[0] * picks / gpu.rate("float32")
    if detector.coreset == "approximate":  # passes over all points for each pick
        return count * dim * 4 * picks / gpu.memory + distances
    slower = GPUS["H100"].memory / gpu.memory
    return slower * picks * (PICK_S + PICK_S_PER_POINT * count) * (picks < count) + distances


def seconds(job: Job, group: Group, memo: Path, gpu: Gpu) -> dict[str, float]:
    """Return the parts of a job's time on the GPU."""
    shapes = map_shapes(describe(job.backbone, memo), job.layers, job.image_size, memo)
    images, test = len(group.inputs.category.train), len(group.inputs.category.test)
    train = (images if job.shots == ALL else min(images, job.shots)) * max(1, job.rotations)
    if job.detector == "patchcore":
        return {"patchcore": of_patchcore(job, shapes, train, test, gpu)}
    if job.detector not in ("fastflow", "asymst"):
        return {f"{job.detector} (not counted)": 0.0}
    given = job.params.get("precision", "float32")
    precision = {"float32": "tf32", "auto": "bfloat16"}.get(given, given)
    per_image = sum(work.seconds(gpu, precision) for work in training_steps(job, shapes)) / job.params["batch_size"]
    return {job.detector: per_image * (train * job.params["epochs"] + test / 3)}  # scores: a pass forward


def cost(name: str, data: Path, folder: Path) -> str:
    """Return a preset's jobs, passes, bytes and hours in a line."""
    spec: Spec = parse(preset_text(name))
    sets = {
        b.name: len(b.weights or spec.weights) for b in spec.backbones
    }  # of weights, which cost the same; random ones are at hand
    seeds, spec = len(spec.seeds), replace(spec, seeds=spec.seeds[:1])  # one extraction serves all, but not of random weights
    spec = replace(spec, data=None, weights=("random",), backbones=tuple(replace(b, weights=()) for b in spec.backbones))
    planned = plan_sweep(Workspace(str(data), folder), spec, folder / "results")
    forecaster, counts = Forecaster(planned.workspace.runtime(), planned.workspace.memo), Counter()
    hours = {kind: Counter() for kind in GPUS}
    for group in planned.plan.groups:
        times = sets[group.network.backbone]
        runs = times * seeds
        passes, written = forecaster.counts(group)
        counts.update(jobs=runs * len(group.jobs), passes=times * passes, bytes=times * written)
        images = len(group.inputs.category.train) + len(group.inputs.category.test)
        work = images * of_backbone(group.network.backbone, group.jobs[0].image_size)
        for kind, gpu in GPUS.items():
            hours[kind]["backbone"] += times * work / gpu.rate("float32") / 3600
            for job in group.jobs:
                hours[kind].update({part: runs * value / 3600 for part, value in seconds(job, group, folder, gpu).items()})
                hours[kind]["CPU"] += runs * CPU_SECONDS_PER_JOB / 3600
    shown = "; ".join(
        f"{kind} {sum(parts.values()):.2g} h ({', '.join(f'{part} {value:.2g}' for part, value in parts.items())})"
        for kind, parts in hours.items()
    )
    return (f"{name}: {counts['jobs']} jobs, {counts['passes']:,} forward passes, "
            f"{counts['bytes'] / 1e9:.0f} GB of cache, {shown}")  # fmt: skip


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        data = stand_in(Path(folder) / "data")
        for name in sys.argv[1:] or [
            "layers",
            "image-size",
            "pretraining-resnet50",
            "seeds",
            "layers-vit",
            "pretraining-vit",
            "convnext",
        ]:
            print(cost(name, data, Path(folder) / "work"))


if __name__ == "__main__":
    main()
