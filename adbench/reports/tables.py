"""The main table: which jobs it covers, its rows and columns, the means in its cells, and the notes under it."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from adbench.core.errors import DataError
from adbench.core.registry import match
from adbench.metrics import ORDER, in_order
from adbench.reports.formats import Cell, Report, Table
from adbench.reports.keys import KEYS, ROW_KEYS, KeyedJob, choose_rows, grouped, keyed_jobs, natural, varies
from adbench.types import Job, Result

DASH = "-"
APPROXIMATE = "~"  # in front of an estimated receptive field
COSTS = {"images_per_second": "images/s", "state_mb": "state MB"}
PIVOT_METRIC = "image_auroc"
NO_VERSIONS = {"accelerator", "device", "machine", "system", "tf32", "threads"}  # of `environment`; all others are
Scope = frozenset[tuple[Any, ...]]


def fraction(value: float | None, digits: int = 2) -> str:
    """Return a number as printed, a dash for None."""
    return DASH if value is None else f"{value:.{digits}f}"


def estimate_note(jobs: Iterable[KeyedJob]) -> list[str]:
    """Return what the mark of an estimated receptive field means, if any has it."""
    marked = any(job.done and job.done.field_is_estimated for job in jobs)
    return [f"{APPROXIMATE}: receptive field estimated from gradients at the image size; no analytic one is known"] * marked


def shown_metrics(results: Iterable[Result], metric: str | None = None) -> list[str]:
    """Return the metrics to show: the one asked for, or all that any result has. Their plug-ins need not be installed."""
    known = in_order({name for result in results for name in result.metrics} or ORDER)
    return [match("metric", metric, known, see="metrics")] if metric else known


@dataclass(frozen=True)
class Column:
    """A column of numbers: which number of a result it shows, of the jobs with one value of a key (None: of all)."""

    header: str
    value: Callable[[Result], float | None]
    only: tuple[str, Any] | None = None
    digits: int = 3
    ranked: bool = True
    is_estimate: Callable[[Result], bool] = lambda result: False


def metric_column(name: str, header: str = "", only: tuple[str, Any] | None = None) -> Column:
    """Return the column of a metric."""
    return Column(header or name, lambda result: result.metrics.get(name), only)


def cost_column(name: str, header: str, digits: int = 1) -> Column:
    """Return the column of a cost, which is not ranked."""
    return Column(header, lambda result: result.cost.get(name), digits=digits, ranked=False)


@dataclass(frozen=True)
class Mean:
    """A mean over categories, and the part of the planned jobs that it covers.

    number: as printed, or a dash. share: "n/N" or "n/N jobs", empty if nothing is missing. scope: the categories and
    evaluation grids behind it; only means of equal scope are ranked against each other. mark: `APPROXIMATE`, or empty.
    """

    number: str
    share: str
    scope: Scope
    mark: str = ""

    @property
    def text(self) -> str:
        return f"{self.mark}{self.number} ({self.share})" if self.share and self.number != DASH else f"{self.mark}{self.number}"

    @property
    def complete(self) -> bool:
        return self.number != DASH and not self.share


def means_of(row: Sequence[KeyedJob], columns: Sequence[Column]) -> list[Mean]:
    """Return the mean of a row in each column: over seeds within a category first, then over categories."""
    covered: dict[tuple[str, Any] | None, tuple[Sequence[KeyedJob], Scope]] = {}
    for only in {column.only for column in columns}:
        jobs = [job for job in row if job.values[only[0]] == only[1]] if only else row
        covered[only] = jobs, frozenset((j.job.dataset, j.job.category, j.job.eval_size, j.job.pro_limit) for j in jobs)
    return [_mean(*covered[column.only], column) for column in columns]


def _mean(jobs: Sequence[KeyedJob], scope: Scope, column: Column) -> Mean:
    values: dict[str, list[float]] = defaultdict(list)
    for job in jobs:
        if job.done and (value := column.value(job.done)) is not None:
            values[job.job.category].append(value)
    number = fraction(fmean(fmean(v) for v in values.values()), column.digits) if values else DASH
    planned = len({category for _, category, *_ in scope})
    mark = APPROXIMATE * bool(values) * any(column.is_estimate(job.done) for job in jobs if job.done)
    return Mean(number, _share(len(values), planned, sum(map(len, values.values())), len(jobs)), scope, mark)


def mean_of(row: Sequence[KeyedJob], metric: str) -> Mean:
    """Return the mean of one metric over the categories of a row."""
    return means_of(row, [metric_column(metric)])[0]


def count_categories(row: Sequence[KeyedJob]) -> str:
    """Return "done/planned" categories of a row, with the number of jobs where only seeds are missing."""
    done = [job for job in row if job.done]
    finished, planned = (len({job.job.category for job in jobs}) for jobs in (done, row))
    share, whole = _share(finished, planned, len(done), len(row)), f"{finished}/{planned}"
    return f"{whole} ({share})" if share not in ("", whole) else whole


def _share(categories: int, of: int, jobs: int, of_jobs: int) -> str:
    if categories < of:
        return f"{categories}/{of}"
    return f"{jobs}/{of_jobs} jobs" if jobs < of_jobs else ""


def ranked(means: Sequence[Sequence[Mean]], columns: Sequence[Column]) -> list[list[Cell]]:
    """Return the cells of rows; the highest complete mean of a column and scope is marked, as are those printed alike."""
    best: dict[tuple[int, Scope], float] = {}
    for row in means:
        for i, mean in enumerate(row):
            if columns[i].ranked and mean.complete:
                best[i, mean.scope] = max(float(mean.number), best.get((i, mean.scope), float("-inf")))
    return [[Cell(m.text, m.complete and best.get((i, m.scope)) == float(m.number)) for i, m in enumerate(r)] for r in means]


def main_table(
    results: Sequence[Result],
    planned: Sequence[Job] = (),
    rows: Sequence[str] = (),
    columns: str | None = None,
    metric: str | None = None,
    folder: Path | str = "results",
) -> tuple[Report, list[KeyedJob], list[str]]:
    """Return a report of the main table alone, the jobs behind the table, and the keys that name its rows.

    `rows`: keys (or comma lists of them), by default those that vary. `columns`: a key whose values become columns of one
    metric; by default there is a column per metric. `folder` is named in the error where there is nothing to report.
    """
    if not results:
        raise DataError(f"no results in '{folder}': run 'adbench sweep' first, or name the folder that it wrote to")
    jobs, superseded = current(results, planned)
    column_key = match("column key", columns, KEYS) if columns else None
    row_keys = choose_rows(jobs, rows, column_key)
    metrics = shown_metrics(results, metric or (PIVOT_METRIC if columns else None))
    table, means = table_of_means(jobs, row_keys, column_key, metrics)
    named = [*row_keys, column_key] if column_key else row_keys
    mixed = [key for key in ROW_KEYS if key not in named and varies(jobs, key, named)]
    notes = partial_note(means)
    notes += [] if column_key else estimate_note(jobs)
    notes += [f"each mean also runs over {', '.join(mixed)}; add to --rows to see them apart"] if mixed else []
    notes += _missing_notes(jobs, superseded)
    notes += mixed_environment_note(job.done for job in jobs if job.done)
    return Report(table, notes, results=results), jobs, row_keys


def table_of_means(
    jobs: Sequence[KeyedJob], row_keys: Sequence[str], column_key: str | None, metrics: Sequence[str]
) -> tuple[Table, list[list[Mean]]]:
    """Return a table with a row per value of `row_keys`, and the means in it.

    Its columns are all metrics, or the values of `column_key` for the first metric, and where these are categories their mean.
    """
    if column_key:
        values = sorted({job.values[column_key] for job in jobs}, key=lambda value: natural(value, column_key))
        columns = [metric_column(metrics[0], str(value), (column_key, value)) for value in values]
        columns += [metric_column(metrics[0], "mean")] if column_key == "category" else []
    else:
        columns = _metric_columns(jobs, metrics)
    groups = grouped(jobs, row_keys)
    means = [means_of(group, columns) for group in groups.values()]
    table = Table(
        caption=_caption(jobs, row_keys, column_key, metrics),
        headers=[*row_keys, "categories", *(column.header for column in columns)],
        rows=[
            [*(Cell(str(value)) for value in values), Cell(count_categories(group)), *cells]
            for (values, group), cells in zip(groups.items(), ranked(means, columns), strict=True)
        ],
        num_labels=len(row_keys),
    )
    return table, means


def _metric_columns(jobs: Sequence[KeyedJob], metrics: Iterable[str]) -> list[Column]:
    """Return the columns of the relative receptive field (RRF), of each metric and of each cost, where any is known."""
    known = {name for job in jobs if job.done for name, value in job.done.cost.items() if value is not None}
    costs = [cost_column(name, header) for name, header in COSTS.items() if name in known]
    has_field = any(job.done and job.done.receptive_field for job in jobs)
    rrf = Column("RRF", lambda r: r.relative_field, digits=2, ranked=False, is_estimate=lambda r: r.field_is_estimated)
    return [*([rrf] if has_field else []), *map(metric_column, metrics), *costs]


def _caption(jobs: Sequence[KeyedJob], rows: Sequence[str], columns: str | None, metrics: Sequence[str]) -> str:
    """Return what the numbers are, and the keys in which all rows agree."""
    numbers = f"{metrics[0]} by {columns}" if columns else "Mean over categories"
    keys = [key for key in (*ROW_KEYS, "category") if key not in (*rows, columns, "params") and not varies(jobs, key)]
    shared = ", ".join(f"{key} {jobs[0].values[key]}" for key in keys)
    return f"{numbers}; all rows: {shared}" if shared else numbers


def current(results: Sequence[Result], planned: Sequence[Job]) -> tuple[list[KeyedJob], int]:
    """Return planned and run jobs, each once, and the number of results that are superseded.

    A result is superseded where a plan has the same job on newer data, weights or methods.
    """
    jobs: dict[str, tuple[Job, Result | None]] = {job.key: (job, None) for job in planned}
    unplanned = [result for result in results if result.job.key not in jobs]
    repeated = {choices(job) for job in planned} if unplanned else set()
    others = [result for result in unplanned if choices(result.job) not in repeated]
    jobs |= {result.job.key: (result.job, result) for result in (*others, *(r for r in results if r.job.key in jobs))}
    return keyed_jobs(list(jobs.values())), len(unplanned) - len(others)


def choices(job: Job, without: Sequence[str] = ()) -> tuple[Any, ...]:
    """Return what a user chose of a job, except some keys; not what follows from the files and the program's version."""
    state = ("fingerprint", "weights_sha256", "revision", "extraction", "params", *without)
    return (job.params_text, *(value for key, value in job.record().items() if key not in state))


def partial_note(means: Iterable[Iterable[Mean]]) -> list[str]:
    """Return the meaning of a share in brackets, if any mean has one."""
    partial = any(mean.share and mean.text != mean.number for row in means for mean in row)
    return ["a number with (n/N) is over n of N planned categories (or jobs) and is not ranked"] if partial else []


def mixed_environment_note(results: Iterable[Result]) -> list[str]:
    """Return one line if done results were made with different versions of a library, or on different kinds of device."""
    known = [result for result in results if result.environment]
    versions: dict[str, set[str]] = defaultdict(set)
    for environment in {id(result.environment): result.environment for result in known}.values():  # most results share one
        for name in environment.keys() - NO_VERSIONS:
            versions[name].add(str(environment[name]))
    devices = {_device_kind(result) for result in known}
    mixed = ", ".join(f"{name} {_joined(versions[name])}" for name in sorted(versions) if len(versions[name]) > 1)
    parts = [mixed, f"device kinds {_joined(devices)}" if len(devices) > 1 else ""]
    return [f"the results mix {'; '.join(filter(None, parts))}: last digits and times may differ"] if any(parts) else []


def _device_kind(result: Result) -> str:
    """Return the kind of device that a result was computed on; records without one say whether a GPU's memory was used."""
    if device := result.environment.get("device"):
        return str(device).partition(":")[0]
    accelerator = result.environment.get("accelerator")
    return "cuda" if accelerator and result.cost.get("accelerator_memory_mb", 0) is not None else "cpu"


def _joined(texts: Iterable[str]) -> str:
    *others, last = sorted(texts, key=natural)
    return f"{', '.join(others)} and {last}"


def _missing_notes(jobs: Sequence[KeyedJob], superseded: int) -> list[str]:
    """Return one line per reason why something is missing, failures first."""
    results = [job.result for job in jobs if job.result]
    notes = []
    for status in ("failed", "skipped"):
        by_reason = _by_reason((status, result) for result in results if result.status == status)
        notes += [f"{counted(len(found), 'job')} {status}: {reason} ({_example(found)})" for (_, reason), found in by_reason]
    if waiting := len(jobs) - len(results):
        notes.append(f"{waiting} of {len(jobs)} planned jobs not run yet")
    done = [result for result in results if result.status == "done"]
    undefined = _by_reason((", ".join(sorted(name for name, value in r.metrics.items() if value is None)), r) for r in done)
    notes += [f"{n} undefined in {counted(len(jobs), 'job')}: {why} ({_example(jobs)})" for (n, why), jobs in undefined if n]
    if superseded:
        notes.append(f"{counted(superseded, 'result')} of older data, weights or methods left out: the plan has newer jobs")
    return notes


def _by_reason(labeled: Iterable[tuple[str, Result]]) -> list[tuple[tuple[str, str], list[Job]]]:
    """Return the jobs of results by label and reason, the largest group first."""
    groups: dict[tuple[str, str], list[Job]] = defaultdict(list)
    for label, result in labeled:
        groups[label, " ".join((result.reason or "no reason given").split())].append(result.job)
    return sorted(groups.items(), key=lambda item: -len(item[1]))


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural where it is not 1."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _example(jobs: Sequence[Job]) -> str:
    job = jobs[0]
    words = (job.dataset, job.category, job.backbone, job.weights, job.layer, job.image_size, job.detector)
    return f"{'e.g. ' if len(jobs) > 1 else ''}{' '.join(map(str, words))}, seed {job.seed}"
