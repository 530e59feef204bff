"""Select: from a category's good images to a ranking of candidates with advice.

Candidates are tried on growing shares of the training images, and the worse half is dropped each time: successive halving,
after Jamieson and Talwalkar, "Non-stochastic Best Arm Identification", AISTATS 2016. Each round has four times the images
of the one before. The validation images are the same in all rounds, so their features are computed once. A round costs its
share of the fits: one early round saves a quarter of the time, two save more. With few candidates or few images an early
round would save nothing, and there is only the last.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from adbench.backbones.layers import block_ends, describe, parse_layers
from adbench.backbones.stages import Stages
from adbench.core.errors import DetectorError
from adbench.detectors import detector_params, make_detector
from adbench.features.runtime import Runtime
from adbench.metrics.support.labels import CategoryInputs
from adbench.pictures.kept_maps import read_kept
from adbench.selection.ranking import Candidate, Excluded, Limits, Ranked, rank, split_excluded
from adbench.selection.validation import Validation, ValidationRecipe, make_validation
from adbench.sweep.pipeline import assess, fit, measure, run_group
from adbench.sweep.plan import Group, Plan, make_plan
from adbench.sweep.results import ResultStore
from adbench.sweep.spec import Choice, Spec
from adbench.sweep.workspace import Workspace
from adbench.types import Job, Result

FOLDER = "selection"  # in the results folder: results on validation images
GROWTH = 4  # of the training images from round to round
LEAST_IMAGES = 24  # fewer training images tell candidates apart too poorly
LEAST_KEPT = 3  # fewer candidates are not worth a last round
_CHEAPER = 1.25  # times faster; a tied candidate that gains less is not named
OnResult = Callable[[Result, int, int], None]  # a new result, its number, how many the round has


@dataclass(frozen=True)
class SelectionRequest:
    """What to select from: candidates (from `with_layer_names`), validation images, and limits on cost.

    The specification's only seed is the random seed. halving: drop the worse half early. pictures: how many of the best and
    worst maps of the best candidate to keep.
    """

    spec: Spec
    holdout: ValidationRecipe
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
    def command(self) -> str:
        """The command that trains the best candidate on all good images."""
        return train_command(self.best.job, self.data, self.category)

    def record(self) -> dict[str, Any]:
        """Return the JSON form."""
        sizes = self.validation.sizes
        low, middle, high = map(float, np.quantile(sizes, (0, 0.5, 1)))
        return {
            "category": self.category,
            "ranking": [one.record() for one in self.ranking],
            "advice": advice(self.ranking, self.validation.sizes),
            "command": self.command,
            "validation": {
                "train": len(self.validation.inputs.category.train),
                "good": self.validation.held_out,
                "synthetic": len(sizes),
                "defect_sizes": {"smallest": low, "median": middle, "largest": high},
            },
            "excluded": [one.record() for one in self.excluded],
            "out": str(self.folder),
        }


def with_layer_names(spec: Spec, memo: Path | None, pairs: bool = False, seed: int | None = None) -> Spec:
    """Return `spec` with the layers of each backbone by name, and a single seed (default: the spec's first).

    "all" stands for the last layer of every block from stride 4 on. Without layers, those of the main stages are taken.
    `pairs` adds each single layer joined with the next deeper one. Raise UsageError for an unknown name.
    """
    for choice in spec.detectors:  # first, because looking at a network takes seconds
        make_detector(choice.name, choice.params, seed=0)
    backbones = tuple(_with_layers(choice, spec.layers, memo, pairs) for choice in spec.backbones)
    return replace(spec, backbones=backbones, layers=(), seeds=(spec.seeds[0] if seed is None else seed,))


def _with_layers(choice: Choice, layers: Sequence[str], memo: Path | None, pairs: bool) -> Choice:
    description = describe(choice.name, memo)
    joins = []
    for text in choice.layers or layers or description.stages:
        names = block_ends(description.layers) if text == "all" else [text]
        joins += [parse_layers(name, description) for name in names]
    if pairs:
        single = [layer.name for layer in description.layers if (layer.name,) in joins]
        joins += pairwise(single)
    return replace(choice, layers=tuple(dict.fromkeys("+".join(join) for join in joins)))


def select(workspace: Workspace, request: SelectionRequest, good: CategoryInputs, out: Path, on_result: OnResult) -> Selection:
    """Return the ranking of the request's candidates on a category; only its good training images are read.

    Results go into `out`, and finished ones are not repeated. Raise DetectorError if no candidate can be ranked.
    """
    validation = make_validation(good, request.holdout, request.spec.seeds[0], workspace.cache, workspace.on_step)
    rounds = SuccessiveHalving(workspace, request, validation, ResultStore(out), on_result)
    ranking, excluded = rounds.run()
    if not ranking:
        reasons = "; ".join(list(dict.fromkeys(one.reason for one in excluded))[:3])
        raise DetectorError(f"select: no candidate can be ranked, {len(excluded)} excluded: {reasons}")
    if request.pictures:
        rounds.keep_pictures(ranking[0].job)
    return Selection(workspace.data, validation, tuple(ranking), tuple(excluded), out)


@dataclass(frozen=True)
class SuccessiveHalving:
    """The candidates of a request on validation data; results go into `store`."""

    workspace: Workspace
    request: SelectionRequest
    validation: Validation
    store: ResultStore
    on_result: OnResult

    def run(self) -> tuple[list[Ranked], list[Excluded]]:
        """Return the ranking of the last round, and the excluded candidates with their reasons.

        Candidates with a result in the store are not run again. Raise UsageError for unknown names.
        """
        plan, limits = self._plan(1), self.request.limits
        self.store.write_plan(plan.name, plan.jobs)
        excluded = split_excluded(plan.skipped, limits)[1]
        left = {Candidate.of(job) for group in plan.groups for job in group.jobs}
        images = len(self.validation.inputs.category.train)
        for share in round_shares(images, len(left)) if self.request.halving else [1.0]:
            results, out = split_excluded(self._results(self._plan(share), left), limits)
            ranked = rank(results, self.store)
            excluded += out
            if share < 1:
                kept = math.ceil(len(ranked) / 2)
                on = f"of {len(ranked)} on 1/{round(1 / share)} of the training images"
                excluded += [Excluded(one.job, "dropped", f"ranked {k} {on}") for k, one in enumerate(ranked, 1) if k > kept]
                left = {one.candidate for one in ranked[:kept]}
        return ranked, excluded

    def keep_pictures(self, job: Job) -> None:
        """Keep the pictures that were asked for of a job of the last round beside its result, unless some are there."""
        folder = self.store.maps(job.key)
        for group in self._plan(1).only(lambda other: other == job).keeping(self.request.pictures).groups:
            if not read_kept(folder):
                measure(self.workspace.runtime(), group, job, folder)

    def _plan(self, share: float) -> Plan:
        inputs = self.validation.subset(share).inputs
        return make_plan(self.request.spec, [inputs], self.workspace.memo, self.workspace.offline, self.workspace.on_step)

    def _results(self, plan: Plan, wanted: set[Candidate]) -> list[Result]:
        """Return the results of the wanted candidates in the plan's order; those without one are run."""
        plan = plan.only(lambda job: Candidate.of(job) in wanted)
        todo, runtime = plan.pending(self.store), self.workspace.runtime()
        new: dict[str, Result] = {}
        for group in todo.groups:
            for result in run_group(runtime, group, self.store, try_candidate):
                new[result.job.key] = result
                self.on_result(result, len(new), todo.runnable)
        jobs = [job for group in plan.groups for job in group.jobs]
        found = [new.get(job.key) or self.store.read(job.key) for job in jobs]
        return [result for result in found if result]


def round_shares(images: int, candidates: int) -> list[float]:
    """Return the share of the training images that each round uses; the last is 1."""
    limits = [(images / LEAST_IMAGES, GROWTH), (candidates / LEAST_KEPT, 2)]  # a ratio, and its factor from round to round
    early = min(math.floor(math.log(max(ratio, 1), factor) + 1e-9) for ratio, factor in limits)
    return [float(GROWTH) ** -k for k in range(early, -1, -1)]


def try_candidate(runtime: Runtime, group: Group, job: Job, maps: Path) -> Result:
    """Return the Result of a job on validation data, its cost with memory_mb added (10^6 bytes).

    That is the memory of the network's weights up to the deepest layer and of the detector's state. No picture is kept in
    `maps`; the winner's are drawn at the end.
    """
    detector, cost = fit(runtime, group.network, group.inputs, job)
    result, _ = assess(runtime, group.network, group.inputs, job, detector, cost, group.receptive_field(job))
    network = group.network.cut(job.layers)
    tensors = network.used_tensors() if isinstance(network, Stages) else [*network.parameters(), *network.buffers()]
    weights = sum(t.numel() * t.element_size() for t in tensors) / 1e6
    return replace(result, cost=result.cost | {"memory_mb": weights + (cost["state_mb"] or 0)})


def train_command(job: Job, data: str, category: str) -> str:
    """Return the command that fits the job's candidate to all good images, without options at their default."""
    defaults = detector_params(make_detector(job.detector, {}, 0), every=True)
    words = ["adbench", "train", job.detector, job.backbone, job.layer, "--data", data, "--category", category]
    options = {"--weights": (job.weights, "imagenet"), "--image-size": (job.image_size, 256), "--seed": (job.seed, 0),
               "--eval-size": (job.eval_size, 256), "--dtype": (job.dtype, "float16")}  # fmt: skip
    words += [word for name, (value, default) in options.items() if value != default for word in (name, str(value))]
    words += [word for name, value in job.params.items() if value != defaults[name] for word in ("--param", f"{name}={value}")]
    return shlex.join([*words, "--model", f"{category}.safetensors"])


def advice(ranking: Sequence[Ranked], sizes: Sequence[float]) -> str:
    """Return what to use and why, in sentences; `sizes` are the defects' sizes as fractions of the image's side."""
    best = ranking[0]
    place = f"ranks first of {len(ranking)} candidates on the synthetic defects" if len(ranking) > 1 else "is the only candidate"
    memory = best.result.cost["memory_mb"]
    sentences = [
        f"Use {named(best.job)}",
        "It {} (score {:.3f}, 95 % interval {:.3f} to {:.3f})".format(place, best.score, *best.interval),
        f"It takes {_latency(best):.0f} ms per image and {memory:.1f} MB",
    ]
    if (field := best.result.relative_field) is not None:
        sentences.append(f"Its receptive field is {field / median(sizes):.1f} times as wide as the median defect")
    if len(ranking) > 1:
        sentences.append(_on_ties(best, [one for one in ranking[1:] if one.tied]))
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
