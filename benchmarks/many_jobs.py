"""Time and memory of a sweep's bookkeeping: plan, resume and report on many jobs. Run: python benchmarks/many_jobs.py [100000]

Nothing is extracted: the categories exist in memory alone, and the results are written with made-up numbers. Each step
runs in a process of its own, so that its peak of resident memory is its own.
"""

import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from adbench.metrics import ORDER
from adbench.results import ResultStore
from adbench.types import Category, Result, Sample

LAYERS = ("blocks.1.1.add", "blocks.2.1.add", "blocks.4.2.add", "blocks.6.0.bn3")
CATEGORIES, SIZES, DETECTORS = (
    50,
    (192, 224, 256, 320, 384),
    ("patchcore", "fastflow", "asymst", "padim", "mahalanobis"),
)


def category(index: int) -> Any:
    """Return the inputs of a category of 50 images that lie nowhere."""
    from adbench.datasets.check import FileFacts
    from adbench.inputs import Inputs

    samples = [
        Sample(Path(f"/nowhere/{index}/{i}.png"), f"{i}.png", "cut" if i > 39 else "good", () if i < 40 else None)
        for i in range(50)
    ]
    facts = {sample.path: FileFacts(f"{index:032x}{i:032x}", 256, 256) for i, sample in enumerate(samples)}
    return Inputs(Category("nowhere", f"part{index:02d}", tuple(samples[:20]), tuple(samples[20:])), facts)


def plan(folder: Path, jobs: int) -> Any:
    """Return a plan of about so many jobs."""
    from adbench.planning import make_plan
    from adbench.spec import Choice, Spec

    grid = CATEGORIES * len(SIZES) * len(LAYERS) * len(DETECTORS)
    choices = tuple(Choice(name) for name in DETECTORS)
    spec = Spec(layers=LAYERS, image_sizes=SIZES, detectors=choices, seeds=tuple(range(max(1, round(jobs / grid)))))
    return make_plan(spec, [category(i) for i in range(CATEGORIES)], folder / "memo", offline=True)


def made_up(result_jobs: Any, store: ResultStore) -> None:
    """Write a result for every job."""
    numbers = random.Random(0)
    for job in result_jobs.jobs:
        metrics: dict[str, float | None] = {name: numbers.random() for name in ORDER}
        cost: dict[str, float | None] = {"extract_s": 1.5, "fit_s": numbers.random(), "images_per_second": 10.0}
        environment = {"torch": "2.14.1", "numpy": "2.4", "machine": "x86_64", "threads": 2, "accelerator": None}
        details = {"bank_size": 4096, "receptive_field_px": 95, "intervals": {n: [0.1, 0.9] for n in ORDER}}
        store.write(Result(job, "done", None, metrics, cost, environment, details))


def step(name: str, folder: Path, jobs: int) -> None:
    """Run one step and print its seconds and its peak of resident memory."""
    store = ResultStore(folder / "out")
    started = time.perf_counter()
    if name == "report":
        from adbench.reporting import View, make_report, render

        count = len(render(make_report(folder / "out", View()), "table"))
    else:
        planned = plan(folder, jobs)
        store.write_plan("many", planned.jobs)
        count = planned.pending(store).runnable
        if name == "fill":
            made_up(planned, store)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    unit = "characters" if name == "report" else "jobs to run"
    print(
        f"{name:8} {time.perf_counter() - started:6.1f} s  {time.process_time():6.1f} s CPU  {peak:6.0f} MiB  {count} {unit}",
        flush=True,
    )


def main() -> None:
    """Run all steps; called again for each of them."""
    if len(sys.argv) == 4:
        return step(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
    jobs = sys.argv[1] if len(sys.argv) > 1 else "100000"
    with tempfile.TemporaryDirectory() as folder:
        for name in ("plan", "fill", "resume", "report"):
            subprocess.run([sys.executable, __file__, name, folder, jobs], check=True)


if __name__ == "__main__":
    main()
