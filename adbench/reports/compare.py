"""Two results folders job by job: what differs, and whether chance in the test images can explain it."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from adbench.core.errors import DataError
from adbench.reports.formats import Cell, Figure, Report, Section, Table
from adbench.reports.grid import AXIS_NAMES, MEASURES
from adbench.reports.keys import ROW_KEYS, Entry, entries, grouped, varies
from adbench.reports.plotting import COLUMN, INK, looks
from adbench.reports.tables import DASH, choices, current, shown_metrics
from adbench.statistics.bootstrap import row
from adbench.statistics.paired import interval, p_values
from adbench.statistics.ranks import ALPHA, least_categories, wilcoxon
from adbench.sweep.results import ResultStore
from adbench.types import JOB_FIELDS, Job, Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

Names = dict[str, set[str]]


@dataclass(frozen=True)
class Pair:
    """The same job in both folders; `entry` has its keys in words."""

    entry: Entry
    first: Result
    second: Result


@dataclass(frozen=True)
class Pairs:
    """Jobs done in both folders, and how many are not: `alone` = done in one only, by folder; `ignored` = parameters of one."""

    found: Sequence[Pair]
    alone: tuple[int, int]
    ignored: Sequence[str]


def match_jobs(first: Path, second: Path) -> Pairs:
    """Return the jobs that are done in both folders; raise DataError if there are none.

    Jobs belong together if a user chose the same: names of data, backbone, weights and detector, layer, sizes, seed, and every
    parameter that both folders' jobs of the detector have (a newer version may have more).
    """
    one, two = _done(first), _done(second)
    shared = _shared(one, two)
    ours, theirs = _by_choice(one, shared), _by_choice(two, shared)
    common = [key for key in ours if key in theirs]
    if not common:
        raise DataError(
            f"'{first}' and '{second}' have no job in common: none agrees in data set, category, backbone, weights, layer, "
            "sizes, detector, parameters and seed"
        )
    results = [_closest(ours[key], theirs[key]) for key in common]
    named = entries([(a.job, a) for a, _ in results])
    pairs = [Pair(entry, a, b) for entry, (a, b) in zip(named, results, strict=True)]
    return Pairs(pairs, (len(ours) - len(common), len(theirs) - len(common)), _unshared(one, two, shared))


def _done(folder: Path) -> list[Result]:
    store = ResultStore(folder)
    found, _ = current(store.all(), store.planned())
    done = [entry.done for entry in found if entry.done]
    if not done:
        raise DataError(f"no results in '{folder}': run 'adbench sweep' first, or name the folder that it wrote to")
    return done


def _shared(one: Sequence[Result], two: Sequence[Result]) -> Names:
    """Return the parameters that both folders know, by the detectors that both have."""
    ours, theirs = _names(one), _names(two)
    return {detector: ours[detector] & theirs[detector] for detector in ours if detector in theirs}


def _names(results: Sequence[Result]) -> Names:
    found: Names = defaultdict(set)
    for result in results:
        found[result.job.detector] |= set(result.job.params)
    return found


def _unshared(one: Sequence[Result], two: Sequence[Result], shared: Names) -> list[str]:
    both = [(detector, name) for names in (_names(one), _names(two)) for detector in names for name in names[detector]]
    return sorted({f"{name} of {detector}" for detector, name in both if detector in shared and name not in shared[detector]})


def _by_choice(results: Sequence[Result], shared: Names) -> dict[Any, list[Result]]:
    found: dict[Any, list[Result]] = defaultdict(list)
    for result in results:
        found[_choice(result.job, shared)].append(result)
    return found


def _choice(job: Job, shared: Names) -> tuple[Any, ...]:
    params = {name: value for name, value in job.params.items() if name in shared.get(job.detector, ())}
    return (json.dumps(params, sort_keys=True), *choices(job)[1:])


def _closest(ours: Sequence[Result], theirs: Sequence[Result]) -> tuple[Result, Result]:
    """Return a result of each side, of several those on the same state of data, weights and method, else the last."""

    def likeness(pair: tuple[Result, Result]) -> int:
        a, b = (result.job for result in pair)
        return (a.fingerprint == b.fingerprint) + (a.weights_sha256 == b.weights_sha256) + (a.revision == b.revision)

    return max([(a, b) for a in reversed(ours) for b in reversed(theirs)], key=likeness)


Replicates = NDArray[np.float32]
Find = Callable[[Result], Replicates | None]
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Differences:
    """A metric of m jobs that have it in both folders. The second less the first."""

    metric: str
    pairs: Sequence[Pair]
    first: NDArray[np.float64]
    second: NDArray[np.float64]
    replicates: dict[int, NDArray[np.float64]]  # (R,) of the differences that can be had, by index

    @cached_property
    def values(self) -> NDArray[np.float64]:
        """(m,); what only rounding may have made is no difference."""
        return _rounded(self.second - self.first)

    @cached_property
    def intervals(self) -> dict[int, tuple[float, float]]:
        """95 % over test images, by index of the job."""
        return {i: interval(drawn) for i, drawn in self.replicates.items()}

    @cached_property
    def p_values(self) -> dict[int, float]:
        """That the test images explain the difference, corrected for all jobs, by index of the job."""
        if not self.replicates:
            return {}
        chosen = list(self.replicates)
        return dict(zip(chosen, p_values(self.values[chosen], np.array(list(self.replicates.values()))).tolist(), strict=True))

    @property
    def significant(self) -> list[int]:
        return [i for i, p in self.p_values.items() if p < ALPHA]


def differences(pairs: Sequence[Pair], metric: str, find: tuple[Find, Find]) -> Differences:
    """Return the differences of a metric; `find` gives the replicates (7, R) of a result of either folder."""
    known = [p for p in pairs if p.first.metrics.get(metric) is not None and p.second.metrics.get(metric) is not None]
    first, second = (np.array([r.metrics[metric] for r in side], dtype=float)
                     for side in ([p.first for p in known], [p.second for p in known]))  # fmt: skip
    drawn = {i: found for i, pair in enumerate(known) if (found := _resampled_difference(pair, metric, find)) is not None}
    return Differences(metric, known, first, second, drawn)


def _resampled_difference(pair: Pair, metric: str, find: tuple[Find, Find]) -> NDArray[np.float64] | None:
    """Return the replicates of a difference, if both were drawn from the same test images."""
    names = [result.details.get("resamples") for result in (pair.first, pair.second)]
    if None in names or names[0] != names[1]:
        return None
    first, second = find[0](pair.first), find[1](pair.second)
    if first is None or second is None or first.shape[1] != second.shape[1]:
        return None
    before, after = row(first, pair.first.metrics, metric), row(second, pair.second.metrics, metric)
    return None if before is None or after is None else np.array(after - before, dtype=float)


def verdicts(found: Differences) -> list[str]:
    """Return what the differences of all jobs say together, in sentences."""
    values, jobs = found.values, len(found.pairs)
    if not values.any():
        return [f"{found.metric}: A and B do not differ: equal in {count_jobs(jobs)}"]
    higher, lower, equal = (int(which.sum()) for which in (values > 0, values < 0, values == 0))
    counts = f"B is higher in {higher}, lower in {lower}, equal in {equal} of {count_jobs(jobs)}"
    told = [f"{found.metric}: {counts}; mean difference {values.mean():+.3f}; {_over(values, 'jobs')}"]
    by_category = _by_category(found)
    if len(by_category) < jobs:
        told[0] += "; jobs of one category share their test images, which makes that p too small"
        told.append(f"{found.metric}: means of each category: {_over(by_category, 'categories')}")
    if found.p_values:
        number, of = len(found.significant), count_jobs(len(found.p_values))
        told.append(f"{found.metric}: {number} of {of} with common replicates differ significantly over their test images")
    return told


def count_jobs(count: int) -> str:
    """Return a number of jobs in words."""
    return "1 job" if count == 1 else f"{count} jobs"


def _over(values: NDArray[np.float64], what: str) -> str:
    if len(values) < least_categories(1):
        return f"too few {what} for a test, {least_categories(1)} are the least"
    return f"Wilcoxon's test over {len(values)} {what}: p = {wilcoxon(values, np.zeros(len(values))):.2g}"


def _by_category(found: Differences) -> NDArray[np.float64]:
    """Return the mean difference of each category."""
    values: dict[tuple[str, str], list[float]] = defaultdict(list)
    for pair, value in zip(found.pairs, found.values, strict=True):
        values[pair.entry.job.dataset, pair.entry.job.category].append(float(value))
    return _rounded(np.array([np.mean(own) for own in values.values()]))


def _rounded(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(np.abs(values) < _ROUNDING, 0.0, values)


_STATE = {"fingerprint": "the data", "weights_sha256": "the weights' bytes", "revision": "the method's revision"}


def compare(first: Path, second: Path, metric: str | None = None) -> Report:
    """Return the report on the differences of two results folders, A and B, by one metric or by the paper's two.

    Raises DataError if a folder has no results or both have no job in common, UsageError for an unknown metric.
    """
    pairs = match_jobs(first, second)
    results = [result for pair in pairs.found for result in (pair.first, pair.second)]
    metrics = shown_metrics(results, metric) if metric else [m for m in MEASURES if m in shown_metrics(results, None)]
    stores = ResultStore(first), ResultStore(second)
    every = [differences(pairs.found, name, (_finder(stores[0]), _finder(stores[1]))) for name in metrics]
    found = [one for one in every if one.pairs]
    if not found:
        raise DataError(f"no job that '{first}' and '{second}' have in common has a value of {' or '.join(metrics)} in both")
    tables = [_table(one, f"A = {first}, B = {second}") for one in found]
    notes = [*(sentence for one in found for sentence in verdicts(one)), *_remarks(pairs, found)]
    section = Section("What the differences say", tables[1:], [_figure(found)], notes)
    return Report(tables[0], sections=[section], documents=_documents(pairs.found, found))


def _finder(store: ResultStore) -> Any:
    return lambda result: store.replicates(result.job.key)


def _table(found: Differences, folders: str) -> Table:
    """One row per job; keys in which the jobs differ name it."""
    named = [pair.entry for pair in found.pairs]
    keys = [key for key in (*ROW_KEYS, "category", "seed") if varies(named, key)] or ["category"]
    index = {id(entry): i for i, entry in enumerate(named)}
    rows = [
        [*map(Cell, map(str, values)), *map(Cell, _texts(found, index[id(entry)]))]
        for values, own in grouped(named, keys).items()
        for entry in own
    ]
    headers = [*keys, "A", "B", "B - A", "95 % interval", "p"]
    return Table(f"{found.metric} job by job: {folders}", headers, rows, num_labels=len(keys))


def _texts(found: Differences, i: int) -> list[str]:
    values = [f"{found.first[i]:.3f}", f"{found.second[i]:.3f}", _signed(found.values[i])]
    if i not in found.intervals:
        return [*values, DASH, DASH]
    low, high = found.intervals[i]
    return [*values, f"{_signed(low)} to {_signed(high)}", f"{found.p_values[i]:.2g}"]


def _signed(value: float) -> str:
    text = f"{value:+.3f}"
    return text if float(text) else "0.000"


def _remarks(pairs: Pairs, found: Sequence[Differences]) -> list[str]:
    """What the columns mean, what is not compared, and what differs besides."""
    notes = []
    if any(one.p_values for one in found):
        notes.append(
            f"interval and p: paired bootstrap over the test images, p corrected for all jobs (max T), significant below {ALPHA}"
        )
    if lacking := max(len(one.pairs) - len(one.replicates) for one in found):
        notes.append(f"{lacking} of {len(pairs.found)} jobs have no replicates of the same test images: no interval, no p")
    notes += [f"done in {side} only: {count_jobs(count)}" for side, count in zip("AB", pairs.alone, strict=True) if count]
    if pairs.ignored:
        notes.append(f"parameters that only one folder has are not compared: {', '.join(pairs.ignored)}")
    for key, what in _STATE.items():
        if count := sum(getattr(p.first.job, key) != getattr(p.second.job, key) for p in pairs.found):
            notes.append(f"in {count} of {len(pairs.found)} jobs {what} differ{'' if key != 'revision' else 's'} between A and B")
    return notes


def _documents(pairs: Sequence[Pair], found: Sequence[Differences]) -> list[dict[str, Any]]:
    """Return what formats for programs write: a record per job, numbers by metric."""
    index = [{id(pair): i for i, pair in enumerate(one.pairs)} for one in found]
    return [
        _document(pair, [(one, of[id(pair)]) for one, of in zip(found, index, strict=True) if id(pair) in of]) for pair in pairs
    ]


def _document(pair: Pair, found: Sequence[tuple[Differences, int]]) -> dict[str, Any]:
    job = {key: getattr(pair.first.job, key) for key in JOB_FIELDS if key not in _STATE}
    keys = {"layer": pair.first.job.layer, "key_a": pair.first.job.key, "key_b": pair.second.job.key}
    return (
        job
        | keys
        | {
            "a": {one.metric: float(one.first[i]) for one, i in found},
            "b": {one.metric: float(one.second[i]) for one, i in found},
            "difference": {one.metric: float(one.values[i]) for one, i in found},
            "interval": {one.metric: list(one.intervals[i]) if i in one.intervals else None for one, i in found},
            "p": {one.metric: one.p_values.get(i) for one, i in found},
        }
    )


def _figure(found: Sequence[Differences]) -> Figure:
    return Figure(
        name="compare",
        caption="Every job in A and in B; filled: significantly different over its test images",
        description=" ".join(f"{sentence}." for one in found for sentence in verdicts(one)),
        draw=lambda: _drawn(found),
    )


def _drawn(found: Sequence[Differences]) -> Drawing:
    from matplotlib.figure import Figure as Drawing

    drawing = Drawing(figsize=(COLUMN * len(found), COLUMN), layout="constrained")
    look = looks(1)[0]
    for panel, one in zip(drawing.subplots(1, len(found), squeeze=False)[0], found, strict=True):
        low, high = min(one.first.min(), one.second.min()), max(one.first.max(), one.second.max())
        panel.plot([low, high], [low, high], color=INK, linewidth=0.6)
        filled = one.significant
        panel.plot(one.first, one.second, "o", color=look.colour, markerfacecolor="white")
        panel.plot(one.first[filled], one.second[filled], "o", color=look.colour)
        name = AXIS_NAMES.get(one.metric, one.metric)
        panel.set(xlabel=f"{name} in A", ylabel=f"{name} in B", aspect="equal")
        panel.grid()
    return drawing
