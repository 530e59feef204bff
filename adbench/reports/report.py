"""A results folder as a report: the main table, the studies that the results answer, and the analyses asked for."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from adbench.core.errors import DataError, UsageError
from adbench.core.files import replacing
from adbench.core.registry import match, squeeze
from adbench.metrics import METRICS
from adbench.reports import best_row
from adbench.reports.analyses import ANALYSES, Question
from adbench.reports.analyses.significance import sentences
from adbench.reports.formats import FORMATS, Report, Section
from adbench.reports.keys import KEYS, KeyedJob, choose_rows
from adbench.reports.plotting import images
from adbench.reports.studies import STUDIES
from adbench.reports.study_data import MEASURES
from adbench.reports.tables import ALL as ALL_METRICS
from adbench.reports.tables import choices, main_table, shown_metrics, unshifted
from adbench.reports.two_folders import compare
from adbench.sweep.plan import default_params
from adbench.sweep.results import ResultStore
from adbench.types import Job, OnStep, Result, ignore_step

AUTO, NONE, ALL = "auto", "none", "all"
MOST_JOBS = 20_000  # of a report that shows its studies without being asked


@dataclass(frozen=True)
class Budget:
    """The most that a row may take: median milliseconds per image, megabytes at the peak of any of its jobs."""

    latency_ms: float | None = None
    memory_mb: float | None = None

    def excess(self, done: Sequence[Result]) -> str | None:
        """Return why a row with these done results is over the budget, or None. Unmeasured costs count as over it."""
        latencies = [value for r in done if (value := r.cost.get("latency_ms")) is not None]
        if self.latency_ms is not None and not latencies:
            return "of unknown latency"
        if self.latency_ms is not None and fmean(latencies) > self.latency_ms:
            return f"slower than {self.latency_ms:g} ms per image"
        keys = ("peak_memory_mb", "accelerator_memory_mb")
        peaks = [value for r in done for key in keys if (value := r.cost.get(key)) is not None]
        if self.memory_mb is not None and not peaks:
            return "of unknown memory"
        if self.memory_mb is not None and max(peaks) > self.memory_mb:
            return f"above {self.memory_mb:g} MB at the peak"
        return None


def within(budget: Budget, results: Sequence[Result], planned: Sequence[Job]) -> tuple[list[Result], list[Job], list[str]]:
    """Return the results and planned jobs of the rows within the budget, and a note that counts the other rows.

    The jobs of a row differ only in category and seed. Raises DataError if no row is within the budget.
    """
    row_of = partial(choices, without=("category", "seed"))
    rows: dict[tuple[Any, ...], list[Result]] = {row_of(job): [] for job in planned}
    for result in results:
        rows.setdefault(row_of(result.job), []).append(result)
    excess = {row: budget.excess([r for r in found if r.status == "done"]) for row, found in rows.items()}
    counts = Counter(reason for reason in excess.values() if reason)
    counted = ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items()))
    if None not in excess.values():
        raise DataError(f"no row is left: {counted}; raise --max-latency or --max-memory")
    notes = [f"{counts.total()} of {len(excess)} rows left out: {counted}"] if counts else []
    kept = [result for result in results if excess[row_of(result.job)] is None]
    return kept, [job for job in planned if excess[row_of(job)] is None], notes


@dataclass(frozen=True)
class View:
    """What a reader wants to see: rows, columns and metric of the main table, which study, which analyses."""

    rows: Sequence[str] = ()
    columns: str | None = None
    metric: str | None = None
    metrics: Sequence[str] = ()  # of the main table, "all" for every one; by default few
    sort: str | None = None  # the header of the column by which the rows are sorted
    top: int | None = None  # how many rows to show
    study: str = AUTO  # every study that the results answer, none, or one by name
    show: Sequence[str] = ()  # analyses by name, or "all"
    budget: Budget | None = None  # rows over it are excluded
    complete: bool = False  # every analysis and metric if none is named, for a format with room for them
    memo: Path | None = None  # the folder that knows the detectors' defaults, which a command need not name
    mm_per_px: float | None = None  # millimeters per pixel of the images


def report_on(folders: Sequence[Path], view: View, differences: bool = False) -> Report:
    """Return the report on one results folder, or on the `differences` of two; raise UsageError for what does not fit."""
    check_names(view, folders)
    if not differences:
        if len(folders) > 1:
            raise UsageError(f"report takes one results folder, not {len(folders)}; --compare shows how two differ")
        return make_report(folders[0], view)
    if len(folders) != 2:
        raise UsageError(f"--compare takes two results folders, not {len(folders)}: adbench report A B --compare")
    unused = {
        "--rows": view.rows, "--columns": view.columns, "--metrics": view.metrics, "--sort": view.sort, "--top": view.top,
        "--study": view.study != AUTO, "--show": view.show, "--mm-per-px": view.mm_per_px,
    }  # fmt: skip
    if given := [option for option, value in (unused | {"--max-latency and --max-memory": view.budget}).items() if value]:
        raise UsageError(f"--compare shows every job of both folders; leave out {', '.join(given)}")
    return compare(folders[0], folders[1], view.metric)


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Make many objects that all stay in use without searching them for garbage, which would take a third of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def check_names(view: View, folders: Sequence[Path]) -> None:
    """Raise UsageError for an unknown row, column, study, analysis or metric, before any result is read.

    Results may have metrics of plug-ins that are not installed: these are checked when they are read.
    """
    names = [name for name in (view.metric, *view.metrics) if name and name != ALL_METRICS]
    if names and not any(next(folder.glob("*.json"), None) for folder in folders):
        for name in names:
            METRICS.canonical(name)
    choose_rows([], view.rows, match("column key", view.columns, KEYS) if view.columns else None)
    if view.study not in (AUTO, NONE):
        STUDIES.canonical(view.study)
    for name in view.show:
        if name != ALL:
            ANALYSES.canonical(name)


@_without_garbage_collection()
def make_report(folder: Path, view: View | None = None) -> Report:
    """Return the report on a results folder; raise DataError if it is empty, UsageError for an unknown name."""
    view, store = view or View(), ResultStore(folder)
    planned, commands, excluded = store.planned(), store.commands(), list[str]()  # plans first: results share their jobs
    results = store.all(planned)
    if view.budget and results:
        results, planned, excluded = within(view.budget, results, planned)
    asked = [view.metric] if view.metric else list(view.metrics) or [ALL_METRICS] * (view.complete and not view.columns)
    report, every_job, keys = main_table(results, planned, view.rows, view.columns, asked, folder, view.sort, view.top)
    jobs = unshifted(every_job)
    rows = choose_rows(jobs, view.rows) if view.columns else keys
    metrics = shown_metrics(results, [view.metric]) if view.metric else list(MEASURES)
    question = Question(rows, metrics, lambda result: store.replicates(result.job.key), view.mm_per_px,
                        lambda result: store.influence(result.job.key), every_job)  # fmt: skip
    every = ALL in view.show or (view.complete and not view.show)
    names = ANALYSES.names() if every else dict.fromkeys(map(ANALYSES.canonical, view.show))
    sections = [*_studies(jobs, view.study), *(ANALYSES.get(name)(jobs, question) for name in names)]
    by = [name for name in shown_metrics(results, [ALL_METRICS]) if view.sort and squeeze(name) == squeeze(view.sort)]
    known: best_row.Defaults = partial(default_params, memo=view.memo) if view.memo else (lambda detector: {})
    sections += best_row.section(jobs, question, metrics if view.metric or not by else by, commands, known)
    notes = [*report.notes, *excluded, *sentences(jobs, question)]
    waiting = sum(job.result is None for job in every_job)
    return replace(report, notes=notes, sections=sections, folder=folder, commands=commands, waiting=waiting)


@_without_garbage_collection()
def render(report: Report, name: str, bold: bool = False, width: int | None = None) -> str:
    """Return the report as text in the format `name`; raise UsageError if there is none of that name.

    bold: whether the reader's terminal shows bold. width: its number of columns.
    """
    return FORMATS.get(name)(replace(report, bold=bold, width=width or report.width))


def _studies(jobs: Sequence[KeyedJob], name: str) -> list[Section]:
    jobs = [job for job in jobs if not job.job.external]
    if name == NONE:
        return []
    if name == AUTO:
        if len(jobs) > MOST_JOBS:
            text = f"studies of over {MOST_JOBS} jobs are long: they are shown where one is named by --study"
            return [Section("Studies", notes=[text])]
        return [study.section(jobs) for study in STUDIES.items().values() if study.recognized_in(jobs)]
    name = STUDIES.canonical(name)
    study = STUDIES.get(name)
    if not study.answered_by(jobs):
        raise DataError(f"these results do not answer the study '{name}': no two jobs differ in their {study.key} alone")
    return [study.section(jobs)]


def draw_figures(report: Report, folder: Path, on_step: OnStep = ignore_step) -> list[Path]:
    """Write every figure of the report as FOLDER/NAME.png and FOLDER/NAME.svg; return the paths."""
    figures = [figure for section in report.sections for figure in section.figures]
    written = []
    for index, figure in enumerate(figures):
        on_step(index, len(figures), "drawing figures")
        for kind, content in images(figure).items():
            target = folder / f"{figure.name}.{kind}"
            with replacing(target) as temporary:
                temporary.write_bytes(content)
            written.append(target)
    return written
