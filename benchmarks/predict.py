"""What `adbench predict` promises, on 1,000 fresh good images of each demo category: rate, memory, false positives.

Run: python benchmarks/predict.py FOLDER [DEVICE]
FOLDER keeps the drawn images (500 MB). Three questions, each answered by the command line in its own process:
1. False positives: a model is trained with --fpr, predict decides on fresh good images; is the share that it calls
   anomalous within the threshold's interval? (4 intervals of 95 %: all four hold them in about 4 of 5 runs.)
2. Memory: the process's resident set over time, read from /proc (Linux).
3. Rate: images per second against `adbench extract` with the same images and layers, in turns.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from PIL import Image

from adbench.datasets.demo import CATEGORIES, draw
from adbench.files import replacing

TRAIN, FRESH = 160, 1000  # good images per category: to fit and to hold out from; to decide on
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


def adbench(*arguments: object) -> tuple[dict[str, object], list[tuple[float, float]]]:
    """Run a command with --json; return its document and (seconds, resident MB) while it ran."""
    command = [sys.executable, "-m", "adbench", *map(str, arguments), "--json", "--quiet"]
    with tempfile.TemporaryFile("w+") as answer, subprocess.Popen(command, stdout=answer) as process:
        resident = list(sampled(process))
        answer.seek(0)
        if process.returncode:
            sys.exit(f"{' '.join(command)} ended with {process.returncode}")
        return json.load(answer), resident


def sampled(process: subprocess.Popen[bytes]) -> Iterator[tuple[float, float]]:
    start = time.perf_counter()
    while process.poll() is None:
        pages = Path(f"/proc/{process.pid}/statm").read_text().split()
        if int(pages[1]):  # nothing is resident any more where a process has ended but is not yet waited for
            yield time.perf_counter() - start, int(pages[1]) * PAGE / 1e6
        time.sleep(0.05)


def memory(resident: list[tuple[float, float]]) -> str:
    """Return the resident MB at each fifth of the run, and its peak."""
    end = resident[-1][0]
    fifths = [next(mb for at, mb in resident if at >= end * part / 5) for part in range(1, 6)]
    return f"resident MB at each fifth {' '.join(f'{mb:.0f}' for mb in fifths)}, peak {max(m for _, m in resident):.0f}"


def false_positives(folder: Path, category: str, device: str) -> None:
    """Print the share of fresh good images called anomalous, beside the threshold's interval; and the memory."""
    fresh, model = folder / "fresh" / category, folder / f"{category}.safetensors"
    choice = (
        *DETECTORS["patchcore 1 %"],
        "efficientnet_lite0",
        LAYER,
        "--data",
        folder / "fit",
        "--category",
        category,
    )
    where = ("--device", device, "--cache", folder / "cache")
    adbench("train", *choice, "--fpr", RATE, "--holdout", HELD, "--model", model, *where)
    found, resident = adbench("predict", model, fresh, "--out", folder / "out" / category, *where)
    low, high = found["threshold"]["interval"]
    rate = found["anomalous"] / found["images"]
    print(
        f"{category}: asked {RATE:g}, expected {found['threshold']['expected']:.4f}, interval {low:.4f} to {high:.4f}, "
        f"found {found['anomalous']} of {found['images']}: {'within' if low <= rate <= high else 'OUTSIDE'}"
    )
    print(f"  {memory(resident)}")


def rates(folder: Path, category: str, device: str) -> None:
    """Print images per second of extract, and of predict as a share of it, without, with few and with all pictures."""
    fresh, where = folder / "fresh", ("--device", device)
    for name, detector in DETECTORS.items():
        model = folder / f"{name.replace(' ', '')}.safetensors"
        data = ("--data", folder / "fit", "--category", category, "--model", model)
        adbench(
            "train", *detector, "efficientnet_lite0", LAYER, *data, "--fpr", RATE, "--cache", folder / "cache", *where
        )
        extracted, shares = [], {"none": [], "anomalous": [], "all": []}
        for _ in range(REPEATS):
            with tempfile.TemporaryDirectory(dir=folder) as empty:
                data = ("--data", fresh, "--category", category, "--cache", empty)
                speed = adbench("extract", "efficientnet_lite0", LAYER, *data, *where)[0]["images_per_second"]
            extracted.append(speed)
            for overlays, found in shares.items():
                options = ("--out", folder / "out" / "rate", "--overlays", overlays, "--cache", folder / "cache")
                done = adbench("predict", model, fresh / category, *options, *where)[0]
                found.append(done["images_per_second"] / speed)
        told = ", ".join(f"{overlays} {statistics.median(found):.2f}" for overlays, found in shares.items())
        print(f"{name}: extract {statistics.median(extracted):.1f} images/s; predict's share of it by pictures: {told}")


if __name__ == "__main__":
    place, processor = Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "cpu"
    splits = {"fit": TRAIN, "fresh": FRESH}
    with ProcessPoolExecutor() as pool:
        jobs = [(place, c, split, k) for split, count in splits.items() for c in CATEGORIES for k in range(count)]
        list(pool.map(draw_one, jobs, chunksize=32))
    for part in CATEGORIES:
        false_positives(place, part, processor)
    rates(place, "nut", processor)
