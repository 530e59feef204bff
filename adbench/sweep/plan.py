"""The plan of a sweep: a specification becomes jobs, and jobs that share a forward pass become groups.

Planning loads torch only for a backbone, weights or a detector that the memos in the cache folder do not describe yet.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import chain, count, product
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from adbench.backbones.layers import Description, Field, describe, joined_field, parse_layers
from adbench.backbones.network import Network, find_network
from adbench.backbones.weights import RANDOM, Weights, expanded
from adbench.core.errors import UsageError, WeightsError
from adbench.core.memo import Memo, code_and_libraries
from adbench.core.registry import match
from adbench.core.subprocess import in_subprocess, keep_threads
from adbench.features.cache import EXTRACTION_REVISION
from adbench.features.tiling import Tiling, check_view
from adbench.features.view import View
from adbench.metrics.support.held_out import shots_shortage
from adbench.metrics.support.labels import CategoryInputs
from adbench.sweep.results import ResultStore
from adbench.sweep.spec import Choice, Spec
from adbench.types import SMOOTHING_GRID, Job, OnStep, Result, digest, ignore_step

if TYPE_CHECKING:
    from adbench.detectors import Detector

T = TypeVar("T")


def method_of(detector: Detector, name: str) -> dict[str, Any]:
    """Return a Job's fields detector, params (all of them) and revision, and the detector's smoothing, as `job_for` takes them.

    name: as a user writes it.
    """
    from adbench.detectors import DETECTORS, detector_params

    return {
        "detector": DETECTORS.canonical(name), "params": detector_params(detector), "revision": type(detector).revision,
        "smoothing": type(detector).smoothing,
    }  # fmt: skip


def find_method(name: str, params: dict[str, Any], answers: Memo) -> dict[str, Any]:
    """Return what `method_of` does for a name and some parameters; raise UsageError as `make_detector` does.

    Loads torch if `answers` does not have the method.
    """

    def ask() -> dict[str, Any]:
        from adbench.detectors import make_detector

        return method_of(make_detector(name, params, seed=0), name)

    return dict(answers.answer(["method", name, repr(sorted(params.items()))], ask))


def default_params(detector: str, memo: Path) -> dict[str, Any]:
    """Return all parameters of a detector at their defaults, none for one that is not installed; a plan leaves them in `memo`.

    A subprocess loads torch if they are not there.
    """
    answers, ask = Memo(memo / "answers.json", code_and_libraries()), partial(_default_params, detector)
    return dict(answers.answer(["defaults", detector], ask if "torch" in sys.modules else partial(in_subprocess, ask)))


def _default_params(detector: str) -> dict[str, Any]:
    from adbench.detectors import detector_params, make_detector

    try:
        return detector_params(make_detector(detector, {}, 0), every=True)
    except UsageError:
        return {}


@dataclass
class Latest:
    """The last value that was asked for, so that jobs which share a fit need not repeat it, if they come in turn."""

    _key: str = ""
    _value: Any = None

    def of(self, key: str, make: Callable[[], T]) -> T:
        """Return the value of a key; the last one is released before another is made."""
        if key != self._key:
            self._key, self._value = "", None
            self._value, self._key = make(), key
        found: T = self._value
        return found


@dataclass(frozen=True)
class Group:
    """Jobs of one category, backbone, weights and input size: they share one forward pass per image."""

    inputs: CategoryInputs
    network: Network
    jobs: tuple[Job, ...]
    fields: dict[str, int]  # analytic receptive field of each layer in input pixels, where it is known
    keep_maps: int = 0  # number of best maps, of worst maps and of false alarms to keep as pictures of each job
    cache_limit: int | None = None  # bytes; a finished group's features are deleted while the cache is larger
    estimated: dict[str, int] = field(default_factory=dict)  # receptive fields of the other layers; empty before the group runs
    shared: Latest = field(default_factory=lambda: Latest(), compare=False, repr=False)  # the fit of the job that runs

    @property
    def layers(self) -> list[str]:
        """The layers of all jobs, each once."""
        return list(dict.fromkeys(layer for job in self.jobs for layer in job.layers))

    @property
    def title(self) -> str:
        job = self.jobs[0]
        return f"{job.category} {job.backbone} {job.weights} {View.of(job)}"

    def receptive_field(self, job: Job) -> Field | None:
        """Return the receptive field of a job's layers, None if it is unknown."""
        return joined_field(job.layers, self.fields, self.estimated)


def keys_of(groups: Iterable[Group]) -> set[str]:
    """Return the keys of all jobs of some groups."""
    return {job.key for group in groups for job in group.jobs}


def with_keys(groups: Iterable[Group], keys: Container[str]) -> tuple[Group, ...]:
    """Return the groups with only the jobs that have these keys; groups without any are skipped."""
    kept = (replace(group, jobs=tuple(job for job in group.jobs if job.key in keys)) for group in groups)
    return tuple(group for group in kept if group.jobs)


@dataclass(frozen=True)
class Plan:
    """All groups of a sweep, and a skipped result, with reason and remedy, for each job that cannot run."""

    name: str
    groups: tuple[Group, ...]
    skipped: tuple[Result, ...]

    @property
    def jobs(self) -> list[Job]:
        return [job for group in self.groups for job in group.jobs] + [result.job for result in self.skipped]

    @property
    def runnable(self) -> int:
        """Number of jobs in the groups."""
        return sum(len(group.jobs) for group in self.groups)

    def pending(self, results: ResultStore) -> Plan:
        """Return the plan without finished jobs."""
        return self.only(lambda job: not results.has(job.key))

    def only(self, wanted: Callable[[Job], bool]) -> Plan:
        """Return the plan with only those jobs in its groups that are `wanted`."""
        return replace(self, groups=with_keys(self.groups, {j.key for group in self.groups for j in group.jobs if wanted(j)}))

    def first(self, limit: int) -> Plan:
        """Return the plan with the first `limit` jobs of its groups."""
        numbers = count()
        return self.only(lambda job: next(numbers) < limit)

    def keeping(self, maps: int, cache_limit: int | None = None) -> Plan:
        """Return the plan with `keep_maps` and `cache_limit` of each group set."""
        kept = (replace(group, keep_maps=maps, cache_limit=cache_limit) for group in self.groups)
        return replace(self, groups=tuple(kept))


def make_plan(
    spec: Spec, inputs: Sequence[CategoryInputs], memo: Path, offline: bool = False, on_step: OnStep = ignore_step
) -> Plan:
    """Return all jobs of `spec` over the categories; `memo` is the folder that describes traced backbones.

    Jobs with missing weights, those of a size that their backbone cannot take, and those of more shots than there are training
    images are skipped. Raises UsageError for unknown
    backbones, layers, weights, detectors and parameters, and if no backbone takes any of its sizes.
    """
    groups: list[Group] = []
    skipped: list[Result] = []
    misfits: list[str | None] = []
    answers = Memo(memo / "answers.json", code_and_libraries())
    methods = [find_method(choice.name, choice.params, answers) for choice in spec.detectors]
    for method in methods:  # which a report asks for
        answers.answer(["defaults", method["detector"]], partial(_default_params, method["detector"]))
    for choice, label in ((c, expanded(label)) for c in spec.backbones for label in c.weights or spec.weights):
        description = describe(choice.name, memo)
        layers = [parse_layers(text, description) for text in choice.layers or spec.layers or description.stages]
        chosen = _chosen_methods(choice, methods)
        reason = None
        try:
            network = find_network(description.backbone, label, answers, offline=offline, on_step=on_step)
        except WeightsError as error:
            network, reason = Network(description.backbone, Weights(label, "missing", (), (), None)), str(error)
        views, misfit_of = spec.views(choice), partial(_misfit, description, set(chain.from_iterable(layers)), memo)
        misfits += [misfit_of(view, None) for view in views if not inputs]
        for item, view in product(inputs, views):
            rest: dict[str, Any] = {**view.job_fields(), "sigma": spec.smoothing}
            rest |= {name: getattr(spec, name) for name in ("eval_size", "dtype", "pro_limit", "thresholds")}
            misfits.append(misfit := misfit_of(view, item))
            held_out = bool(spec.thresholds)
            why_not = {s: misfit or reason or shots_shortage(item, s, held_out, spec.seeds[0]) for s in spec.shots}
            for own, seeds in _by_seed(network, tuple(dict.fromkeys(spec.seeds))):
                cells = product(chosen, dict.fromkeys(spec.shots), seeds, dict.fromkeys(layers))
                fits = [job_for(item, own, cell, seed, shots=shots, **method, **rest) for method, shots, seed, cell in cells]
                jobs = [replace(job, shift=shift) for job in fits for shift in ("", *spec.shifts)]  # in turn: they share a fit
                skipped += [Result(job, "skipped", why) for job in jobs if (why := why_not[job.shots])]
                if left := tuple(job for job in jobs if not why_not[job.shots]):
                    groups.append(Group(item, own, left, description.fields))
    if all(misfits):
        raise UsageError("; ".join(dict.fromkeys(map(str, misfits))))
    names = [item.category.name for item in inputs]
    # category by category, so that decoded files stay in the system's cache
    groups.sort(key=lambda group: (group.inputs.category.dataset, group.inputs.category.name))
    return Plan(digest([spec.record(), names]), tuple(groups), tuple(skipped))


def _chosen_methods(backbone: Choice, methods: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the methods of a backbone: those of the detectors that it names, else all."""
    names = [method["detector"] for method in methods]
    wanted = {match("detector", name, names, where=f" of {backbone.name} among the detectors") for name in backbone.detectors}
    return [method for method in methods if not wanted or method["detector"] in wanted]


def _by_seed(network: Network, seeds: Sequence[int]) -> list[tuple[Network, Sequence[int]]]:
    """Return the seeds that share a network: all, but each seed draws random weights of its own."""
    if network.weights.label != RANDOM or not seeds:
        return [(network, seeds)]
    return [(network.drawn_by(seed), [seed]) for seed in seeds]


def check_names(spec: Spec, memo: Path) -> None:
    """Raise UsageError for unknown names of `spec` as `make_plan` does, before any data are looked for."""
    make_plan(spec, [], memo, offline=True)


def _misfit(description: Description, layers: Iterable[str], memo: Path, view: View, inputs: CategoryInputs | None) -> str | None:
    """Return why a backbone cannot take a view of a category (None: of any), or not for these layers; None if it can."""
    try:
        if inputs is None:
            check_view(description, view, memo)
        else:
            tiling = Tiling.of(view, inputs.native(view), description, memo)
            tiling.check_layers(description, layers, memo)
    except UsageError as error:
        return str(error)
    return None


def fill_memo(spec: Spec, memo: Path, on_step: OnStep = ignore_step) -> None:
    """Fill `memo` with all answers for which a plan of `spec` would load torch; raise as `make_plan` does.

    A subprocess loads torch, unless it is here. Weights are not downloaded.
    """
    on_step(0, 1, "looking at networks and detectors")
    question, learn = ["learnt", asdict(replace(spec, seeds=()))], partial(_learn, spec, memo)
    ask = learn if "torch" in sys.modules else partial(in_subprocess, learn)
    Memo(memo / "learnt.json", code_and_libraries()).answer(question, ask)


def _learn(spec: Spec, memo: Path) -> bool:
    check_names(spec, memo)
    keep_threads(memo)
    return True


def job_for(
    inputs: CategoryInputs, network: Network, layers: tuple[str, ...], seed: int, *, smoothing: float, sigma: float | None = None,
    **rest: Any,
) -> Job:  # fmt: skip
    """Return the Job of one cell under today's extraction; `rest`: the rest of a method, a view, eval_size, dtype, ...

    sigma: of the map's Gaussian in input pixels, None for as many as `smoothing`, the detector's. It has no effect on a detector
    whose maps are not smoothed.
    """
    category, weights = inputs.category, network.weights
    job = Job(
        category.dataset, inputs.fingerprint, category.name, network.backbone, weights.label, weights.sha256, layers,
        seed=seed, extraction=EXTRACTION_REVISION, **rest,
    )  # fmt: skip
    side, sigma = job.input_side, smoothing if sigma is None else float(sigma)
    if not smoothing or sigma * SMOOTHING_GRID == smoothing * side:  # as in version 0.1.0, whose keys have no sigma
        return job
    return replace(job, smoothing=sigma)
