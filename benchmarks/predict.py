"""What `adbench predict` promises, on 1,000 fresh good images of each demo category: rate, memory, false positives.

Run: python benchmarks/predict.py FOLDER [DEVICE]
FOLDER keeps the drawn images (500 MB). Three questions, each answered by the command line in its own process:
1. False positives: a model is trained with --fpr, predict decides on fresh good images; is the share that it calls
   anomalous within the threshold's interval? (4 intervals of 95 %: all four hold them in about 4 of 5 runs.)
2. Memory: the process's resident set over time, read from /proc (Linux), and its peak with 100, 500 and 1,000 images.
3. Rate: wall time of the whole command, less what it takes for a few images, against that of `adbench extract` with the
   same images and layers, in turns; and the same of CPU seconds, which is fairer where other programs run on the machine.
   (The commands' own images per second cannot be compared: where nothing is cached, extract decodes before its clock starts.)
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from adbench.core.files import replacing
from adbench.data.layouts.demo import CATEGORIES, draw

TRAIN, FRESH = 160, 1000  # good images per category: to fit and to hold out from; to decide on
FEWER = (100, 500)
FEW = 8  # images of a run that is start-up for the most part
RATE, HELD = 0.05, 0.5
REPEATS = 3
LAYER = "blocks.4.2.add"
DETECTORS = {
    "patchcore 1 %": ("patchcore", "--param", "coreset_fraction=0.01"),
    "patchcore 10 %": ("patchcore",),
    "mahalanobis": ("mahalanobis",),
}
PAGE = os.sysconf("SC_PAGE_SIZE")


def draw_one(job: tuple[Path, str, str, int]) -> None:
    """Draw one good image unless it is there."""
    folder, category, split, number = job
    target = folder / split / category / "train" / "good" / f"{number:04d}.png"
    if not target.is_file():
        with replacing(target) as temporary:
            Image.fromarray(draw(category, split, "good", number)[0]).save(temporary, "PNG", compress_level=1)


class Run(NamedTuple):
    """What a command answered, (seconds, resident MB) while it ran, and the CPU seconds that it took."""

    answer: dict[str, Any]
    resident: list[tuple[float, float]]
    cpu: float

    def beyond(self, few: Run) -> tuple[float, float]:
        """Return the wall and CPU seconds that this took longer than a run of few images."""
        return self.resident[-1][0] - few.resident[-1][0], self.cpu - few.cpu


def adbench(*arguments: object) -> Run:
    """Run a command with --json."""
    command, before = [sys.executable, "-m", "adbench", *map(str, arguments), "--json", "--quiet"], cpu_of_children()
    with tempfile.TemporaryFile("w+") as answer, subprocess.Popen(command, stdout=answer) as process:
        resident = list(sampled(process))
        answer.seek(0)
        if process.returncode:
            sys.exit(f"{' '.join(command)} ended with {process.returncode}")
        return Run(json.load(answer), resident, cpu_of_children() - before)


def cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def sampled(process: subprocess.Popen[bytes]) -> Iterator[tuple[float, float]]:
    start = time.perf_counter()
    while process.poll() is None:
        pages = Path(f"/proc/{process.pid}/statm").read_text().split()
        if int(pages[1]):  # nothing is resident any more where a process has ended but is not yet waited for
            yield time.perf_counter() - start, int(pages[1]) * PAGE / 1e6
        time.sleep(0.05)


def memory(resident: list[tuple[float, float]]) -> str:
    """Return the resident MB at each fifth of the run."""
    end = resident[-1][0]
    fifths = [next(mb for at, mb in resident if at >= end * part / 5) for part in range(1, 6)]
    return f"resident MB at each fifth {' '.join(f'{mb:.0f}' for mb in fifths)}"


def peak(resident: list[tuple[float, float]]) -> float:
    return max(mb for _, mb in resident)


def false_positives(folder: Path, category: str, device: str) -> None:
    """Print the share of fresh good images called anomalous, beside the threshold's interval; and the memory."""
    fresh, model = folder / "fresh" / category, folder / f"{category}.safetensors"
    choice = (*DETECTORS["patchcore 1 %"], "efficientnet_lite0", LAYER, "--data", folder / "fit", "--category", category)
    where = ("--device", device, "--cache", folder / "cache")
    adbench("train", *choice, "--fpr", RATE, "--holdout", HELD, "--model", model, *where)
    found, resident, _ = adbench("predict", model, fresh, "--out", folder / "out" / category, *where)
    low, high = found["threshold"]["interval"]
    rate = found["anomalous"] / found["images"]
    print(
        f"{category}: asked {RATE:g}, expected {found['threshold']['expected']:.4f}, interval {low:.4f} to {high:.4f}, "
        f"found {found['anomalous']} of {found['images']}: {'within' if low <= rate <= high else 'OUTSIDE'}"
    )
    peaks = {FRESH: peak(resident)}
    for count in FEWER:
        images = sorted(fresh.rglob("*.png"))[:count]
        peaks[count] = peak(adbench("predict", model, *images, "--out", folder / "out" / category, *where).resident)
    told = ", ".join(f"{peaks[count]:.0f} MB with {count}" for count in sorted(peaks))
    print(f"  {memory(resident)}; peaks {told} images")


def rates(folder: Path, category: str, device: str) -> None:
    """Print images per second of extract, and of predict as a share of it, without, with few and with all pictures."""
    where = ("--device", device)
    for name, detector in DETECTORS.items():
        model = folder / f"{name.replace(' ', '')}.safetensors"
        data = ("--data", folder / "fit", "--category", category, "--model", model)
        adbench("train", *detector, "efficientnet_lite0", LAYER, *data, "--fpr", RATE, "--cache", folder / "cache", *where)
        walls: dict[str, list[float]] = {"none": [], "anomalous": [], "all": []}
        extracts, shares = [], {overlays: [] for overlays in walls}
        few = both(folder, folder / "few", category, model, where)
        for _ in range(REPEATS):
            many = both(folder, folder / "fresh", category, model, where)
            (wall, cpu), *others = (found.beyond(start) for found, start in zip(many, few, strict=True))
            extracts.append(wall)
            for overlays, (seconds, used) in zip(walls, others, strict=True):
                walls[overlays].append(wall / seconds)
                shares[overlays].append(cpu / used)
        rate = (FRESH - FEW) / statistics.median(extracts)
        print(f"{name}: extract {rate:.1f} images/s; predict's share of it by pictures:")
        for overlays in walls:
            print(f"  {overlays}: wall {told(walls[overlays])}; CPU {told(shares[overlays])}", flush=True)


def both(folder: Path, images: Path, category: str, model: Path, where: tuple[str, str]) -> list[Run]:
    """Return a run of extract, and of predict with no, few and all pictures."""
    with tempfile.TemporaryDirectory(dir=folder) as empty:
        data = ("--data", images, "--category", category, "--cache", empty)
        runs = [adbench("extract", "efficientnet_lite0", LAYER, *data, *where)]
    for overlays in ("none", "anomalous", "all"):
        options = ("--out", folder / "out" / "rate", "--overlays", overlays, "--cache", folder / "cache")
        runs.append(adbench("predict", model, images / category, *options, *where))
    return runs


def told(shares: list[float]) -> str:
    return f"{statistics.median(shares):.2f} ({min(shares):.2f} to {max(shares):.2f})"


if __name__ == "__main__":
    place, processor = Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "cpu"
    splits = {"fit": TRAIN, "fresh": FRESH, "few": FEW}
    with ProcessPoolExecutor() as pool:
        jobs = [(place, c, split, k) for split, count in splits.items() for c in CATEGORIES for k in range(count)]
        list(pool.map(draw_one, jobs, chunksize=32))
    for part in CATEGORIES:
        false_positives(place, part, processor)
    rates(place, "nut", processor)
