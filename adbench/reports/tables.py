"""The table that every format for people prints: which jobs it is about, what its rows and columns are."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

from adbench.core.errors import DataError
from adbench.core.registry import match
from adbench.metrics import ORDER, in_order
from adbench.reports.formats import Cell, Report, Table
from adbench.reports.keys import ROW_KEYS, Entry, choose_rows, entries, grouped, natural, parse_key, receptive_field, varies
from adbench.types import Job, Result

DASH = "-"
Scope = frozenset[tuple[Any, ...]]


def every(entry: Entry) -> bool:
    """Take any entry."""
    return True


@dataclass(frozen=True)
class Column:
    """One column of values: which entries of a row it takes, and which number of a result."""

    header: str
    value: Callable[[Result], float | None]
    takes: Callable[[Entry], bool] = every
    digits: int = 3
    ranked: bool = True


@dataclass(frozen=True)
class Mean:
    """A cell before the best of its column is known; `scope` = what it must share with those it is compared to."""

    number: str  # as printed, or a dash
    share: str  # what part of the planned jobs the number is over, empty if all
    scope: Scope

    @property
    def text(self) -> str:
        return f"{self.number} ({self.share})" if self.share and self.number != DASH else self.number

    @property
    def complete(self) -> bool:
        return self.number != DASH and not self.share


def metric_value(name: str) -> Callable[[Result], float | None]:
    """Return the function that looks up a metric of a result."""
    return lambda result: result.metrics.get(name)


@dataclass(frozen=True)
class Coverage:
    """The entries of a row that a column takes."""

    entries: Sequence[Entry]

    @cached_property
    def categories(self) -> int:
        return _categories(self.entries)

    @cached_property
    def scope(self) -> Scope:
        return frozenset((e.job.dataset, e.job.category, e.job.eval_size, e.job.pro_limit) for e in self.entries)


def means_of(row: Sequence[Entry], columns: Sequence[Column]) -> list[Mean]:
    """Return the mean of a row's entries in each column, with what it lacks."""
    parts: dict[Callable[[Entry], bool], Coverage] = {}
    for column in columns:
        if column.takes not in parts:
            parts[column.takes] = Coverage([entry for entry in row if column.takes(entry)])
    return [_mean(parts[column.takes], column) for column in columns]


def mean_of(row: Sequence[Entry], column: Column) -> Mean:
    """Return the mean of a row's entries that belong to `column`, with what it lacks."""
    return means_of(row, [column])[0]


def _mean(part: Coverage, column: Column) -> Mean:
    values: dict[str, list[float]] = defaultdict(list)
    for entry in part.entries:
        if entry.done and (value := column.value(entry.done)) is not None:
            values[entry.job.category].append(value)
    number = f"{fmean(fmean(v) for v in values.values()):.{column.digits}f}" if values else DASH
    share = _share(len(values), part.categories, sum(map(len, values.values())), len(part.entries))
    return Mean(number, share, part.scope)


def count(row: Sequence[Entry]) -> str:
    """Return "done/planned" categories of a row, and its jobs where only seeds are missing."""
    done = [entry for entry in row if entry.done]
    share = _share(_categories(done), _categories(row), len(done), len(row))
    whole = f"{_categories(done)}/{_categories(row)}"
    return f"{whole} ({share})" if share not in ("", whole) else whole


def ranked(means: Sequence[Sequence[Mean]], columns: Sequence[Column]) -> list[list[Cell]]:
    """Return the cells, the highest of each column marked, among complete ones of equal scope; ties as printed."""
    best: dict[tuple[int, Scope], float] = {}
    for row in means:
        for i, mean in enumerate(row):
            if columns[i].ranked and mean.complete:
                best[i, mean.scope] = max(float(mean.number), best.get((i, mean.scope), float("-inf")))
    return [[Cell(m.text, m.complete and best.get((i, m.scope)) == float(m.number)) for i, m in enumerate(r)] for r in means]


def _categories(entries: Sequence[Entry]) -> int:
    return len({entry.job.category for entry in entries})


def _share(categories: int, of: int, jobs: int, of_jobs: int) -> str:
    if categories < of:
        return f"{categories}/{of}"
    return f"{jobs}/{of_jobs} jobs" if jobs < of_jobs else ""


def partial_note(means: Iterable[Iterable[Mean]]) -> list[str]:
    """Return what a number with a share behind it means, if there is one."""
    partial = any(mean.share and mean.text != mean.number for row in means for mean in row)
    return ["a number with (n/N) is over n of N planned categories (or jobs) and is not ranked"] if partial else []


def missing_notes(found: Sequence[Entry], superseded: int) -> list[str]:
    """Return one line per reason why something is missing, failures first; none if nothing is."""
    results = [entry.result for entry in found if entry.result]
    notes = [*_unfinished(results, "failed"), *_unfinished(results, "skipped")]
    if waiting := len(found) - len(results):
        notes.append(f"{waiting} of {len(found)} planned jobs not run yet")
    notes += _undefined(results)
    if superseded:
        notes.append(f"{_count(superseded, 'result')} of older data, weights or methods left out: the plan has newer jobs")
    return notes


def _unfinished(results: Iterable[Result], status: str) -> list[str]:
    grouped: dict[str, list[Job]] = defaultdict(list)
    for result in results:
        if result.status == status:
            grouped[_line(result.reason)].append(result.job)
    largest_first = sorted(grouped.items(), key=lambda item: -len(item[1]))
    return [f"{_count(len(jobs), 'job')} {status}: {reason} ({_example(jobs)})" for reason, jobs in largest_first]


def _undefined(results: Iterable[Result]) -> list[str]:
    grouped: dict[tuple[str, str], list[Job]] = defaultdict(list)
    for result in results:
        names = ", ".join(sorted(name for name, value in result.metrics.items() if value is None))
        if names and result.status == "done":
            grouped[names, _line(result.reason)].append(result.job)
    return [
        f"{names} undefined in {_count(len(jobs), 'job')}: {reason} ({_example(jobs)})"
        for (names, reason), jobs in sorted(grouped.items(), key=lambda item: -len(item[1]))
    ]


def _line(reason: str | None) -> str:
    return " ".join((reason or "no reason given").split())


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _example(jobs: Sequence[Job]) -> str:
    job = jobs[0]
    words = (job.dataset, job.category, job.backbone, job.weights, job.layer, job.image_size, job.detector)
    return f"{'e.g. ' if len(jobs) > 1 else ''}{' '.join(map(str, words))}, seed {job.seed}"


COSTS = {"images_per_second": "images/s", "state_mb": "state MB"}
PIVOT_METRIC = "image_auroc"


def build(
    results: Sequence[Result],
    planned: Sequence[Job] = (),
    rows: Sequence[str] = (),
    columns: str | None = None,
    metric: str | None = None,
    folder: Path | str = "results",
) -> Report:
    """Return the report on `results`, out of the jobs `planned`.

    `rows`: record keys (or comma lists of them) that name a row, default those that vary. `columns`: a record key to
    pivot one metric on, default one column per metric. `folder` is only for the message when there is nothing to report.
    """
    return laid_out(results, planned, rows, columns, metric, folder)[0]


def laid_out(
    results: Sequence[Result],
    planned: Sequence[Job],
    rows: Sequence[str],
    columns: str | None,
    metric: str | None,
    folder: Path | str,
) -> tuple[Report, list[Entry], list[str]]:
    """Return what `build` does, the jobs behind its table, and the keys that name a row of it."""
    if not results:
        raise DataError(f"no results in '{folder}': run 'adbench sweep' first, or name the folder that it wrote to")
    found, superseded = current(results, planned)
    column_key = parse_key("column key", columns) if columns else None
    row_keys = choose_rows(found, rows, column_key)
    table, means = tabulated(found, row_keys, column_key, shown_metrics(results, metric or (PIVOT_METRIC if columns else None)))
    notes = [*partial_note(means), *_mixed_note(found, row_keys, column_key), *missing_notes(found, superseded)]
    return Report(table, notes, results=results), found, row_keys


def tabulated(
    found: Sequence[Entry], row_keys: Sequence[str], column_key: str | None, metrics: Sequence[str]
) -> tuple[Table, list[list[Mean]]]:
    """Return a table with a row per value of `row_keys`, and the means in it.

    Its columns are all metrics, or the values of `column_key` for the first metric.
    """
    wanted = _pivot_columns(found, column_key, metrics[0]) if column_key else _metric_columns(found, metrics)
    groups = grouped(found, row_keys)
    means = [means_of(group, wanted) for group in groups.values()]
    table = Table(
        caption=_caption(found, row_keys, column_key, metrics),
        headers=[*row_keys, "categories", *(column.header for column in wanted)],
        rows=[
            [*(Cell(str(n)) for n in names), Cell(count(group)), *cells]
            for (names, group), cells in zip(groups.items(), ranked(means, wanted), strict=True)
        ],
        num_labels=len(row_keys),
    )
    return table, means


def current(results: Sequence[Result], planned: Sequence[Job]) -> tuple[list[Entry], int]:
    """Return planned and run jobs, each once, without those that a plan repeats on newer data, weights or methods.

    Also returns how many results were left out for that.
    """
    jobs: dict[str, tuple[Job, Result | None]] = {job.key: (job, None) for job in planned}
    unplanned = [result for result in results if result.job.key not in jobs]
    repeated = {choices(job) for job in planned} if unplanned else set()
    others = [result for result in unplanned if choices(result.job) not in repeated]
    jobs |= {result.job.key: (result.job, result) for result in (*others, *(r for r in results if r.job.key in jobs))}
    return entries(list(jobs.values())), len(unplanned) - len(others)


def choices(job: Job, without: Sequence[str] = ()) -> tuple[Any, ...]:
    """Return what a user chose of a job but for some keys, not what follows from the state of the disk and the program."""
    state = ("fingerprint", "weights_sha256", "revision", "params", *without)
    return (job.params_text, *(value for key, value in job.record().items() if key not in state))


def shown_metrics(results: Iterable[Result], metric: str | None) -> list[str]:
    """Return the metrics to show: the one asked for, or all that any result has."""
    present = {name for result in results for name in result.metrics} or set(ORDER)
    known = in_order(present)
    return [match("metric", metric, known, see="metrics")] if metric else known


def _metric_columns(found: Sequence[Entry], metrics: Iterable[str]) -> list[Column]:
    """Return the relative receptive field (RRF), one column per metric, then the costs; all where they are known."""
    known = {name for entry in found if entry.done for name, value in entry.done.cost.items() if value is not None}
    costs = [Column(header, _cost(name), digits=1, ranked=False) for name, header in COSTS.items() if name in known]
    field = [Column("RRF", _relative_field, digits=2, ranked=False)] if any(map(receptive_field, found)) else []
    return [*field, *(Column(name, metric_value(name)) for name in metrics), *costs]


def _pivot_columns(found: Iterable[Entry], key: str, metric: str) -> list[Column]:
    """Return one column per value of `key`, all for one metric; over categories, their mean too."""
    values = sorted({entry.values[key] for entry in found}, key=lambda value: natural(key, value))
    columns = [Column(str(value), metric_value(metric), _having(key, value)) for value in values]
    return [*columns, Column("mean", metric_value(metric))] if key == "category" else columns


def _cost(name: str) -> Callable[[Result], float | None]:
    return lambda result: result.cost.get(name)


def _having(key: str, value: object) -> Callable[[Entry], bool]:
    return lambda entry: bool(entry.values[key] == value)


def _relative_field(result: Result) -> float | None:
    return result.receptive_field / result.job.image_size if result.receptive_field else None


def _caption(found: Sequence[Entry], rows: Sequence[str], columns: str | None, metrics: Sequence[str]) -> str:
    """Return what the numbers are and what all rows share."""
    what = f"{metrics[0]} by {columns}" if columns else "Mean over categories"
    keys = [key for key in (*ROW_KEYS, "category") if key not in (*rows, columns, "params") and not varies(found, key)]
    shared = ", ".join(f"{key} {found[0].values[key]}" for key in keys)
    return f"{what}; all rows: {shared}" if shared else what


def _mixed_note(found: Sequence[Entry], rows: Sequence[str], columns: str | None) -> list[str]:
    """Return a note if cells mix values of keys that neither rows nor columns tell apart."""
    apart = [*rows, columns] if columns else list(rows)
    mixed = [key for key in ROW_KEYS if key not in apart and varies(found, key, apart)]
    return [f"each mean also runs over {', '.join(mixed)}; add to --rows to see them apart"] if mixed else []
