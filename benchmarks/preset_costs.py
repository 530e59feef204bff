"""What a preset costs on MVTec AD, for the heads of the presets. Run: python benchmarks/preset_costs.py layers image-size

Forward passes and bytes of cache are what `sweep --dry-run` says of a stand-in with MVTec AD's number of images. Hours are
an estimate for one A100-class GPU: multiply-adds of backbones and detectors at SUSTAINED, PatchCore's coreset at the pace of
memory, and what the CPU does between them; expect a factor of two either way.
"""

import sys
import tempfile
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path

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

SUSTAINED = 30e12  # floating-point operations per second of convolutions in TF32, a fifth of an A100's peak
MEMORY = 1.2e12  # bytes per second
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
def of_training(name: str, given: tuple[tuple[str, object], ...], channels: int, side: int) -> float:
    """Return the operations of training on one image: forward and backward (twice as much) through all epochs."""
    params = dict(given)
    with torch.device("meta"):
        x, where = torch.zeros(1, channels, side, side), position_map(32, side, side)
        if name == "fastflow":
            ratio = params["hidden_ratio"] or (1.0 if channels < 1024 else 0.25)
            steps = [OneSidedStep(channels, ratio, 1 if i % 2 else 3, params["clamp"]) for i in range(params["steps"])]
            return 3 * flops(Flow(steps), x) * params["epochs"]
        hidden, clamp = params["teacher_hidden"], params["clamp"]
        teacher = Flow(TwoSidedStep(channels, hidden, kernel, clamp, 32) for kernel in (3, 3, 3, 5))
        student = Student(channels, params["student_hidden"])
        return 3 * (flops(teacher, x, where) + flops(student, x, where)) * params["epochs"]


def seconds(job: Job, group: Group, memo: Path) -> dict[str, float]:
    """Return the parts of a job's time on the GPU."""
    channels, side = shape(job, memo)
    train, test = len(group.inputs.category.train), len(group.inputs.category.test)
    if job.detector != "patchcore":
        work = of_training(job.detector, tuple(job.params.items()), channels, side)
        return {job.detector: work * (train + test / job.params["epochs"] / 3) / SUSTAINED}
    cells = train * side**2
    picks = min(job.params["coreset_fraction"] * cells, job.params["coreset_max"] or cells)
    return {"patchcore": cells * channels * 4 * picks / MEMORY + 2 * test * side**2 * channels * picks / SUSTAINED}


def cost(name: str, data: Path, folder: Path) -> str:
    """Return a preset's jobs, passes, bytes and hours in a line."""
    spec: Spec = parse(preset_text(name))
    sets = {
        b.name: len(b.weights or spec.weights) for b in spec.backbones
    }  # of weights, which cost the same; random ones are at hand
    spec = replace(spec, data=None, weights=("random",), backbones=tuple(replace(b, weights=()) for b in spec.backbones))
    planned = plan_sweep(Workspace(str(data), folder), spec, folder / "results")
    forecaster, hours, counts = Forecaster(planned.workspace.runtime(), planned.workspace.memo), Counter(), Counter()
    for group in planned.plan.groups:
        times = sets[group.network.backbone]
        passes, written = forecaster.counts(group)
        counts.update(jobs=times * len(group.jobs), passes=times * passes, bytes=times * written)
        images = len(group.inputs.category.train) + len(group.inputs.category.test)
        hours["backbone"] += times * images * of_backbone(group.network.backbone, group.jobs[0].image_size) / SUSTAINED / 3600
        for job in group.jobs:
            hours.update({part: times * value / 3600 for part, value in seconds(job, group, folder).items()})
            hours["CPU"] += times * CPU_SECONDS_PER_JOB / 3600
    parts = ", ".join(f"{part} {value:.2g}" for part, value in hours.items())
    return (f"{name}: {counts['jobs']} jobs, {counts['passes']:,} forward passes, "
            f"{counts['bytes'] / 1e9:.0f} GB of cache, {sum(hours.values()):.2g} h ({parts})")  # fmt: skip


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
