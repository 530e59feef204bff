"""The ranking of candidates: scores, shrinkage, intervals, ties; and the candidates excluded from it.

The score of a candidate is the mean of image AUROC and AU-PRO, shrunk toward what the same layer reaches at other image
sizes (`shrunk`). Its interval and the tests of differences come from the influence of the held-out images, the same for all
candidates. A held-out image is left out together with the synthetic images made of it.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from adbench.core.errors import DataError
from adbench.metrics import ORDER
from adbench.statistics.bootstrap import stored_influence
from adbench.statistics.influence import Influence
from adbench.statistics.paired import compare_with_best
from adbench.statistics.ranks import ALPHA
from adbench.sweep.results import ResultStore
from adbench.types import ALL, LATER, ImageSize, Job, Result, Shots, view_words

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
    shots: Shots = ALL
    rotations: int = Job.rotations
    tile: int = Job.tile
    overlap: float = Job.overlap

    @staticmethod
    def of(job: Job) -> Candidate:
        """Return the candidate that a job measures."""
        params = json.dumps(job.params, sort_keys=True)
        more = (job.shots, job.rotations, job.tile, job.overlap)
        return Candidate(job.backbone, job.weights, job.layer, job.image_size, job.detector, params, *more)

    @property
    def view(self) -> str:
        """How the network sees the images, in words."""
        return view_words(self.image_size, self.tile, self.overlap)

    @property
    def without_view(self) -> Candidate:
        """The candidate with the same view as all others."""
        return self._replace(image_size=0, tile=Job.tile, overlap=Job.overlap)

    def record(self) -> dict[str, Any]:
        """Return the JSON form; later axes only where they are not at their default."""
        found = self._asdict() | {"params": json.loads(self.params)}
        return {name: value for name, value in found.items() if name not in LATER or value != LATER[name]}


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

    tied: not significantly worse than the best candidate, corrected for all pairs since the best was picked; true of the best.
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

    `results` have scores, `store` has their influence values, or their replicates if an earlier version made one of them. Raise
    DataError if a candidate has neither.
    """
    if not results:
        return []
    results = sorted(results, key=lambda result: (result.cost["memory_mb"] or 0, result.job.key))
    candidates = [Candidate.of(result.job) for result in results]
    measured = np.array([score_of(result.metrics) for result in results], dtype=np.float64)
    rows, columns = [one.without_view for one in candidates], [one.view for one in candidates]
    known = _influence(results, store)
    scores, values = shrunk(rows, columns, measured, np.asarray(known.values, dtype=np.float64))
    influence = replace(known, values=values)
    tied = compare_with_best(int(scores.argmax()), scores, influence).p >= ALPHA
    ranked = [
        Ranked(result, float(score), ends or (float(score),) * 2, tied=bool(tie))
        for result, score, ends, tie in zip(results, scores, influence.intervals(scores), tied, strict=True)
    ]
    return sorted(ranked, key=lambda one: -one.score)


def shrunk(rows: Sequence[Hashable], columns: Sequence[Hashable], scores: Values, influence: Values) -> tuple[Values, Values]:
    """Return scores (K,), at most 1, and their influence values (K, U), shrunk toward an additive model of rows and columns.

    Each residual from the model shrinks by the share of the residuals' sum of squares that the influence values explain as
    noise (empirical Bayes: Efron and Morris, JASA 70, 1975).
    """
    indicators = [[name == one for name in names] for names in (rows, columns) for one in dict.fromkeys(names)]
    design = np.array([*zip(*indicators, strict=True)], dtype=np.float64)  # (K, distinct rows + distinct columns)
    model = design @ np.linalg.pinv(design)  # (K, K), the projection onto the additive model
    residuals = scores - model @ scores
    if len(scores) == round(float(np.trace(model))) or not residuals.any():  # no degrees of freedom are left
        return scores, influence
    noise = float(np.square(influence - model @ influence).sum())
    share = min(1.0, noise / float(np.square(residuals).sum()))
    return np.minimum(scores - share * residuals, 1), influence - share * (influence - model @ influence)


def _influence(results: Sequence[Result], store: ResultStore) -> Influence:
    """Return the influence of the held-out images on the scores."""
    rows = [ORDER.index(name) for name in SCORED]
    found = [values for result in results if (values := store.influence(result.job.key)) is not None]
    if len(found) == len(results) and not any(np.isnan(values[rows]).any() for values in found):
        return stored_influence(np.stack([values[rows].mean(axis=0) for values in found]), found[0][-1])
    return Influence.of_replicates(np.stack([_replicates(result, store) for result in results]))


def _replicates(result: Result, store: ResultStore) -> Values:
    """Return the score in each bootstrap replicate, (R,)."""
    key = result.job.key
    if (found := store.replicates(key)) is None:
        raise DataError(f"{store.folder}/replicates/{key}.npy is missing; delete {key}.json too, and run select again")
    return np.asarray(np.mean([found[ORDER.index(name)] for name in SCORED], axis=0), dtype=np.float64)
