"""The coreset of the official PatchCore code (amazon-science/patchcore-inspection, its default sampler): approximate greedy.

Every point starts with its mean distance to some random points, which are not picked themselves. Then the point of the largest
value is picked, and each value is lowered to the distance to that pick where it is nearer. The mean lies above the distance to
the nearest start, so the first picks are not exactly the farthest points.

Deviation, of rounding only: values are compared as squares, in float32. N points, d dimensions.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from adbench.types import OnStep, ignore_step

_TOLD = 256  # picks from report to report


@torch.inference_mode()
def approximate_coreset(
    points: NDArray[np.float32], num_picks: int, starts: NDArray[np.int64], *, device: torch.device, on_step: OnStep = ignore_step
) -> NDArray[np.int64]:
    """Return (num_picks,) int64: indices of `points` (N, d), in order; starts: indices of the random points.

    Every pick reads all points: N num_picks d multiply-adds.
    """
    rows = torch.from_numpy(points).to(device)
    rows = rows - rows.mean(0)  # the same distances, with less cancellation
    norms = rows.square().sum(1)
    mean = torch.stack([_squared(rows, norms, int(start)).sqrt() for start in starts]).mean(0)
    values, picks = mean.square(), torch.empty(num_picks, dtype=torch.int64, device=device)
    for done in range(num_picks):
        pick = values.argmax()
        picks[done] = pick
        values = torch.minimum(values, _squared(rows, norms, pick))
        values[pick] = -1.0  # squared distances are 0 or more: it is not picked again
        if (done + 1) % _TOLD == 0 or done + 1 == num_picks:
            on_step(done + 1, num_picks, "coreset")
    return np.asarray(picks.cpu().numpy(), np.int64)


def _squared(rows: torch.Tensor, norms: torch.Tensor, index: int | torch.Tensor) -> torch.Tensor:
    """Return the squared distances (N,) of all rows to one of them."""
    return (norms + norms[index] - 2 * (rows @ rows[index])).clamp_(min=0)
