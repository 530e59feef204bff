"""Time of the greedy coreset against the textbook loop, and its growth with N. Run: python benchmarks/coreset.py [THREADS]

The textbook loop has its squared norms once, then one float32 matrix-vector product (numpy) a pick; it is run for a part
of the picks and multiplied up, as each takes the same time. Both run in turn, the median of the ratios counts.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable

THREADS = sys.argv[1] if len(sys.argv) > 1 else "1"
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = THREADS  # before numpy and torch read them

import numpy as np  # noqa: E402
import torch  # noqa: E402

from adbench.detectors.coreset import greedy_coreset  # noqa: E402

REPEATS, DIM, COUNT, FRACTION, PART = 5, 128, 40_960, 10, 8
SIZES, FIXED_PICKS = (25_000, 50_000, 100_000, 200_000), 2_000


def textbook(points: np.ndarray, num_picks: int) -> list[int]:
    """Return the picks of the plain loop, in float32."""
    norms = np.einsum("ij,ij->i", points, points)
    far, picks = np.full(len(points), np.inf, np.float32), [0]
    while len(picks) < num_picks:
        last = picks[-1]
        np.minimum(far, norms + norms[last] - 2 * (points @ points[last]), out=far)
        far[last] = -1
        picks.append(int(far.argmax()))
    return picks


def low_rank(count: int) -> np.ndarray:
    """Return standardised points of 16 directions and some noise: like features of a layer, projected."""
    rng = np.random.default_rng(0)
    points = rng.normal(size=(count, 16)) @ rng.normal(size=(16, DIM)) + 0.3 * rng.normal(size=(count, DIM))
    return ((points - points.mean(0)) / points.std(0)).astype(np.float32)


def clustered(count: int) -> np.ndarray:
    """Return points of 200 clusters."""
    rng = np.random.default_rng(0)
    return (rng.normal(size=(200, DIM))[rng.integers(200, size=count)] + 0.2 * rng.normal(size=(count, DIM))).astype(
        "f4"
    )


def gaussian(count: int) -> np.ndarray:
    """Return points without any structure, the worst case."""
    return np.random.default_rng(0).normal(size=(count, DIM)).astype(np.float32)


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def peak_flops() -> float:
    """Return the rate of a float32 product that stays in the cache, in operations per second."""
    left, right = torch.randn(512, DIM), torch.randn(DIM, 512)
    return 2 * 512 * 512 * DIM / statistics.median(seconds(lambda: left @ right) for _ in range(200))


def compare(kind: Callable[[int], np.ndarray]) -> None:
    points, picks = kind(COUNT), COUNT // FRACTION
    ours, theirs = [], []
    for _ in range(REPEATS):
        ours.append(seconds(lambda: greedy_coreset(points, picks)))
        theirs.append(PART * seconds(lambda: textbook(points, picks // PART)))
    ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    limit = 2 * COUNT * picks * DIM / peak_flops()
    mine = statistics.median(ours)
    print(f"{kind.__name__:10} {mine:6.2f} s, textbook {statistics.median(theirs):6.2f} s, ratio {ratio:.3f}", end="")
    print(f"; all products at peak speed would take {limit:.2f} s ({mine / limit:.2f} of it)")


def growth() -> None:
    """Print the time at a fixed number of picks and the exponent of N that fits it."""
    times = []
    for count in SIZES:
        points = low_rank(count)
        times.append(
            statistics.median(seconds(lambda points=points: greedy_coreset(points, FIXED_PICKS)) for _ in range(3))
        )
        print(f"N = {count:7,}: {times[-1]:6.2f} s")
    print(f"exponent of N at {FIXED_PICKS:,} picks: {np.polyfit(np.log(SIZES), np.log(times), 1)[0]:.2f}")


if __name__ == "__main__":
    torch.set_num_threads(int(THREADS))
    print(f"{THREADS} thread(s), {COUNT:,} points of {DIM} dimensions, {COUNT // FRACTION:,} picks")
    for kind in (low_rank, clustered, gaussian):
        compare(kind)
    growth()
