"""Further looks at results, shown when they are asked for; one file each, found by import.

An analysis looks at the jobs of a results folder and returns a section, which says so in a note where it has no data.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adbench.core.registry import Registry
from adbench.reports.formats import Section
from adbench.reports.keys import Entry
from adbench.types import Result


def no_replicates(result: Result) -> NDArray[np.float32] | None:
    """Know of no replicates."""
    return None


@dataclass(frozen=True)
class Question:
    """What is asked: the keys that name a row of the main table, the metrics that count, and a result's replicates (7, R)."""

    rows: Sequence[str]
    metrics: Sequence[str]
    replicates: Callable[[Result], NDArray[np.float32] | None] = no_replicates


Analysis = Callable[[Sequence[Entry], Question], Section]
ANALYSES: Registry[Analysis] = Registry("analysis", __name__)
register = ANALYSES.register
