"""Analyses: further sections of a report, shown on request; one file each, found by import.

An analysis turns the jobs of a results folder into a section. Without data, the section has a note that says so.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adbench.core.registry import Registry
from adbench.reports.formats import Section
from adbench.reports.keys import KeyedJob
from adbench.types import Result


@dataclass(frozen=True)
class Question:
    """The keys that name a row of the main table, the metrics to analyze, and functions that read a result's arrays.

    replicates: returns (metrics, R), in the order of `adbench.metrics.in_order`, or None if the result has none. influence:
    returns (metrics + 1, U), the last row being the strata, or None. mm_per_px: millimeters per pixel of the images, if known.
    every: all jobs, also those on shifted test images, which an analysis is not given.
    """

    rows: Sequence[str]
    metrics: Sequence[str]
    replicates: Callable[[Result], NDArray[np.float32] | None] = lambda result: None
    mm_per_px: float | None = None
    influence: Callable[[Result], NDArray[np.float32] | None] = lambda result: None
    every: Sequence[KeyedJob] = ()


Analysis = Callable[[Sequence[KeyedJob], Question], Section]
ANALYSES: Registry[Analysis] = Registry("analysis", __name__)
register = ANALYSES.register
