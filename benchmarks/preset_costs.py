"""What a preset costs on MVTec AD, for the heads of the presets. Run: python benchmarks/preset_costs.py layers image-size

Forward passes and bytes of cache are what `sweep --dry-run` says of a stand-in with MVTec AD's number of images. Hours are
computed, not measured: operations of backbones and detectors, counted, at a share of each GPU's peak for the precision, the
coreset of PatchCore at the pace of memory, and what the CPU does between them; expect a factor of two either way.
"""

import sys
import tempfile
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from adbench.backbones.families import bare, find
from adbench.backbones.layers import describe, map_shapes
from adbench.detectors.asymst import Student
from adbench.detectors.training.flows import Flow, OneSidedStep, TwoSidedStep, position_map
from adbench.sweep.forecast import Forecaster
from adbench.sweep.plan import Group
from adbench.sweep.run import plan_sweep
from adbench.sweep.spec import Spec, parse, preset_text
from adbench.sweep.workspace import Workspace
from adbench.types import Job


class Gpu(NamedTuple):
    """Peak operations per second of dense products in TF32 and in bfloat16, and bytes per second of memory as it is reached."""

    float32: float
    bfloat16: float
    memory: float

    def rate(self, precision: str, wide: bool = False) -> float:
        """Return the operations per second that are reached."""
        peak = self.bfloat16 if precision == "bfloat16" else self.float32
        return peak * (WIDE_SHARE if wide else SHARE)


GPUS = {"A100": Gpu(156e12, 312e12, 1.2e12), "H100": Gpu(494e12, 989e12, 2.2e12)}  # classes
SHARE = 0.2  # of the peak that convolutions of usual networks reach between their passes over memory
WIDE_SHARE = 0.4  # that convolutions of 512 or more channels reach, AsymST's student at its default: nearly all is products
WIDE = 512
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


def flops(module: torch.nn.Module, *inputs: torch.Tensor) -> float:
    """Return the operations of one forward pass on the meta device, a multiply-add counted as two."""
    module.requires_grad_(False)  # the counter looks for gradients of what is expanded from a parameter
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(*inputs)
    return float(counter.get_total_flops())


@cache
def of_backbone(name: str, size: int) -> float:
    family, canonical = find(name)
    with torch.device("meta"):
        return flops(family.build(bare(canonical)).eval(), torch.zeros(1, 3, size, size))


def shape(job: Job, memo: Path) -> tuple[int, int]:
    """Channels and side of a job's feature map."""
    ((channels, side, _),) = map_shapes(describe(job.backbone, memo), job.layers, job.image_size, memo)
    return channels, side


@cache
def of_training(name: str, given: tuple[tuple[str, object], ...], channels: int, side: int) -> dict[bool, float]:
    """Return the operations of training on one image: forward and backward (twice as much) through all epochs; by width."""
    params = dict(given)
    with torch.device("meta"):
        x, where = torch.zeros(1, channels, side, side), position_map(32, side, side)
        if name == "fastflow":
            ratio = params["hidden_ratio"] or (1.0 if channels < 1024 else 0.25)
            steps = [OneSidedStep(channels, ratio, 1 if i % 2 else 3, params["clamp"]) for i in range(params["steps"])]
            return {False: 3 * flops(Flow(steps), x) * params["epochs"]}
        hidden, clamp = params["teacher_hidden"], params["clamp"]
        teacher = Flow(TwoSidedStep(channels, hidden, kernel, clamp, 32) for kernel in (3, 3, 3, 5))
        works = Counter({False: flops(teacher, x, where)})
        works[params["student_hidden"] >= WIDE] += flops(Student(channels, params["student_hidden"]), x, where)
        return {wide: 3 * work * params["epochs"] for wide, work in works.items()}


def seconds(job: Job, group: Group, memo: Path, gpu: Gpu) -> dict[str, float]:
    """Return the parts of a job's time on the GPU."""
    channels, side = shape(job, memo)
    train, test = len(group.inputs.category.train), len(group.inputs.category.test)
    if job.detector != "patchcore":
        works = of_training(job.detector, tuple(job.params.items()), channels, side)
        precision = job.params.get("precision", "float32")
        per_image = sum(work / gpu.rate(precision, wide) for wide, work in works.items())
        return {job.detector: per_image * (train + test / job.params["epochs"] / 3)}
    cells = train * side**2
    picks = min(job.params["coreset_fraction"] * cells, job.params["coreset_max"] or cells)
    products = 2 * test * side**2 * channels * picks / gpu.rate("float32")
    return {"patchcore": cells * channels * 4 * picks / gpu.memory + products}


def cost(name: str, data: Path, folder: Path) -> str:
    """Return a preset's jobs, passes, bytes and hours in a line."""
    spec: Spec = parse(preset_text(name))
    sets = {
        b.name: len(b.weights or spec.weights) for b in spec.backbones
    }  # of weights, which cost the same; random ones are at hand
    spec = replace(spec, data=None, weights=("random",), backbones=tuple(replace(b, weights=()) for b in spec.backbones))
    planned = plan_sweep(Workspace(str(data), folder), spec, folder / "results")
    forecaster, counts = Forecaster(planned.workspace.runtime(), planned.workspace.memo), Counter()
    hours = {kind: Counter() for kind in GPUS}
    for group in planned.plan.groups:
        times = sets[group.network.backbone]
        passes, written = forecaster.counts(group)
        counts.update(jobs=times * len(group.jobs), passes=times * passes, bytes=times * written)
        images = len(group.inputs.category.train) + len(group.inputs.category.test)
        work = images * of_backbone(group.network.backbone, group.jobs[0].image_size)
        for kind, gpu in GPUS.items():
            hours[kind]["backbone"] += times * work / gpu.rate("float32") / 3600
            for job in group.jobs:
                hours[kind].update({part: times * value / 3600 for part, value in seconds(job, group, folder, gpu).items()})
                hours[kind]["CPU"] += times * CPU_SECONDS_PER_JOB / 3600
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
