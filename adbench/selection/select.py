"""Select: from a category's good images to a ranking of candidates with advice.

`prepare` makes the validation images, `Selecting.forecast` tells the time, `Selecting.within` cuts to a budget, and
`Selecting.run` fits and ranks.

Candidates are tried on growing shares of the training images, and the worse half is dropped each time: successive halving,
after Jamieson and Talwalkar, "Non-stochastic Best Arm Identification", AISTATS 2016. Each round has four times the images
of the one before. The validation images are the same in all rounds, so their features are computed once. A round costs its
share of the fits: one early round saves a quarter of the time, two save more. With few candidates or few images an early
round would save nothing, and there is only the last.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from adbench.backbones.layers import block_ends, describe, parse_layers
from adbench.backbones.stages import Stages
from adbench.core.errors import DetectorError
from adbench.core.files import write_text
from adbench.core.registry import match
from adbench.detectors import detector_params, make_detector
from adbench.features.runtime import Runtime
from adbench.metrics.support.labels import CategoryInputs
from adbench.models.command import attainable_rate, train_command
from adbench.pictures.kept_maps import read_kept
from adbench.selection.advice import advice
from adbench.selection.budget import LEAST_LEFT, Countdown, Estimate, Estimates, cut_to, estimate, fewest_defects, total_seconds
from adbench.selection.ranking import Candidate, Excluded, Limits, Ranked, rank, split_excluded
from adbench.selection.validation import Validation, ValidationRecipe, make_validation
from adbench.sweep.forecast import Forecaster
from adbench.sweep.pipeline import assess, fit, measure, run_group
from adbench.sweep.plan import Group, Plan, make_plan
from adbench.sweep.results import ResultStore
from adbench.sweep.spec import Choice, Spec
from adbench.sweep.workspace import Workspace
from adbench.types import ALL, Job, Result

FOLDER = "selection"  # in the results folder: results on validation images
GROWTH = 4  # of the training images from round to round
LEAST_IMAGES = 24  # fewer training images tell candidates apart too poorly
LEAST_KEPT = 3  # fewer candidates are not worth a last round
OnResult = Callable[[Result, int, int, float | None], None]  # a new result, its number, how many there are, seconds left


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

    data: the data folder as the user named it. folder: where the results are, and `file`.
    """

    data: str
    validation: Validation
    ranking: tuple[Ranked, ...]
    excluded: tuple[Excluded, ...]
    folder: Path

    @property
    def file(self) -> Path:
        """The record of the selection as JSON, which `train --from-selection` reads."""
        return self.folder / f"selection-{re.sub(r'[^0-9A-Za-z_-]+', '_', self.category)}.json"

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
        """The command that trains the best candidate, and sets a threshold on the images that took no part, if there are any."""
        defaults = detector_params(make_detector(self.best.job.detector, {}, 0), every=True)
        fresh = len(self.validation.reserved)
        threshold = (attainable_rate(fresh), None, self.file) if fresh else (None,)
        return train_command(self.best.job, self.data, self.category, defaults, *threshold)

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
                "reserved": len(self.validation.reserved),
                "synthetic": len(sizes),
                "defect_sizes": {"smallest": low, "median": middle, "largest": high},
            },
            "images": self.validation.images,
            "excluded": [one.record() for one in self.excluded],
            "out": str(self.folder),
        }


def with_layer_names(spec: Spec, memo: Path | None, pairs: bool = False, seed: int | None = None) -> Spec:
    """Return `spec` with the layers of each backbone by name, and a single seed (default: the spec's first).

    "all" stands for the last layer of every block from stride 4 on. Without layers, those of the main stages are taken.
    `pairs` adds each single layer joined with the next deeper one. Detectors get the bounds of their class. Raise UsageError
    for an unknown name.
    """
    detectors = tuple(map(_bounded, spec.detectors))  # first, because looking at a network takes seconds
    backbones = tuple(_with_layers(choice, spec.layers, memo, pairs) for choice in spec.backbones)
    seeds = (spec.seeds[0] if seed is None else seed,)
    return replace(spec, backbones=backbones, layers=(), detectors=detectors, seeds=seeds)


def _bounded(choice: Choice) -> Choice:
    """Return the detector with the parameters that keep its fits short, unless its own decide that."""
    made = make_detector(choice.name, choice.params, seed=0)
    given = [match("parameter", name, detector_params(made, every=True)) for name in choice.params]
    return replace(choice, params=made.bounds(given) | choice.params)


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
    return prepare(workspace, request, good, out).run(on_result)


def prepare(workspace: Workspace, request: SelectionRequest, good: CategoryInputs, out: Path) -> Selecting:
    """Return a selection that is ready to run, with its validation images painted. Raise UsageError for unknown names."""
    validation = make_validation(
        good, request.holdout, request.spec.seeds[0], workspace.cache, workspace.on_step, request.spec.value_range
    )
    return Selecting(workspace, request, good, validation, ResultStore(out))


@dataclass(frozen=True)
class Selecting:
    """The candidates of a request on validation data made of `good`; results go into `store`.

    estimates: seconds of candidates without a result, empty unless `forecast` was asked for. cut: candidates that do not fit
    into a budget. fewer_defects: how many synthetic defects there were before they were cut for it, 0 if they were not.
    ends: when it is used up, by `time.monotonic`.
    """

    workspace: Workspace
    request: SelectionRequest
    good: CategoryInputs
    validation: Validation
    store: ResultStore
    estimates: Estimates = field(default_factory=dict)
    cut: tuple[Excluded, ...] = ()
    fewer_defects: int = 0
    ends: float = math.inf

    @cached_property
    def plan(self) -> Plan:
        """All candidates, fitted to all training images."""
        return self._plan(1)

    @property
    def seconds(self) -> float:
        """The forecast of the whole run."""
        return total_seconds(self.estimates.values(), self._shares)

    @property
    def done(self) -> int:
        """How many candidates have a result of the last round, if there is a forecast."""
        return self.plan.runnable - len(self.estimates) - len(self.cut)

    @property
    def planned(self) -> int:
        """How many results all rounds will have."""
        left = self.plan.runnable - len(self.cut)
        return sum(math.ceil(left / 2**number) for number in range(len(self._shares(left))))

    def forecast(self) -> Selecting:
        """Return the selection with estimates, from short trials on this machine."""
        forecaster = Forecaster(self.workspace.runtime(), self.workspace.memo)
        return replace(self, estimates=estimate(self.plan.pending(self.store), forecaster))

    def within(self, budget_s: float, spent_s: float) -> Selecting:
        """Return the selection cut to a budget, of which some is spent: with fewer defects, then without the slowest candidates.

        The forecast may err: candidates that are not done when the budget is used up are left out, too.
        """
        defects, started = self.request.holdout.defects, self.plan.pending(self.store).runnable < self.plan.runnable
        fewest = defects if started else fewest_defects(defects)  # results with other defects would be of no use
        found = cut_to(budget_s - spent_s, self.estimates, defects, fewest, self._shares)
        text = "forecast to take {:.0f} s, too long for the budget"
        jobs = {Candidate.of(job): job for job in self.plan.jobs}
        cut = tuple(Excluded(jobs[one], "cut", text.format(seconds)) for one, seconds in found.dropped.items())
        request = replace(self.request, holdout=replace(self.request.holdout, defects=found.defects))
        smaller = prepare(self.workspace, request, self.good, self.store.folder) if request != self.request else self
        ends = time.monotonic() + max(0.0, budget_s - spent_s)
        fewer = defects if found.defects < defects else 0
        return replace(smaller, estimates=found.left, cut=cut, fewer_defects=fewer, ends=ends)

    def record(self) -> dict[str, Any]:
        """Return the forecast in JSON form."""
        left = [one.record() | {"seconds": cost.seconds()} for one, cost in self.estimates.items()]
        return {
            "category": self.validation.inputs.category.name,
            "candidates": left,
            "seconds": self.seconds,
            "done": self.done,
            "cut": [one.record() for one in self.cut],
            "synthetic": len(self.validation.sizes),
        }

    def run(self, on_result: OnResult) -> Selection:
        """Return the ranking of the last round. Raise DetectorError if no candidate can be ranked."""
        ranking, excluded = self._rounds(on_result)
        if not ranking:
            reasons = "; ".join(list(dict.fromkeys(one.reason for one in excluded))[:3])
            raise DetectorError(f"select: no candidate can be ranked, {len(excluded)} excluded: {reasons}")
        if self.request.pictures:
            self._keep_pictures(ranking[0].job)
        found = Selection(self.workspace.data, self.validation, tuple(ranking), tuple(excluded), self.store.folder)
        write_text(found.file, json.dumps(found.record(), indent=1) + "\n")
        return found

    def _shares(self, candidates: int) -> list[float]:
        images = len(self.validation.inputs.category.train)
        halving = self.request.halving and self.request.spec.shots == (ALL,)  # few shots are fitted fast
        return round_shares(images, candidates) if halving else [1.0]

    def _rounds(self, on_result: OnResult) -> tuple[list[Ranked], list[Excluded]]:
        """Return the ranking of the last round, and the excluded candidates with their reasons.

        Candidates with a result in the store are not run again.
        """
        plan, limits = self.plan, self.request.limits
        self.store.write_plan(plan.name, plan.jobs)
        excluded = split_excluded(plan.skipped, limits)[1] + list(self.cut)
        left = {Candidate.of(job) for group in plan.groups for job in group.jobs} - {Candidate.of(one.job) for one in self.cut}
        shares, run = self._shares(len(left)), Run(self, on_result)
        for share in shares:
            results, out = split_excluded(run.results(self._plan(share), left, share), limits)
            ranked = rank(results, self.store)
            excluded += out
            if share < 1:
                kept = math.ceil(len(ranked) / 2)
                on = f"of {len(ranked)} on 1/{round(1 / share)} of the training images"
                excluded += [Excluded(one.job, "dropped", f"ranked {k} {on}") for k, one in enumerate(ranked, 1) if k > kept]
                left = {one.candidate for one in ranked[:kept]}
        return ranked, excluded + run.late

    def _keep_pictures(self, job: Job) -> None:
        """Keep the pictures that were asked for of a job of the last round beside its result, unless some are there."""
        folder = self.store.maps(job.key)
        for group in self.plan.only(lambda other: other == job).keeping(self.request.pictures).groups:
            if not read_kept(folder):
                measure(self.workspace.runtime(), group, job, folder)

    def _plan(self, share: float) -> Plan:
        inputs = self.validation.subset(share).inputs
        return make_plan(self.request.spec, [inputs], self.workspace.memo, self.workspace.offline, self.workspace.on_step)

    def estimated(self, job: Job, share: float = 1) -> float:
        """Return the forecast seconds of a job in a round; 0 if there is none."""
        return self.estimates.get(Candidate.of(job), Estimate()).seconds(share)


@dataclass
class Run:
    """A run of a selection: how many results it has had, and which candidates came too late for its budget."""

    selecting: Selecting
    on_result: OnResult
    number: int = 0
    late: list[Excluded] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._countdown, self._planned = Countdown(self.selecting.seconds), self.selecting.planned

    def results(self, plan: Plan, wanted: set[Candidate], share: float) -> list[Result]:
        """Return the results of the wanted candidates of a round in the plan's order; those without one are run."""
        store, plan = self.selecting.store, plan.only(lambda job: Candidate.of(job) in wanted)
        todo, runtime = plan.pending(store), self.selecting.workspace.runtime()
        self.number += plan.runnable - todo.runnable
        done, new = plan.runnable - todo.runnable, dict[str, Result]()
        for group in self._quickest_first(todo, share):
            for result in () if self._late(done + len(new)) else run_group(runtime, group, store, try_candidate):
                new[result.job.key] = result
                self._tell(result, share)
                if self._late(done + len(new)):
                    break
        jobs = [job for group in plan.groups for job in group.jobs]
        found = [(job, new.get(job.key) or store.read(job.key)) for job in jobs]
        reason = "the time of the budget was used up before its turn"
        self.late += [Excluded(job, "cut", reason) for job, result in found if result is None]
        return [result for _, result in found if result]

    def _late(self, results: int) -> bool:
        """Return whether the budget is used up and the results of the round so far are enough for a ranking."""
        return results >= LEAST_LEFT and time.monotonic() > self.selecting.ends

    def _quickest_first(self, todo: Plan, share: float) -> list[Group]:
        """Return the groups and their jobs by forecast time, so that a budget that is used up costs few candidates."""

        def seconds(job: Job) -> float:
            return self.selecting.estimated(job, share)

        groups = [replace(group, jobs=tuple(sorted(group.jobs, key=seconds))) for group in todo.groups]
        return sorted(groups, key=lambda group: max(map(seconds, group.jobs)))

    def _tell(self, result: Result, share: float) -> None:
        self.number += 1
        left = self._countdown.left(self.selecting.estimated(result.job, share)) if self.selecting.estimates else None
        self.on_result(result, self.number, max(self._planned, self.number), left)


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
