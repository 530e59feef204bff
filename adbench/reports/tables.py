"""The main table: which jobs it covers, its rows and columns, the means in its cells, and the notes under it."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from adbench.core.errors import DataError, UsageError
from adbench.core.registry import match, squeeze
from adbench.metrics import AT_THRESHOLD, METRICS, ON_REQUEST, ORDER, in_order
from adbench.reports.comparison import APPROXIMATE, DASH, Column, Comparison, Mean, metric_column
from adbench.reports.formats import Cell, Report, Table
from adbench.reports.keys import KEYS, ROW_KEYS, KeyedJob, choose_rows, grouped, keyed_jobs, natural, varies
from adbench.types import LATER, Job, Result

COSTS = {"images_per_second": "images/s", "state_mb": "state MB"}
PIVOT_METRIC = "image_auroc"
NO_VERSIONS = {"accelerator", "device", "machine", "system", "tf32", "threads"}  # of `environment`; all others are
SHOWN = ("image_auroc", "aupro")  # the package's metrics that a table has unless others are asked for
ALL = "all"


def shown_metrics(results: Iterable[Result], chosen: Sequence[str] | None = None) -> list[str]:
    """Return the metrics to show: those asked for, "all" for all that any result has, by default few of them.

    Metrics of plug-ins, which need not be installed, are shown by default, too. Those on request that no result has a value of
    are shown only if they are named.
    """
    results = list(results)
    known = in_order({name for result in results for name in result.metrics} or ORDER)
    if not chosen:
        return [name for name in known if name in SHOWN or name not in (*ORDER, *ON_REQUEST, *AT_THRESHOLD)]
    if ALL in chosen:
        valued = {name for name in ON_REQUEST if any(result.metrics.get(name) is not None for result in results)}
        return [name for name in known if name not in ON_REQUEST or name in valued]
    known = in_order({*known, *ON_REQUEST, *AT_THRESHOLD})
    return list(dict.fromkeys(match("metric", name, known, see="metrics") for name in chosen))


def analytic_note(jobs: Iterable[KeyedJob]) -> list[str]:
    """Return what the mark of an analytic receptive field means, if any has it."""
    marked = any(job.done and job.done.field_is_analytic for job in jobs)
    text = "the analytic receptive field of a result without the estimated one (earlier versions): an upper bound, not comparable"
    return [f"{APPROXIMATE}: {text}"] * marked


def cost_column(name: str, header: str, digits: int = 1) -> Column:
    """Return the column of a cost, which is not ranked."""
    less = name != "images_per_second"
    return Column(header, lambda result: result.cost.get(name), digits=digits, ranked=False, falling=less)


def ranked(means: Sequence[Sequence[Mean]], columns: Sequence[Column]) -> list[list[Cell]]:
    """Return the cells of rows; the best complete mean of a column and scope is marked, as are those printed alike.

    A mean without another complete one to compare it with is not marked.
    """
    complete: dict[tuple[int, Any], list[float]] = defaultdict(list)
    for row in means:
        for i, mean in enumerate(row):
            if columns[i].ranked and mean.complete:
                complete[i, mean.scope].append(float(mean.number))
    best = {place: max(values) for place, values in complete.items() if len(values) > 1}
    return [[Cell(m.text, m.complete and best.get((i, m.scope)) == float(m.number)) for i, m in enumerate(r)] for r in means]


def main_table(
    results: Sequence[Result],
    planned: Sequence[Job] = (),
    rows: Sequence[str] = (),
    columns: str | None = None,
    metrics: Sequence[str] = (),
    folder: Path | str = "results",
    sort: str | None = None,
    top: int | None = None,
) -> tuple[Report, list[KeyedJob], list[str]]:
    """Return a report of the main table alone, the jobs behind the table, and the keys that name its rows.

    `rows`: keys (or comma lists of them), by default those that vary. `columns`: a key whose values become columns of one
    metric; by default there is a column per metric. `sort`: the header of a column, by which the rows are sorted, the best
    first. `top`: how many rows to show, the first ones by `sort`. `folder` is named in the error where there are no results.
    """
    if not results:
        raise DataError(f"no results in '{folder}': run 'adbench sweep' first, or name the folder that it wrote to")
    every, superseded = current(results, planned)
    jobs = every if "shift" in (columns, *choose_rows([], rows)) else unshifted(every)
    column_key = match("column key", columns, KEYS) if columns else None
    row_keys = choose_rows(jobs, rows, column_key)
    shown = shown_metrics(results, metrics or ([PIVOT_METRIC] if columns else ()))
    if column_key and len(shown) > 1:
        raise UsageError(f"--columns shows one metric, not {len(shown)}: {', '.join(shown)}; name one by --metric")
    extra = [] if column_key or not sort else [name for name in shown_metrics(results, [ALL]) if squeeze(name) == squeeze(sort)]
    table, means, notes = table_of_means(jobs, row_keys, column_key, list(dict.fromkeys([*shown, *extra])), sort, top)
    named = [*row_keys, column_key] if column_key else row_keys
    mixed = [key for key in ROW_KEYS if key not in named and varies(jobs, key, named)]
    notes += partial_note(means)
    notes += [] if column_key else analytic_note(jobs)
    notes += [f"each mean also runs over {', '.join(mixed)}; add to --rows to see them apart"] if mixed else []
    notes += _missing_notes(jobs, superseded) + _on_request_notes([job.done for job in jobs if job.done], shown)
    notes += mixed_environment_note(job.done for job in jobs if job.done)
    if left_out := len(every) - len(jobs):
        notes.append(f"{counted(left_out, 'job')} on shifted test images not in this table: --show robustness compares them")
    return Report(table, notes, results=results), every, row_keys


def unshifted(jobs: Sequence[KeyedJob]) -> Sequence[KeyedJob]:
    """Return the jobs on test images as they are; all, if there are no others."""
    return [job for job in jobs if not job.job.shift] or jobs


def table_of_means(
    jobs: Sequence[KeyedJob],
    row_keys: Sequence[str],
    column_key: str | None,
    metrics: Sequence[str],
    sort: str | None = None,
    top: int | None = None,
) -> tuple[Table, list[list[Mean]], list[str]]:
    """Return a table with a row per value of `row_keys`, the means in it, and a note if it does not show all rows.

    Its columns are all metrics, or the values of `column_key` for the first metric, and where these are categories their mean.
    """
    columns = _pivot_columns(jobs, column_key, metrics[0]) if column_key else _metric_columns(jobs, metrics)
    whole = Comparison(jobs, row_keys)
    within = Comparison(jobs, [*row_keys, column_key]) if column_key else whole
    groups = grouped(jobs, row_keys)
    means = [_means(group, columns, whole, within) for group in groups.values()]
    rows = [
        _Row(values, whole.coverage(group), own, cells)
        for (values, group), own, cells in zip(groups.items(), means, ranked(means, columns), strict=True)
    ]
    rows, notes = _sorted(rows, row_keys, columns, sort, top)
    counts = _count_columns([row.coverage for row in rows])
    table = Table(
        caption=_caption(jobs, row_keys, column_key, metrics, "" if counts else rows[0].coverage[0].partition("/")[0]),
        headers=[*row_keys, *counts, *(column.header for column in columns)],
        rows=[
            [*(Cell(str(value)) for value in row.values), *(Cell(texts[i]) for texts in counts.values()), *row.cells]
            for i, row in enumerate(rows)
        ],
        num_labels=len(row_keys),
    )
    return table, [row.means for row in rows], notes


class _Row(NamedTuple):
    values: tuple[Any, ...]
    coverage: tuple[str, str]  # as `Comparison.coverage` returns it
    means: list[Mean]
    cells: list[Cell]


def _means(group: Sequence[KeyedJob], columns: Sequence[Column], whole: Comparison, within: Comparison) -> list[Mean]:
    """Return the means of a row: those of all its jobs by `whole`, those of the jobs with one value of a key by `within`."""
    found = dict(zip(overall := [c for c in columns if not c.only], whole.means(group, overall), strict=True))
    for column in columns:
        if column.only:
            key, value = column.only
            found[column] = within.means([job for job in group if job.values[key] == value], [column])[0]
    return [found[column] for column in columns]


def _sorted(
    rows: Sequence[_Row], row_keys: Sequence[str], columns: Sequence[Column], sort: str | None, top: int | None
) -> tuple[list[_Row], list[str]]:
    """Return the first `top` rows by the column `sort` (default: the mean, else the first metric), and a note on others."""
    if sort is None and top is None:
        return list(rows), []
    headers = [column.header for column in columns]
    default = "mean" if columns[-1].header == "mean" else next(c.header for c in columns if c.ranked)
    by = match("column", sort, [*row_keys, *headers]) if sort else default
    if by in row_keys:
        key = row_keys.index(by)
        found = sorted(rows, key=lambda row: natural(row.values[key], by))
    else:
        i = headers.index(by)
        sign = 1 if columns[i].falling else -1
        found = sorted(rows, key=lambda row: _place(row.means[i], sign))
    few = top is not None and top < len(found)
    return found[:top], [f"the first {top} of {len(found)} rows by {by}"] if few else []


def _place(mean: Mean, sign: int) -> tuple[bool, bool, float]:
    """Return the sort key of a mean: complete ones first, then partial ones, then those without a value."""
    return mean.number == DASH, not mean.complete, 0.0 if mean.number == DASH else sign * float(mean.number)


def _count_columns(coverage: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    """Return the columns of done categories and jobs by header; none where all rows have all, no jobs where categories tell."""
    if len(set(coverage)) == 1 and len(set(coverage[0][0].split("/"))) == 1 and not coverage[0][1]:
        return {}
    categories, jobs = zip(*coverage, strict=True)
    return {"categories": list(categories)} | ({"jobs": [text or DASH for text in jobs]} if any(jobs) else {})


def _pivot_columns(jobs: Sequence[KeyedJob], key: str, metric: str) -> list[Column]:
    """Return a column of a metric per value of `key`, and where these are categories their mean."""
    values = sorted({job.values[key] for job in jobs}, key=lambda value: natural(value, key))
    mean = [metric_column(metric, "mean")] if key == "category" else []
    return [*(metric_column(metric, str(value), (key, value)) for value in values), *mean]


def _metric_columns(jobs: Sequence[KeyedJob], metrics: Iterable[str]) -> list[Column]:
    """Return the columns of each metric, of the relative receptive field (RRF) and of each cost, where any is known."""
    known = {name for job in jobs if job.done for name, value in job.done.cost.items() if value is not None}
    costs = [cost_column(name, header) for name, header in COSTS.items() if name in known]
    has_field = any(job.done and job.done.receptive_field for job in jobs)
    field = Column("RRF", lambda result: result.relative_field, digits=2, ranked=False, falling=True, fixed=True,
                   is_approximate=lambda result: result.field_is_analytic)  # fmt: skip
    return [*map(metric_column, metrics), *([field] if has_field else []), *costs]


def _caption(jobs: Sequence[KeyedJob], rows: Sequence[str], columns: str | None, metrics: Sequence[str], categories: str) -> str:
    """Return what the numbers are, and the keys in which all rows agree; `categories`: their number, if all rows have all."""
    over = "categories" if not categories else counted(int(categories), "category")
    numbers = f"{metrics[0]} by {columns}" if columns else f"Mean over {over}"
    numbers += f", {over}" if columns and categories else ""
    usual = {"params", *(name for name, default in LATER.items() if getattr(jobs[0].job, name) == default)}
    keys = [key for key in (*ROW_KEYS, "category") if key not in (*rows, columns, *usual) and not varies(jobs, key)]
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
    return (job.params_text, *(item for item in job.record().items() if item[0] not in state))


def partial_note(means: Iterable[Iterable[Mean]]) -> list[str]:
    """Return the meaning of a share in brackets, if any mean has one."""
    partial = any(mean.share and mean.text != mean.number for row in means for mean in row)
    text = "a number with (n/N) covers n of the N categories (or jobs) that others cover: it is not compared and never the best"
    return [text] if partial else []


def mixed_environment_note(results: Iterable[Result]) -> list[str]:
    """Return one line if done results differ in library versions, the kind of device, or what precision=auto meant there."""
    known = [result for result in results if result.environment]
    versions: dict[str, set[str]] = defaultdict(set)
    for environment in {id(result.environment): result.environment for result in known}.values():  # most results share one
        for name in environment.keys() - NO_VERSIONS:
            versions[name].add(str(environment[name]))
    devices = {_device_kind(result) for result in known}
    mixed = ", ".join(f"{name} {_joined(versions[name])}" for name in sorted(versions) if len(versions[name]) > 1)
    parts = [mixed, f"device kinds {_joined(devices)}" if len(devices) > 1 else ""]
    automatic = {str(result.details.get("precision")) for result in known if result.job.params.get("precision") == "auto"}
    parts.append(f"training precisions {_joined(automatic)}" if len(automatic) > 1 else "")
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
    undefined = _by_reason((", ".join(_undefined(r)), r) for r in done)
    notes += [f"{n} undefined in {counted(len(jobs), 'job')}: {why} ({_example(jobs)})" for (n, why), jobs in undefined if n]
    if superseded:
        notes.append(f"{counted(superseded, 'result')} of older data, weights or methods left out: the plan has newer jobs")
    return notes


def _undefined(result: Result) -> list[str]:
    return sorted(name for name, value in result.metrics.items() if value is None and name not in ON_REQUEST)


def _on_request_notes(done: Sequence[Result], shown: Sequence[str]) -> list[str]:
    """Return why results lack a metric that is shown because it was asked for."""
    notes = []
    for name in (name for name in shown if name in ON_REQUEST):
        if earlier := sum(name not in result.metrics for result in done):
            notes.append(
                f"{name}: missing in {earlier} of {counted(len(done), 'result')}, which an earlier version of adbench made; run "
                "their sweep with a new --out (features stay in the cache)"
            )
        if undefined := sum(result.metrics.get(name, 0) is None for result in done):
            needs = METRICS.get(name).__dict__["needs"]
            notes.append(f"{name}: undefined in {undefined} of {counted(len(done), 'result')}; it needs {needs}")
    if asked := [name for name in shown if name in AT_THRESHOLD and any(name not in result.metrics for result in done)]:
        without = counted(sum(asked[0] not in result.metrics for result in done), "result")
        notes.append(
            f"{', '.join(asked)}: missing in {without} without thresholds; run a sweep with --set thresholds=conformal:0.01"
        )
    return notes


def _by_reason(labeled: Iterable[tuple[str, Result]]) -> list[tuple[tuple[str, str], list[Job]]]:
    """Return the jobs of results by label and reason, the largest group first."""
    groups: dict[tuple[str, str], list[Job]] = defaultdict(list)
    for label, result in labeled:
        groups[label, " ".join((result.reason or "no reason given").split())].append(result.job)
    return sorted(groups.items(), key=lambda item: -len(item[1]))


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural where it is not 1."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun[:-1]}ies" if noun.endswith("y") else f"{number} {noun}s"


def _example(jobs: Sequence[Job]) -> str:
    job = jobs[0]
    words = (job.dataset, job.category, job.backbone, job.weights, job.layer, job.view.removesuffix(" px"), job.detector)
    return f"{'e.g. ' if len(jobs) > 1 else ''}{' '.join(map(str, words))}, seed {job.seed}"
