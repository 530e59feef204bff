"""Time and memory of a sweep's bookkeeping: plan, resume and report on many jobs. Run: python benchmarks/many_jobs.py [100000]

Nothing is extracted: images are tiny, and results of the usual size are written with made-up numbers. Each step is a process
of its own. `first` plans with an empty cache, as a sweep in workers or on a cluster does: a process beside it loads torch to
look at the network and the detectors. `plan` is the next one, into an empty results folder; `resume` and `report` are the
commands. The images are checked before, as their first check keeps pixels for the passes.
"""

import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from adbench.metrics import ORDER
from adbench.metrics.support.breakdown import SIZES
from adbench.sweep.spec import parse
from adbench.sweep.workspace import Workspace
from adbench.types import Job, Result

GRID = {
    "layers": ["blocks.1.1.add", "blocks.2.1.add", "blocks.4.2.add", "blocks.6.0.bn3"],
    "image_sizes": [192, 224, 256, 320, 384],
    "detectors": ["patchcore", "fastflow", "asymst", "padim", "mahalanobis"],
}
CATEGORIES, SIDE = 50, 32
SPLITS = {"train/good": 20, "test/good": 20, "test/cut": 10, "ground_truth/cut": 10}
KINDS, AREAS = ("cut", "hole", "scratch", "stain"), SIZES  # of defects, in a result's details


def images(folder: Path) -> None:
    """Write tiny images in MVTec's layout, and let them be checked."""
    numbers = np.random.default_rng(0)
    for category in range(CATEGORIES):
        for split, count in SPLITS.items():
            target = folder / f"data/part{category:02d}/{split}"
            target.mkdir(parents=True)
            for index in range(count):
                mask = "ground_truth" in split
                pixels = numbers.integers(0, 256, (SIDE, SIDE) if mask else (SIDE, SIDE, 3), np.uint8)
                Image.fromarray(pixels).save(target / f"{index:03d}{'_mask' if mask else ''}.png")
    workspace(folder, "cache").inputs()


def workspace(folder: Path, cache: str) -> Workspace:
    """Return where the sweep works."""
    return Workspace(str(folder / "data"), folder / cache, device="cpu", offline=True)


def plan(folder: Path) -> None:
    """Plan the sweep as its command does before the first job, and store the plan."""
    from adbench.sweep.run import plan_sweep

    planned = plan_sweep(
        workspace(folder, "cache"), parse((folder / "spec.yaml").read_text()), folder / "out", in_subprocess=True
    )
    planned.results.write_plan(planned.plan.name, planned.plan.jobs, planned.command)
    own, beside = (resource.getrusage(who).ru_maxrss >> 10 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print(f"        {own} MiB is the process that plans; {beside} MiB one beside it, with torch", file=sys.stderr, flush=True)


def fill(folder: Path) -> None:
    """Write a result for every job."""
    from adbench.sweep.results import ResultStore

    store, numbers = ResultStore(folder / "out"), random.Random(0)
    for job in store.planned():
        store.write(made_up(job, numbers))


def made_up(job: Job, numbers: random.Random) -> Result:
    """Return a result with all that those of real jobs have."""
    from adbench.core.environment import environment
    from adbench.sweep.pipeline import COST_KEYS

    def metrics() -> dict[str, float | None]:
        return {name: round(numbers.random(), 6) for name in ORDER}

    details = {
        "bank_channels": 40, "bank_patches": 3276, "receptive_field_px": 67, "resamples": "20c8faed6aa8b298",
        "intervals": {name: [round(numbers.random(), 6), round(numbers.random(), 6)] for name in ORDER},
        "by_defect": {kind: {"images": 6, **metrics()} for kind in KINDS},
        "by_side": {area: {"images": 6, "regions": 7, **metrics()} for area in AREAS},
    }  # fmt: skip
    cost: dict[str, float | None] = {name: numbers.random() for name in COST_KEYS}
    exact: dict[str, float | None] = {name: numbers.random() for name in ORDER}
    return Result(job, "done", None, exact, cost, environment(), details)


def measured(name: str, command: list[str]) -> None:
    """Run a command; print its seconds and its peak of resident memory, or that of a process which it starts."""
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    assert status == 0, f"{name}: status {status}"
    seconds, cpu = time.perf_counter() - started, used.ru_utime + used.ru_stime
    print(f"{name:7} {seconds:6.1f} s  {cpu:6.1f} s CPU  {used.ru_maxrss / 1024:6.0f} MiB", flush=True)


def run(folder: Path, jobs: int) -> None:
    """Run and measure all steps in an empty folder."""
    grid = CATEGORIES * np.prod([len(values) for values in GRID.values()])
    (folder / "spec.yaml").write_text(yaml.safe_dump(GRID | {"seeds": list(range(max(1, round(jobs / grid))))}))
    place = ["--data", str(folder / "data"), "--out", str(folder / "out"), "--cache", str(folder / "cache")]
    for name in ("images", "first"):
        measured(name, [__file__, "images" if name == "images" else "plan", str(folder)])
    (folder / "out").rename(folder / "first")
    for name in ("plan", "fill"):
        measured(name, [__file__, name, str(folder)])
    measured("resume", ["-m", "adbench", "--quiet", "sweep", "--spec", str(folder / "spec.yaml"), "--offline", *place])
    measured("report", ["-m", "adbench", "--quiet", "report", str(folder / "out")])


def main() -> None:
    """Run all steps; called again for each of them."""
    steps = {"images": images, "plan": plan, "fill": fill}
    if len(sys.argv) == 3:
        return steps[sys.argv[1]](Path(sys.argv[2]))
    with tempfile.TemporaryDirectory() as folder:
        run(Path(folder), int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)


if __name__ == "__main__":
    main()
