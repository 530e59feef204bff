"""Time of the greedy coreset against the textbook loop and peers, its coverage radius, and its growth with N.

Run: python benchmarks/coreset.py [--threads N] [--peer-python PATH] [--patchcore-inspection DIR]. The textbook loop has its
squared norms once, then one float32 matrix-vector product (numpy) a pick. It and the peers are run for a part of the picks
and multiplied up, as each takes the same time.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from common import Peer, Timing, arguments, copy_bandwidth, exponent, in_turn, local, middle, peak_flops, show, timed

OPTIONS = arguments(__doc__)

import numpy as np  # noqa: E402
import torch  # noqa: E402

from adbench.detectors.search.coreset import greedy_coreset  # noqa: E402

DIM, COUNT, FRACTION, PART = 128, 40_960, 10, 8
PEER_STEPS = 128
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
    """Return standardized points of 16 directions and some noise: like features of a layer, projected."""
    rng = np.random.default_rng(0)
    points = rng.normal(size=(count, 16)) @ rng.normal(size=(16, DIM)) + 0.3 * rng.normal(size=(count, DIM))
    return ((points - points.mean(0)) / points.std(0)).astype(np.float32)


def clustered(count: int) -> np.ndarray:
    """Return points of 200 clusters."""
    rng = np.random.default_rng(0)
    return (rng.normal(size=(200, DIM))[rng.integers(200, size=count)] + 0.2 * rng.normal(size=(count, DIM))).astype("f4")


def gaussian(count: int) -> np.ndarray:
    """Return points without any structure, the worst case."""
    return np.random.default_rng(0).normal(size=(count, DIM)).astype(np.float32)


def radius(points: np.ndarray, picks: np.ndarray) -> float:
    """Return the largest distance of a point to its nearest pick."""
    rows, centers = torch.from_numpy(points).double(), torch.from_numpy(points[picks]).double()
    return max(float(torch.cdist(part, centers).min(1).values.max()) for part in torch.split(rows, 2048))


def part_of_textbook(points: np.ndarray, picks: int) -> Timing:
    """Return the time of all picks, from that of a part."""
    return Timing(*(PART * seconds for seconds in timed(lambda: textbook(points, picks // PART))))


def compare(kind: Callable[[int], np.ndarray], folder: Path) -> None:
    points, picks = kind(COUNT), COUNT // FRACTION
    calls = {"ours": local(lambda: greedy_coreset(points, picks)), "textbook": partial(part_of_textbook, points, picks)}
    np.save(folder / "points.npy", points)
    given = {"points": str(folder / "points.npy"), "picks": picks, "steps": PEER_STEPS}
    python, source = OPTIONS.peer_python, OPTIONS.patchcore_inspection
    if python:
        calls["anomalib"] = Peer(python, "coreset", OPTIONS.threads, **given)
    if source:
        calls["patchcore-inspection"] = Peer(python or sys.executable, "inspection", OPTIONS.threads, source=source, **given)
    found = in_turn(calls, OPTIONS.repeats)
    show(f"{kind.__name__}: {picks:,} of {COUNT:,} points", found)
    product, reads = 2 * COUNT * picks * DIM / peak_flops(), picks * points.nbytes / copy_bandwidth()
    print(f"  all products at peak speed {product:.2f} s, {product / middle(found['ours']).cpu:.2f} of ours; ", end="")
    print(f"reading the points once a pick {reads:.2f} s, {reads / middle(found['textbook']).cpu:.2f} of the textbook's")
    ours, theirs = radius(points, greedy_coreset(points, picks)), radius(points, np.array(textbook(points, picks)))
    print(f"  coverage radius {ours:.6f}, the textbook's {theirs:.6f}")


def growth() -> None:
    """Print the time at a fixed number of picks and the exponent of N that fits it."""
    calls = {count: local(partial(greedy_coreset, low_rank(count), FIXED_PICKS)) for count in SIZES}
    seconds = [middle(timings).cpu for timings in in_turn(calls, OPTIONS.repeats).values()]
    print(f"low_rank, {FIXED_PICKS:,} picks:", end=" ")
    print(*(f"N = {count:,} {s:.2f} s CPU," for count, s in zip(SIZES, seconds, strict=True)), end="")
    print(f" exponent of N {exponent(SIZES, seconds):.2f}")


if __name__ == "__main__":
    torch.set_num_threads(OPTIONS.threads)
    print(f"{OPTIONS.threads} thread(s), {DIM} dimensions")
    with tempfile.TemporaryDirectory() as name:
        for kind in (low_rank, clustered, gaussian):
            compare(kind, Path(name))
    growth()
