"""Select: from a category's good images to a ranking of candidates with advice."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from adbench.core.errors import DetectorError
from adbench.detectors import detector_params, make_detector
from adbench.metrics.support.labels import CategoryInputs
from adbench.selection.halving import OnResult, SuccessiveHalving
from adbench.selection.ranking import Excluded, Limits, Ranked
from adbench.selection.validation import Holdout, Validation, make_validation
from adbench.sweep.results import ResultStore
from adbench.sweep.spec import Spec
from adbench.sweep.workspace import Workspace
from adbench.types import Job

_CHEAPER = 1.25  # times faster; a tied candidate that gains less is not named
FOLDER = "selection"  # in the results folder: results on validation images


@dataclass(frozen=True)
class Request:
    """What to select from: candidates (from `candidates.spelt_out`), validation images, and limits on cost.

    The specification's only seed is the random seed. halving: drop the worse half early. pictures: how many of the best and
    worst maps of the best candidate to keep.
    """

    spec: Spec
    holdout: Holdout
    limits: Limits = field(default_factory=Limits)
    halving: bool = True
    pictures: int = 0


@dataclass(frozen=True)
class Selection:
    """The outcome for one category: candidates from the best to the worst, and the excluded ones.

    data: the data folder as the user named it. folder: where the results are.
    """

    data: str
    validation: Validation
    ranking: tuple[Ranked, ...]
    excluded: tuple[Excluded, ...]
    folder: Path

    @property
    def category(self) -> str:
        return self.validation.inputs.category.name

    @property
    def best(self) -> Ranked:
        return self.ranking[0]

    @property
    def incomplete(self) -> bool:
        """Whether a candidate failed or was skipped."""
        return any(one.status in ("failed", "skipped") for one in self.excluded)

    @property
    def advice(self) -> str:
        """What to use, and why, in a few sentences."""
        return advice(self.ranking, self.validation.sizes)

    @property
    def command(self) -> str:
        """The command that trains the best candidate on all good images."""
        return train_command(self.best.job, self.data, self.category)

    def record(self) -> dict[str, Any]:
        """Return the JSON form."""
        category, sizes = self.validation.inputs.category, self.validation.sizes
        low, middle, high = map(float, np.quantile(sizes, (0, 0.5, 1)))
        return {
            "category": self.category,
            "ranking": [one.record() for one in self.ranking],
            "advice": self.advice,
            "command": self.command,
            "validation": {
                "train": len(category.train),
                "good": self.validation.held_out,
                "synthetic": len(sizes),
                "defect_sizes": {"smallest": low, "median": middle, "largest": high},
            },
            "excluded": [one.record() for one in self.excluded],
            "out": str(self.folder),
        }


def select(workspace: Workspace, request: Request, good: CategoryInputs, out: Path, on_result: OnResult) -> Selection:
    """Return the ranking of the request's candidates on a category; only its good training images are read.

    Results go into `out`, and finished ones are not repeated. Raise DetectorError if no candidate can be ranked.
    """
    validation = make_validation(good, request.holdout, request.spec.seeds[0], workspace.cache, workspace.on_step)
    store = ResultStore(out)
    rounds = SuccessiveHalving(workspace, request.spec, validation, store, request.limits, request.halving, on_result)
    ranking, excluded = rounds.run()
    if not ranking:
        reasons = "; ".join(list(dict.fromkeys(one.reason for one in excluded))[:3])
        raise DetectorError(f"select: no candidate can be ranked, {len(excluded)} excluded: {reasons}")
    if request.pictures:
        rounds.keep_pictures(ranking[0].job, request.pictures)
    return Selection(workspace.data, validation, tuple(ranking), tuple(excluded), out)


def train_command(job: Job, data: str, category: str) -> str:
    """Return the command that fits the job's candidate to all good images, without options at their default."""
    defaults = detector_params(make_detector(job.detector, {}, 0), every=True)
    words = ["adbench", "train", job.detector, job.backbone, job.layer, "--data", data, "--category", category]
    options = {"--weights": (job.weights, "imagenet"), "--image-size": (job.image_size, 256), "--seed": (job.seed, 0),
               "--eval-size": (job.eval_size, 256), "--dtype": (job.dtype, "float16")}  # fmt: skip
    for name, (value, default) in options.items():
        words += [] if value == default else [name, str(value)]
    for name, value in job.params.items():
        words += [] if value == defaults[name] else ["--param", f"{name}={value}"]
    return shlex.join([*words, "--model", f"{category}.safetensors"])


def advice(ranking: Sequence[Ranked], sizes: Sequence[float]) -> str:
    """Return the sentences on the best of `ranking`; `sizes` are the defects' sizes as fractions of the image's side."""
    best, ties = ranking[0], [one for one in ranking[1:] if one.tied]
    place = f"ranks first of {len(ranking)} candidates on the synthetic defects" if len(ranking) > 1 else "is the only candidate"
    memory = best.result.cost["memory_mb"]
    sentences = [
        f"Use {named(best.job)}",
        "It {} (score {:.3f}, 95 % interval {:.3f} to {:.3f})".format(place, best.score, *best.interval),
        f"It takes {_latency(best):.0f} ms per image and {memory:.1f} MB",
    ]
    if best.relative_field is not None:
        sentences.append(f"Its receptive field is {best.relative_field / median(sizes):.1f} times as wide as the median defect")
    if len(ranking) > 1:
        sentences.append(_on_ties(best, ties))
    return ". ".join(sentences) + "."


def named(job: Job) -> str:
    """Return the job's candidate in words."""
    weights = "" if job.weights == "imagenet" else f" ({job.weights} weights)"
    return f"{job.layer} of {job.backbone}{weights} at {job.image_size} px with {job.detector}"


def _on_ties(best: Ranked, ties: Sequence[Ranked]) -> str:
    if not ties:
        return "No other candidate ties with it"
    fastest = min(ties, key=_latency)
    count = f"{len(ties)} other candidates tie" if len(ties) > 1 else "1 other candidate ties"
    if _latency(best) < _CHEAPER * _latency(fastest):
        return f"{count} with it, {'none of them' if len(ties) > 1 else 'but is not'} much faster"
    return f"{count} with it; {named(fastest.job)} takes only {_latency(fastest):.0f} ms per image"


def _latency(one: Ranked) -> float:
    return one.result.cost["latency_ms"] or 0.0
