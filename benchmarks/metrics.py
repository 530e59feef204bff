"""Time and memory of all seven metrics, against one full argsort of all pixels. Run: python benchmarks/metrics.py"""

import statistics
import time
import tracemalloc
from collections.abc import Callable
from functools import partial

import numpy as np
from scipy import ndimage

from adbench.metrics import components, evaluate
from adbench.types import Scores, Truth

REPEATS = 5


def make(images: int, side: int) -> tuple[Scores, Truth]:
    """Return normal noise; in 7 of 10 images two squares score higher. About 3 % of the pixels are defective."""
    rng = np.random.default_rng(0)
    maps = rng.standard_normal((images, side, side)).astype(np.float32)
    masks = np.zeros(maps.shape, dtype=bool)
    for mask in masks[: images * 7 // 10]:
        for y, x in rng.integers(0, side * 6 // 7, (2, 2)):
            mask[y : y + side // 7, x : x + side // 7] = True
    maps[masks] += 2
    return Scores(maps.max(axis=(1, 2)), maps), Truth(masks.any(axis=(1, 2)), masks)


def reference(scores: Scores, truth: Truth) -> float:
    """Return AU-PRO up to 0.3 the plain way (scores without ties): every pixel sorted with its weight."""
    weights = np.zeros(scores.maps.shape)
    regions = 0
    for mask, weight in zip(truth.masks, weights, strict=True):
        labels, count = ndimage.label(mask, np.ones((3, 3)))
        weight[mask] = 1 / np.bincount(labels.ravel())[labels[mask]]
        regions += count
    order = np.argsort(scores.maps.ravel())[::-1]
    weights = weights.ravel()[order]
    rate = np.cumsum(weights == 0) / np.count_nonzero(weights == 0)
    overlap = np.cumsum(weights) / regions
    inside = rate <= 0.3
    return float(np.trapezoid(overlap[inside], rate[inside]) / 0.3)


def measure(call: Callable[[], object]) -> tuple[float, float, float]:
    """Return the medians of wall and CPU seconds, and the peak of allocated bytes."""
    wall, cpu = [], []
    for _ in range(REPEATS):
        start = time.perf_counter(), time.process_time()
        call()
        wall.append(time.perf_counter() - start[0])
        cpu.append(time.process_time() - start[1])
    tracemalloc.start()
    call()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return statistics.median(wall), statistics.median(cpu), peak


def main() -> None:
    """Print one table row per size and method."""
    print(f"{'maps':>14} {'method':>24} {'wall s':>7} {'CPU s':>7} {'memory / maps':>13} {'speed-up':>8} {'AU-PRO':>9}")
    for images, side in ((100, 256), (20, 1024)):
        scores, truth = make(images, side)
        regions = components(truth.masks)
        methods = {
            "full argsort, AU-PRO only": partial(reference, scores, truth),
            "all seven metrics": lambda s=scores, t=truth: evaluate(s, t)["aupro"],
            "all seven, regions given": lambda s=scores, t=truth, r=regions: evaluate(s, t, regions=r)["aupro"],
        }
        baseline = None
        for name, call in methods.items():
            value = call()
            wall, cpu, peak = measure(call)
            baseline = baseline or cpu
            row = f"{wall:7.3f} {cpu:7.3f} {peak / scores.maps.nbytes:13.2f} {baseline / cpu:8.1f} {value:9.6f}"
            print(f"{images:>5} x {side}^2 {name:>26} {row}")


if __name__ == "__main__":
    main()
