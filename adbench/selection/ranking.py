"""The order of candidates, what their scores are worth, and who is out of it: by its costs or for want of a result.

The score of a candidate is the mean of image AUROC and AU-PRO, steadied by those of its neighbours (see `shrinking`). Its
interval and those of differences come from bootstrap replicates over the held-out images, the same for all candidates;
each is drawn with all that was painted on it.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adbench.core.errors import DataError
from adbench.metrics import ORDER
from adbench.selection.candidates import Candidate
from adbench.statistics.bootstrap import LEVEL
from adbench.sweep.results import ResultStore
from adbench.types import Job, Result

Values = NDArray[np.float64]


def shrunk(rows: Sequence[Hashable], columns: Sequence[Hashable], scores: Values, replicates: Values) -> tuple[Values, Values]:
    """Return the scores (K,) and their replicates (K, R), each with what its row and column do not explain made smaller.

    All are fractions of 1; what would be above it is 1.
    """
    design = np.concatenate([_indicators(rows), _indicators(columns)], axis=1)
    explained = design @ np.linalg.pinv(design)  # (K, K), a projection
    freedom = len(scores) - round(float(np.trace(explained)))
    rest = scores - explained @ scores
    if freedom == 0 or not rest.any():
        return scores, replicates
    deviations = replicates - replicates.mean(axis=1, keepdims=True)
    noise = float(np.square(deviations - explained @ deviations).sum(axis=0).mean())
    lost = min(1.0, noise / float(np.square(rest).sum()))
    found = scores - lost * rest, replicates - lost * (replicates - explained @ replicates)
    return np.minimum(found[0], 1), np.minimum(found[1], 1)


def _indicators(names: Sequence[Hashable]) -> Values:
    """Return which of the distinct names each one is, (K, distinct)."""
    distinct = list(dict.fromkeys(names))
    return np.array([[name == one for one in distinct] for name in names], dtype=np.float64)


PARTS = ("image_auroc", "aupro")


def score_of(metrics: Mapping[str, float | None]) -> float | None:
    """Return the mean of image AUROC and AU-PRO, a fraction of 1; None where one of them is not defined."""
    image, region = (metrics.get(name) for name in PARTS)
    return None if image is None or region is None else (image + region) / 2


@dataclass(frozen=True)
class Limits:
    """The most that a candidate may cost in use; None = no limit."""

    latency_ms: float | None = None
    memory_mb: float | None = None

    def broken_by(self, cost: dict[str, float | None]) -> str | None:
        """Return which limit the costs exceed, in words, or None."""
        latency, memory = cost.get("latency_ms") or 0, cost.get("memory_mb") or 0
        if self.latency_ms is not None and latency > self.latency_ms:
            return f"{latency:.1f} ms per image are over --max-latency {self.latency_ms:g}"
        if self.memory_mb is not None and memory > self.memory_mb:
            return f"{memory:.1f} MB are over --max-memory {self.memory_mb:g} MB"
        return None


@dataclass(frozen=True)
class Ranked:
    """A candidate with its steadied score and the score's 95 % interval; the metrics themselves are in `result`.

    `tied`: the interval of its difference from the best one includes 0; true of the best itself.
    """

    result: Result
    score: float
    interval: tuple[float, float]
    tied: bool

    @property
    def job(self) -> Job:
        return self.result.job

    @property
    def relative_field(self) -> float | None:
        """Receptive field of the deepest layer over the image's side, where the field is known."""
        pixels = self.result.details.get("receptive_field_px")
        return pixels / self.job.image_size if pixels else None

    def record(self) -> dict[str, Any]:
        """Return the JSON form."""
        metrics = {name: self.result.metrics[name] for name in PARTS}
        rest = {"score": self.score, "interval": list(self.interval), "tied": self.tied, "rrf": self.relative_field}
        return Candidate.of(self.job).record() | rest | {"metrics": metrics, "cost": self.result.cost}


@dataclass(frozen=True)
class Excluded:
    """A candidate that is not ranked, and why."""

    job: Job
    status: str  # failed, skipped, over a limit, dropped
    reason: str

    def record(self) -> dict[str, Any]:
        """Return the JSON form."""
        return Candidate.of(self.job).record() | {"status": self.status, "reason": self.reason}


Scored = tuple[Result, float]


def sift(results: Iterable[Result], limits: Limits) -> tuple[list[Scored], list[Excluded]]:
    """Return the results that can be ranked, with their scores, and the others with their reasons."""
    kept: list[Scored] = []
    excluded: list[Excluded] = []
    for result in results:
        score, broken = score_of(result.metrics), limits.broken_by(result.cost)
        if result.status != "done":
            excluded.append(Excluded(result.job, result.status, result.reason or "no reason given"))
        elif score is None:
            excluded.append(Excluded(result.job, "failed", result.reason or "its score is not defined"))
        elif broken:
            excluded.append(Excluded(result.job, "over a limit", broken))
        else:
            kept.append((result, score))
    return kept, excluded


def rank(scored: Sequence[Scored], results: ResultStore) -> list[Ranked]:
    """Return candidates from the best to the worst; equal scores in the order of their sizes.

    `results` holds their replicates. Raises DataError if a candidate's are not there.
    """
    if not scored:
        return []
    order = sorted(scored, key=lambda item: (item[0].cost["memory_mb"] or 0, item[0].job.key))
    found = [result for result, _ in order]
    candidates = [Candidate.of(result.job) for result in found]
    raw, replicates = np.array([score for _, score in order]), np.stack([_replicates(one, results) for one in found])
    others = [one._replace(image_size=0) for one in candidates]
    scores, values = shrunk(others, [one.image_size for one in candidates], raw, replicates)
    best = values[scores.argmax()]
    ranked = [
        Ranked(result, float(score), _interval(value), tied=_interval(best - value)[0] <= 0)
        for result, score, value in zip(found, scores, values, strict=True)
    ]
    return sorted(ranked, key=lambda one: -one.score)


def _replicates(result: Result, results: ResultStore) -> NDArray[np.float64]:
    """Return the mean of both metrics in each replicate, (R,)."""
    key = result.job.key
    found = results.replicates(key)
    if found is None:
        raise DataError(f"{results.folder}/replicates/{key}.npy is missing; delete {key}.json too, and both are made again")
    return np.asarray(np.mean([found[ORDER.index(name)] for name in PARTS], axis=0), dtype=np.float64)


def _interval(values: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
