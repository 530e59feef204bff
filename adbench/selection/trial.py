"""One candidate on validation data: its metrics, and what it would cost in use."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from torch import nn

from adbench.pipeline import assess, fit
from adbench.planning import Group
from adbench.types import Job, Result
from adbench.workplace import Workplace


def try_candidate(place: Workplace, group: Group, job: Job, maps: Path) -> Result:
    """Return the Result of a job on validation data, with its memory in use.

    That is memory_mb (10^6 bytes) of the network's weights up to the deepest layer and of what the detector keeps. `maps` is
    not used: pictures are made of the winner alone.
    """
    detector, cost = fit(place, group.network, group.inputs, job)
    result, _ = assess(place, group.network, group.inputs, job, detector, cost, group.field(job))
    in_use = _megabytes(group.network.cut(job.layers)) + (cost["state_mb"] or 0)
    return replace(result, cost=result.cost | {"memory_mb": in_use})


def _megabytes(module: nn.Module) -> float:
    return sum(t.numel() * t.element_size() for t in [*module.parameters(), *module.buffers()]) / 1e6
