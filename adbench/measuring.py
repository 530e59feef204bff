"""All that is measured of one job's scores: metrics, how sure they are, and by kind and size of defect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adbench.breakdown import evaluate_broken_down
from adbench.statistics.bootstrap import Draws, intervals, replicates
from adbench.truth import Labels
from adbench.types import Job, Sample, Scores


@dataclass(frozen=True)
class Measured:
    """Metrics of one job, remarks on what is missing of them, details of them, bootstrap replicates (7, R)."""

    metrics: dict[str, float | None]
    remarks: list[str]
    details: dict[str, Any] = field(default_factory=dict)
    replicates: NDArray[np.float32] | None = None


def measure_scores(
    scores: Scores, labels: Labels, samples: Sequence[Sample], draws: Draws, job: Job, receptive_field: int | None
) -> Measured:
    """Return what is measured of the scores of test `samples`, maps on the evaluation grid; `receptive_field` in input pixels."""
    truth, regions = labels.truth, labels.regions
    relative_field = receptive_field / job.image_size if receptive_field else None
    metrics, parts = evaluate_broken_down(scores, truth, job.pro_limit, regions, samples, relative_field)
    found = replicates(scores, truth, regions, job.pro_limit, draws, metrics)
    details = {"resamples": draws.name, "intervals": intervals(found)}
    known = {"receptive_field_px": receptive_field} if receptive_field else {}
    return Measured(metrics, labels.remarks, known | details | parts, found)
