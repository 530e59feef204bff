"""Two results folders job by job: what differs, and whether chance in the test images can explain it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adbench.comparison.differences import Differences, count_jobs, differences, verdicts
from adbench.comparison.pairs import Pair, Pairs, match_jobs
from adbench.errors import DataError
from adbench.reports import Cell, Figure, Report, Section, Table
from adbench.reports.keys import ROW_KEYS, grouped, varies
from adbench.reports.means import DASH
from adbench.reports.pivot import shown_metrics
from adbench.reports.plotting import COLUMN, INK, looks
from adbench.results import ResultStore
from adbench.statistics.ranks import ALPHA
from adbench.studies.grid import AXIS_NAMES, MEASURES
from adbench.types import JOB_FIELDS

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

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
        raise DataError(
            f"no job that '{first}' and '{second}' have in common has a value of {' or '.join(metrics)} in both"
        )
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
        notes.append(
            f"{lacking} of {len(pairs.found)} jobs have no replicates of the same test images: no interval, no p"
        )
    notes += [
        f"done in {side} only: {count_jobs(count)}" for side, count in zip("AB", pairs.alone, strict=True) if count
    ]
    if pairs.ignored:
        notes.append(f"parameters that only one folder has are not compared: {', '.join(pairs.ignored)}")
    for key, what in _STATE.items():
        if count := sum(getattr(p.first.job, key) != getattr(p.second.job, key) for p in pairs.found):
            notes.append(
                f"in {count} of {len(pairs.found)} jobs {what} differ{'' if key != 'revision' else 's'} between A and B"
            )
    return notes


def _documents(pairs: Sequence[Pair], found: Sequence[Differences]) -> list[dict[str, Any]]:
    """Return what formats for programs write: a record per job, numbers by metric."""
    index = [{id(pair): i for i, pair in enumerate(one.pairs)} for one in found]
    return [
        _document(pair, [(one, of[id(pair)]) for one, of in zip(found, index, strict=True) if id(pair) in of])
        for pair in pairs
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
