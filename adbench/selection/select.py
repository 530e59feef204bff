"""Selection from a category's good images to a ranking with advice; what `adbench select` calls."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from adbench.core.errors import DetectorError
from adbench.detectors import detector_params, make_detector
from adbench.metrics.support.labels import CategoryInputs
from adbench.selection.advice import advice
from adbench.selection.halving import OnResult, SuccessiveHalving, ignore_result
from adbench.selection.ranking import Excluded, Limits, Ranked
from adbench.selection.validation import Holdout, Validation, make_validation
from adbench.sweep.results import ResultStore
from adbench.sweep.spec import Spec
from adbench.sweep.workspace import Workspace
from adbench.types import Job

FOLDER = "selection"  # in the results folder: what was measured on synthetic defects


@dataclass(frozen=True)
class Request:
    """What is asked for: candidates (`candidates.spelt_out`), validation data, limits on what they may cost.

    The specification's only seed decides all randomness. halving: drop the worse half early. pictures: how many to keep of
    the best one's best and worst maps.
    """

    spec: Spec
    holdout: Holdout
    limits: Limits = field(default_factory=Limits)
    halving: bool = True
    pictures: int = 0


@dataclass(frozen=True)
class Selection:
    """The outcome for one category: candidates from the best to the worst, those left out, the data they were judged on."""

    data: str
    validation: Validation
    ranking: tuple[Ranked, ...]
    excluded: tuple[Excluded, ...]
    folder: Path  # of the results

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
        """One sentence: what to use, and why."""
        return advice(self.ranking, self.validation.sizes)

    @property
    def command(self) -> str:
        """The command that trains the best candidate on all good images."""
        return train_command(self.best.job, self.data, self.category)

    def record(self) -> dict[str, Any]:
        """Return the JSON form."""
        category = self.validation.inputs.category
        low, middle, high = np.quantile(self.validation.sizes, (0, 0.5, 1))
        facts = {"train": len(category.train), "good": self.validation.held_out, "synthetic": len(self.validation.sizes)}
        sizes = {"defect_sizes": {"smallest": float(low), "median": float(middle), "largest": float(high)}}
        return {
            "category": self.category,
            "ranking": [one.record() for one in self.ranking],
            "advice": self.advice,
            "command": self.command,
            "validation": facts | sizes,
            "excluded": [one.record() for one in self.excluded],
            "out": str(self.folder),
        }


def select(
    workspace: Workspace, request: Request, good: CategoryInputs, out: Path, on_result: OnResult = ignore_result
) -> Selection:
    """Return the ranking of the request's candidates on a category, of which only good training images are read.

    Results go into `out`; what has one there is not computed again. Raises DetectorError if no candidate can be ranked.
    """
    validation = make_validation(good, request.holdout, request.spec.seeds[0], workspace.cache, workspace.on_step)
    contest = SuccessiveHalving(workspace, request.spec, validation, ResultStore(out), request.limits, request.halving, on_result)
    ranking, excluded = contest.run()
    if not ranking:
        raise DetectorError(f"select: none of {len(excluded)} candidates can be ranked: {_reasons(excluded)}")
    if request.pictures:
        contest.picture(ranking[0].job, request.pictures)
    return Selection(workspace.data, validation, tuple(ranking), tuple(excluded), out)


def _reasons(excluded: Sequence[Excluded]) -> str:
    return "; ".join(list(dict.fromkeys(one.reason for one in excluded))[:3])


def train_command(job: Job, data: str, category: str) -> str:
    """Return the command that fits the job's candidate to all good images; options that are defaults are left out."""
    defaults = detector_params(make_detector(job.detector, {}, 0), every=True)
    words = ["adbench", "train", job.detector, job.backbone, job.layer, "--data", data, "--category", category]
    options = {"--weights": (job.weights, "imagenet"), "--image-size": (job.image_size, 256), "--seed": (job.seed, 0),
               "--eval-size": (job.eval_size, 256), "--dtype": (job.dtype, "float16")}  # fmt: skip
    for name, (value, default) in options.items():
        words += [] if value == default else [name, str(value)]
    for name, value in job.params.items():
        words += [] if value == defaults[name] else ["--param", f"{name}={value}"]
    return shlex.join([*words, "--model", f"{category}.safetensors"])
