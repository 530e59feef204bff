"""Greedy farthest-point selection (k-center greedy), exact but with few passes over the points, and random projection.

Sources: Sener and Savarese, "Active Learning for Convolutional Neural Networks: A Core-Set Approach" (ICLR 2018),
algorithm 1; Roth et al., "Towards Total Recall in Industrial Anomaly Detection" (PatchCore, CVPR 2022), algorithm 1.
Deviations: the first pick is a given index, not an arbitrary point or the one of the largest norm; nothing is projected
unless the caller does so; the official code's approximation (anchor distances from ten random points) is not used.

The textbook loop reads all points once per pick and is bound by memory; coreset_on_cpu.py and coreset_on_gpu.py do not.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adbench.detectors.coreset_on_cpu import SelectionOnCpu
from adbench.detectors.coreset_on_gpu import SelectionOnDevice
from adbench.detectors.neighbours import Rows, as_float32
from adbench.detectors.workers import workers
from adbench.types import OnStep, ignore_step

CPU = torch.device("cpu")
BYTES_PER_POINT = 40  # that a selection keeps beside the point itself


def greedy_coreset(
    points: Rows,
    num_picks: int,
    start: int = 0,
    *,
    device: torch.device | str | None = None,
    on_step: OnStep = ignore_step,
) -> NDArray[np.int64]:
    """Return (num_picks,) int64: indices of `points` (N, d), `start` first, then always the point farthest from all picks.

    Ties go to the lowest index; no index comes twice, even if points do. The picks are those of a float64 loop, except
    where float64 rounding decides, whatever the threads, the device and the blocks. Memory beside the points: about
    40 bytes per point, a copy of the picks and a few MB (on a GPU 1 GB; 16 d bytes for each point that ties for the farthest).
    Raise ValueError for points that are not a non-empty finite matrix and for a `num_picks` or `start` out of range.
    """
    rows = _checked(points, num_picks, start)
    place = torch.device(device or rows.device)
    with torch.inference_mode():
        if place.type == "cuda":
            picks = SelectionOnDevice(rows.to(place), num_picks, start).run(on_step)
        else:  # also for mps, which has no float64
            with workers(CPU) as spread:
                picks = SelectionOnCpu(rows.to(CPU), num_picks, start, spread).run(on_step)
    found: NDArray[np.int64] = picks.cpu().numpy()
    return found


def project(points: Rows, dim: int, seed: int) -> NDArray[np.float32]:
    """Return (N, dim) float32: `points` (N, d) times a Gaussian matrix / sqrt(dim), which `seed` alone decides.

    Points with d <= dim come back as they are (official PatchCore expands them: issue 21 of patchcore-inspection).
    """
    rows = as_float32(points)
    if rows.shape[1] > dim:
        matrix = torch.randn(rows.shape[1], dim, generator=torch.Generator().manual_seed(seed)) / math.sqrt(dim)
        rows = rows @ matrix.to(rows.device)
    projected: NDArray[np.float32] = rows.cpu().numpy()
    return projected


def _checked(points: Rows, num_picks: int, start: int) -> Tensor:
    rows = as_float32(points).contiguous()
    if rows.ndim != 2 or not rows.numel():
        raise ValueError(f"points must be a non-empty (N, d) array, not one of shape {tuple(rows.shape)}")
    if not 1 <= num_picks <= len(rows):
        raise ValueError(f"num_picks must be within 1..{len(rows)}, the number of points, not {num_picks}")
    if not 0 <= start < len(rows):
        raise ValueError(f"start must be within 0..{len(rows) - 1}, not {start}")
    largest = _largest(rows)
    if not math.isfinite(largest):
        raise ValueError("points must be finite, but some values are NaN or infinite")
    if largest and not 1e-9 < largest < 1e12:  # so that squares neither vanish nor overflow; exact, being a power of 2
        rows = (rows.double() * 2.0 ** -math.floor(math.log2(largest))).float()
    return rows


def _largest(rows: Tensor) -> float:
    low, high = rows.aminmax()  # both NaN if any value is
    return max(-float(low), float(high))
