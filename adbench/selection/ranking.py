"""The ranking of candidates: scores, shrinkage, intervals, ties; and the candidates excluded from it.

The score of a candidate is the mean of image AUROC and AU-PRO, shrunk toward what the same layer reaches at other image
sizes (`shrunk`). Its interval and those of differences come from bootstrap replicates over the held-out images, the same
for all candidates. A held-out image is drawn together with the synthetic images made of it.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from adbench.core.errors import DataError
from adbench.metrics import ORDER
from adbench.statistics.paired import interval
from adbench.sweep.results import ResultStore
from adbench.types import ImageSize, Job, Result, view_words

Values = NDArray[np.float64]
SCORED = ("image_auroc", "aupro")  # the metrics whose mean is the score


def score_of(metrics: Mapping[str, float | None]) -> float | None:
    """Return the mean of image AUROC and AU-PRO, a fraction of 1; None where one of them is not defined."""
    values = [value for name in SCORED if (value := metrics.get(name)) is not None]
    return sum(values) / 2 if len(values) == 2 else None


class Candidate(NamedTuple):
    """The part of a job that a user chooses, the same for jobs on other data. `params` is JSON."""

    backbone: str
    weights: str
    layer: str
    image_size: ImageSize
    detector: str
    params: str
    tile: int = Job.tile
    overlap: float = Job.overlap

    @staticmethod
    def of(job: Job) -> Candidate:
        """Return the candidate that a job measures."""
        params = json.dumps(job.params, sort_keys=True)
        return Candidate(job.backbone, job.weights, job.layer, job.image_size, job.detector, params, job.tile, job.overlap)

    @property
    def view(self) -> str:
        """How the network sees the images, in words."""
        return view_words(self.image_size, self.tile, self.overlap)

    @property
    def without_view(self) -> Candidate:
        """The candidate with the same view as all others."""
        return self._replace(image_size=0, tile=Job.tile, overlap=Job.overlap)

    def record(self) -> dict[str, Any]:
        """Return the JSON form."""
        later = {name: value for name, value in (("tile", self.tile), ("overlap", self.overlap)) if value != getattr(Job, name)}
        usual = {name: value for name, value in self._asdict().items() if name not in ("tile", "overlap")}
        return usual | {"params": json.loads(self.params)} | later


@dataclass(frozen=True)
class Limits:
    """The most that a candidate may cost in use; None = no limit."""

    latency_ms: float | None = None
    memory_mb: float | None = None

    def exceeded_by(self, cost: dict[str, float | None]) -> str | None:
        """Return which limit the costs exceed, in words, or None."""
        latency, memory = cost.get("latency_ms") or 0, cost.get("memory_mb") or 0
        if self.latency_ms is not None and latency > self.latency_ms:
            return f"takes {latency:.1f} ms per image, more than --max-latency {self.latency_ms:g}"
        if self.memory_mb is not None and memory > self.memory_mb:
            return f"takes {memory:.1f} MB, more than --max-memory {self.memory_mb:g} MB"
        return None


@dataclass(frozen=True)
class Ranked:
    """A candidate with its shrunk score and the score's 95 % interval; `result` has the metrics as measured.

    tied: the interval of its difference from the best candidate includes 0; true of the best itself.
    """

    result: Result
    score: float
    interval: tuple[float, float]
    tied: bool

    @property
    def job(self) -> Job:
        return self.result.job

    @property
    def candidate(self) -> Candidate:
        return Candidate.of(self.job)

    def record(self) -> dict[str, Any]:
        """Return the JSON form."""
        metrics = {name: self.result.metrics[name] for name in SCORED}
        rest = {"score": self.score, "interval": list(self.interval), "tied": self.tied, "rrf": self.result.relative_field}
        return self.candidate.record() | rest | {"metrics": metrics, "cost": self.result.cost}


@dataclass(frozen=True)
class Excluded:
    """A candidate that is not ranked, and why."""

    job: Job
    status: str  # failed, skipped, over a limit, dropped
    reason: str

    def record(self) -> dict[str, Any]:
        """Return the JSON form."""
        return Candidate.of(self.job).record() | {"status": self.status, "reason": self.reason}


def split_excluded(results: Iterable[Result], limits: Limits) -> tuple[list[Result], list[Excluded]]:
    """Return the results that can be ranked, and the others with their reasons."""
    kept: list[Result] = []
    excluded: list[Excluded] = []
    for result in results:
        exceeded = limits.exceeded_by(result.cost)
        if result.status != "done":
            excluded.append(Excluded(result.job, result.status, result.reason or "no reason given"))
        elif score_of(result.metrics) is None:
            excluded.append(Excluded(result.job, "failed", result.reason or "its score is not defined"))
        elif exceeded:
            excluded.append(Excluded(result.job, "over a limit", exceeded))
        else:
            kept.append(result)
    return kept, excluded


def rank(results: Sequence[Result], store: ResultStore) -> list[Ranked]:
    """Return candidates from the best to the worst, those with equal scores from the smallest to the largest.

    `results` have scores, `store` has their replicates. Raise DataError if a candidate's replicates are missing.
    """
    if not results:
        return []
    results = sorted(results, key=lambda result: (result.cost["memory_mb"] or 0, result.job.key))
    candidates = [Candidate.of(result.job) for result in results]
    measured = np.array([score_of(result.metrics) for result in results], dtype=np.float64)
    rows, columns = [one.without_view for one in candidates], [one.view for one in candidates]
    scores, values = shrunk(rows, columns, measured, np.stack([_replicates(result, store) for result in results]))
    best = values[scores.argmax()]
    ranked = [
        Ranked(result, float(score), interval(value), tied=interval(best - value)[0] <= 0)
        for result, score, value in zip(results, scores, values, strict=True)
    ]
    return sorted(ranked, key=lambda one: -one.score)


def shrunk(rows: Sequence[Hashable], columns: Sequence[Hashable], scores: Values, replicates: Values) -> tuple[Values, Values]:
    """Return scores (K,) and their replicates (K, R), shrunk toward an additive model of rows and columns; at most 1.

    Each residual from the model shrinks by the share of the residuals' sum of squares that the replicates explain as noise
    (empirical Bayes: Efron and Morris, JASA 70, 1975).
    """
    indicators = [[name == one for name in names] for names in (rows, columns) for one in dict.fromkeys(names)]
    design = np.array([*zip(*indicators, strict=True)], dtype=np.float64)  # (K, distinct rows + distinct columns)
    model = design @ np.linalg.pinv(design)  # (K, K), the projection onto the additive model
    residuals = scores - model @ scores
    if len(scores) == round(float(np.trace(model))) or not residuals.any():  # no degrees of freedom are left
        return scores, replicates
    deviations = replicates - replicates.mean(axis=1, keepdims=True)
    noise = float(np.square(deviations - model @ deviations).sum(axis=0).mean())
    share = min(1.0, noise / float(np.square(residuals).sum()))
    return np.minimum(scores - share * residuals, 1), np.minimum(replicates - share * (replicates - model @ replicates), 1)


def _replicates(result: Result, store: ResultStore) -> Values:
    """Return the score in each bootstrap replicate, (R,)."""
    key = result.job.key
    if (found := store.replicates(key)) is None:
        raise DataError(f"{store.folder}/replicates/{key}.npy is missing; delete {key}.json too, and run select again")
    return np.asarray(np.mean([found[ORDER.index(name)] for name in SCORED], axis=0), dtype=np.float64)
