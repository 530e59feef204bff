"""Records of maps that another program made, so that they stand in one table with the results of sweeps."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

from adbench.core.environment import environment
from adbench.core.errors import UsageError
from adbench.core.registry import squeeze
from adbench.detectors import DETECTORS
from adbench.metrics.support.labels import CategoryInputs
from adbench.sweep.pipeline import measure_scores
from adbench.sweep.results import ResultStore
from adbench.types import EXTERNAL, Job, OnStep, Scores, Size

log = logging.getLogger("adbench")


def recorded(
    store: ResultStore, name: str, size: Size, pro_limit: float, on_step: OnStep
) -> Callable[[CategoryInputs, Scores, str], dict[str, float | None]]:
    """Return a function that measures the maps of a category, writes the record and returns the metrics.

    The record's detector is `name`, and the job has no backbone. The maps are not in its key: measuring other maps under the same
    name replaces the record, which a warning says. Raises UsageError for a name that a detector has, or an empty one.
    """
    if squeeze(name) in map(squeeze, DETECTORS.names()) or not name.strip():
        raise UsageError(f"--name '{name}': choose a name that no detector of adbench has, e.g. --name their_patchcore")

    def measure(item: CategoryInputs, scores: Scores, content: str) -> dict[str, float | None]:
        category = item.category
        job = Job(category.dataset, item.fingerprint, category.name, EXTERNAL, EXTERNAL, "", (EXTERNAL,), 0, size, name, {}, 1, 0,
                  pro_limit=pro_limit)  # fmt: skip
        result = measure_scores(scores, item.labels(size), item, job, None, on_step)
        details = {**result.details, "maps_sha256": content}
        known = store.read(job.key)
        if known and known.details.get("maps_sha256") != content:
            log.warning(
                "the record of other maps of category '%s' named '%s' is replaced in %s", category.name, name, store.folder
            )
            store.delete(job.key)
        store.write(replace(result, details=details, environment=environment()))
        return dict(result.metrics)

    return measure
