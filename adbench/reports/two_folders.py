"""Two results folders compared job by job: what differs, and whether chance in the test images can explain it."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from adbench.core.errors import DataError
from adbench.reports.comparison import DASH
from adbench.reports.formats import Figure, Report, Section, Table
from adbench.reports.keys import ROW_KEYS, KeyedJob, grouped, keyed_jobs, varies
from adbench.reports.plotting import COLUMN, INK, looks, panels
from adbench.reports.study_data import AXIS_NAMES, MEASURES, Read, influence_of, replicates_of
from adbench.reports.tables import choices, counted, current, mixed_environment_note, shown_metrics
from adbench.statistics.influence import Influence
from adbench.statistics.paired import Sample, compare_all
from adbench.statistics.ranks import ALPHA, least_categories, wilcoxon
from adbench.sweep.results import ResultStore
from adbench.types import JOB_FIELDS, Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

STATE = {
    "fingerprint": "the data differ",
    "weights_sha256": "the weights' bytes differ",
    "revision": "the method's revision differs",
    "extraction": "the extraction's revision differs",
}
PARTS = ("a", "b", "difference", "interval", "p")  # of a record, numbers by metric
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Match:
    """The same job in both folders: the job with its keys, and its result in each folder."""

    keyed: KeyedJob
    first: Result
    second: Result

    @property
    def results(self) -> tuple[Result, Result]:
        return self.first, self.second


@dataclass(frozen=True)
class Readers:
    """Functions that read the replicates and the influence values of a result of one folder."""

    replicates: Read
    influence: Read

    @staticmethod
    def of(store: ResultStore) -> Readers:
        """Return those of a results folder."""
        return Readers(lambda result: store.replicates(result.job.key), lambda result: store.influence(result.job.key))


def match_jobs(first: Path, second: Path) -> tuple[list[Match], list[str]]:
    """Return the jobs that are done in both folders, and notes on what is not compared; raise DataError if there are none.

    Jobs match if a user chose the same: names of data, backbone, weights and detector, layer, sizes, seed, and every
    parameter that the detector has in both folders (a newer version may have more).
    """
    ours, theirs = _done(first), _done(second)
    names, others = _parameter_names(ours), _parameter_names(theirs)
    shared = {detector: names[detector] & others[detector] for detector in names.keys() & others.keys()}
    ignored = {f"{name} of {detector}" for detector in shared for name in names[detector] ^ others[detector]}
    a, b = _by_choices(ours, shared), _by_choices(theirs, shared)
    common = [_closest(a[key], b[key]) for key in a if key in b]
    if not common:
        raise DataError(
            f"'{first}' and '{second}' have no job in common: none agrees in data set, category, backbone, weights, layer, "
            "sizes, detector, parameters and seed"
        )
    keyed = keyed_jobs([(first.job, first) for first, _ in common])
    matches = [Match(job, *results) for job, results in zip(keyed, common, strict=True)]
    notes = [f"done in {side} only: {counted(n, 'job')}" for side, of in (("A", a), ("B", b)) if (n := len(of) - len(common))]
    notes += [f"parameters that only one folder has are not compared: {', '.join(sorted(ignored))}"] if ignored else []
    return matches, notes


def _done(folder: Path) -> list[Result]:
    store = ResultStore(folder)
    jobs, _ = current(store.all(), store.planned())
    done = [job.done for job in jobs if job.done]
    if not done:
        raise DataError(f"no results in '{folder}': run 'adbench sweep' first, or name the folder that it wrote to")
    return done


def _parameter_names(results: Sequence[Result]) -> dict[str, set[str]]:
    names: dict[str, set[str]] = defaultdict(set)  # by detector
    for result in results:
        names[result.job.detector] |= set(result.job.params)
    return names


def _by_choices(results: Sequence[Result], shared: dict[str, set[str]]) -> dict[tuple[Any, ...], list[Result]]:
    found = defaultdict(list)
    for result in results:
        names = shared.get(result.job.detector, ())
        params = {name: value for name, value in result.job.params.items() if name in names}
        found[(json.dumps(params, sort_keys=True), *choices(result.job)[1:])].append(result)
    return found


def _closest(ours: Sequence[Result], theirs: Sequence[Result]) -> tuple[Result, Result]:
    """Return a result of each side, of several those that agree most in data, weights and method, else the last."""

    def agreement(pair: tuple[Result, Result]) -> int:
        return sum(getattr(pair[0].job, key) == getattr(pair[1].job, key) for key in STATE)

    return max([(a, b) for a in reversed(ours) for b in reversed(theirs)], key=agreement)


@dataclass(frozen=True)
class Differences:
    """A metric of the m jobs that have it in both folders: second folder minus first.

    first, second: (m,). influence: of the test images on the difference, one row, by index of the job, where both results have
    it of the same images.
    """

    metric: str
    matches: Sequence[Match]
    first: NDArray[np.float64]
    second: NDArray[np.float64]
    influence: dict[int, Influence]

    @cached_property
    def values(self) -> NDArray[np.float64]:
        """(m,); differences that rounding can explain are zero."""
        return _rounded(self.second - self.first)

    @cached_property
    def tests(self) -> dict[int, tuple[float, float, float]]:
        """Over test images, corrected for all jobs: the p-value and both ends of the 95 % interval, by index of the job."""
        groups: dict[Any, list[int]] = defaultdict(list)  # of jobs with the same test images
        for i, one in self.influence.items():
            groups[self.matches[i].first.details["resamples"], one.counted, one.strata.size].append(i)
        if not groups:
            return {}
        samples = []
        for indices in groups.values():
            rows = [self.influence[i] for i in indices]
            joined = Influence(np.concatenate([one.values for one in rows]), rows[0].strata, rows[0].counted)
            samples.append(Sample(self.values[indices], joined))
        found = compare_all(samples)
        ends = zip(found.p.tolist(), found.low.tolist(), found.high.tolist(), strict=True)
        return dict(zip((i for indices in groups.values() for i in indices), ends, strict=True))

    @property
    def significant(self) -> list[int]:
        return [i for i, (p, *_) in self.tests.items() if p < ALPHA]


def differences(matches: Sequence[Match], metric: str, find: tuple[Readers, Readers]) -> Differences:
    """Return the differences of a metric; `find` reads the arrays of either folder."""
    known = [m for m in matches if m.first.metrics.get(metric) is not None and m.second.metrics.get(metric) is not None]
    first, second = (np.array([result.metrics[metric] for result in side], dtype=float)
                     for side in ([m.first for m in known], [m.second for m in known]))  # fmt: skip
    found = {i: _influence(match, metric, find) for i, match in enumerate(known)}
    return Differences(metric, known, first, second, {i: values for i, values in found.items() if values})


def _influence(match: Match, metric: str, find: tuple[Readers, Readers]) -> Influence | None:
    """Return the influence of the test images on a difference if both results have it, or replicates, of the same images."""
    names = [result.details.get("resamples") for result in match.results]
    if None in names or names[0] != names[1]:
        return None
    a, b = (influence_of([metric], [result], read.influence) for result, read in zip(match.results, find, strict=True))
    if a and b and np.array_equal(a.strata, b.strata):
        return Influence(b.values - a.values, a.strata)
    first, second = (replicates_of(metric, result, read.replicates) for result, read in zip(match.results, find, strict=True))
    if first is None or second is None or first.shape != second.shape:
        return None
    return Influence.of_replicates(np.array(second - first, dtype=float)[None])


def verdicts(found: Differences) -> list[str]:
    """Return what the differences of all jobs say together, in sentences."""
    values, jobs, metric = found.values, len(found.matches), found.metric
    if not values.any():
        return [f"{metric}: A and B do not differ: equal in {counted(jobs, 'job')}"]
    higher, lower, equal = (int(which.sum()) for which in (values > 0, values < 0, values == 0))
    counts = f"B is higher in {higher}, lower in {lower}, equal in {equal} of {counted(jobs, 'job')}"
    sentences = [f"{metric}: {counts}; mean difference {values.mean():+.3f}; {_wilcoxon(values, 'jobs')}"]
    own: dict[tuple[str, str], list[float]] = defaultdict(list)
    for match, value in zip(found.matches, values, strict=True):
        own[match.first.job.dataset, match.first.job.category].append(float(value))
    by_category = _rounded(np.array([np.mean(of_one) for of_one in own.values()]))
    if len(by_category) < jobs:
        sentences[0] += "; jobs of one category share their test images, which makes that p too small"
        sentences.append(f"{metric}: means of each category: {_wilcoxon(by_category, 'categories')}")
    if found.tests:
        number, of = len(found.significant), counted(len(found.tests), "job")
        sentences.append(f"{metric}: {number} of {of} on the same test images differ significantly over their test images")
    return sentences


def _wilcoxon(values: NDArray[np.float64], units: str) -> str:
    if len(values) < least_categories(1):
        return f"too few {units} for a test, {least_categories(1)} are the least"
    return f"Wilcoxon's test over {len(values)} {units}: p = {wilcoxon(values, np.zeros(len(values))):.2g}"


def _rounded(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(np.abs(values) < _ROUNDING, 0.0, values)


def compare(first: Path, second: Path, metric: str | None = None) -> Report:
    """Return the report on the differences of two results folders, A and B, by one metric or by the paper's two.

    Raises DataError if a folder has no results or the folders have no job in common, UsageError for an unknown metric.
    """
    matches, uncompared = match_jobs(first, second)
    results = [result for match in matches for result in match.results]
    metrics = shown_metrics(results, [metric]) if metric else [m for m in MEASURES if m in shown_metrics(results)]
    a, b = ResultStore(first), ResultStore(second)
    find = Readers.of(a), Readers.of(b)
    found = [one for name in metrics if (one := differences(matches, name, find)).matches]
    if not found:
        raise DataError(f"no job that '{first}' and '{second}' have in common has a value of {' or '.join(metrics)} in both")
    tables = [_table(one, f"A = {first}, B = {second}") for one in found]
    sentences = [sentence for one in found for sentence in verdicts(one)]
    figure = Figure(
        name="compare",
        caption="Every job in A and in B; filled: significantly different over its test images",
        description=" ".join(f"{sentence}." for sentence in sentences),
        draw=lambda: _draw(found),
    )
    notes = [*sentences, *_legend(found, len(matches)), *uncompared]
    for key, difference in STATE.items():
        if count := sum(getattr(match.first.job, key) != getattr(match.second.job, key) for match in matches):
            notes.append(f"in {count} of {len(matches)} jobs {difference} between A and B")
    section = Section("What the differences say", tables[1:], [figure], notes)
    return Report(tables[0], mixed_environment_note(results), [section], documents=_documents(matches, found))


def _table(found: Differences, folders: str) -> Table:
    """Return a table with a row per job, named by the keys in which the jobs differ."""
    jobs = [match.keyed for match in found.matches]
    keys = [key for key in (*ROW_KEYS, "category", "seed") if varies(jobs, key)] or ["category"]
    index = {id(job): i for i, job in enumerate(jobs)}
    rows = [
        [*map(str, values), *_texts(found, index[id(job)])] for values, members in grouped(jobs, keys).items() for job in members
    ]
    headers = [*keys, "A", "B", "B - A", "95 % interval", "p"]
    return Table.of_texts(f"{found.metric} job by job: {folders}", headers, rows, num_labels=len(keys))


def _texts(found: Differences, i: int) -> list[str]:
    values = [f"{found.first[i]:.3f}", f"{found.second[i]:.3f}", _signed(found.values[i])]
    if i not in found.tests:
        return [*values, DASH, DASH]
    p, *ends = found.tests[i]
    return [*values, " to ".join(map(_signed, ends)), f"{p:.2g}"]


def _signed(value: float) -> str:
    text = f"{value:+.3f}"
    return text if float(text) else "0.000"


def _legend(found: Sequence[Differences], total: int) -> list[str]:
    notes = []
    if any(one.tests for one in found):
        notes.append(
            f"interval and p: random signs for each test image, both corrected for all jobs (max T), significant below {ALPHA}"
        )
    if lacking := max(len(one.matches) - len(one.influence) for one in found):
        notes.append(f"{lacking} of {total} jobs have no influence values of the same test images: no interval, no p")
    return notes


def _documents(matches: Sequence[Match], found: Sequence[Differences]) -> list[dict[str, Any]]:
    documents: dict[int, dict[str, Any]] = {}
    for match in matches:
        job = match.first.job
        own = {key: getattr(job, key) for key in JOB_FIELDS if key not in STATE}
        own |= {"layer": job.layer, "key_a": job.key, "key_b": match.second.job.key}
        documents[id(match)] = own | {part: {} for part in PARTS}
    for one in found:
        for i, match in enumerate(one.matches):
            numbers = float(one.first[i]), float(one.second[i]), float(one.values[i])
            p, *ends = one.tests.get(i, (None, None))
            chance = ends if i in one.tests else None, p
            for part, value in zip(PARTS, (*numbers, *chance), strict=True):
                documents[id(match)][part][one.metric] = value
    return list(documents.values())


def _draw(found: Sequence[Differences]) -> Drawing:
    drawing, (axes,) = panels((COLUMN * len(found), COLUMN), 1, len(found))
    look = looks(1)[0]
    for panel, one in zip(axes, found, strict=True):
        low, high = min(one.first.min(), one.second.min()), max(one.first.max(), one.second.max())
        panel.plot([low, high], [low, high], color=INK, linewidth=0.6)
        filled = one.significant
        panel.plot(one.first, one.second, "o", color=look.color, markerfacecolor="white")
        panel.plot(one.first[filled], one.second[filled], "o", color=look.color)
        name = AXIS_NAMES.get(one.metric, one.metric)
        panel.set(xlabel=f"{name} in A", ylabel=f"{name} in B", aspect="equal")
        panel.grid()
    return drawing
