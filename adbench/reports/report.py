"""A results folder becomes a report: the table of all results, the studies that they answer, the analyses asked for."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from adbench.core.errors import DataError, UsageError
from adbench.core.files import replacing
from adbench.reports.analyses import ANALYSES, Question
from adbench.reports.analyses.significance import sentences
from adbench.reports.budget import Budget, within
from adbench.reports.compare import compare
from adbench.reports.formats import FORMATS, Report, Section
from adbench.reports.grid import MEASURES
from adbench.reports.keys import Entry, choose_rows
from adbench.reports.plotting import images
from adbench.reports.studies import STUDIES
from adbench.reports.tables import laid_out, shown_metrics
from adbench.sweep.results import ResultStore
from adbench.types import OnStep, ignore_step

AUTO, NONE, ALL = "auto", "none", "all"
MOST_JOBS = 20_000  # whose studies are shown unasked


@dataclass(frozen=True)
class View:
    """What a reader wants to see: rows, columns and metric of the main table, which study, which analyses."""

    rows: Sequence[str] = ()
    columns: str | None = None
    metric: str | None = None
    study: str = AUTO  # every study that the results answer, none, or one by name
    show: Sequence[str] = ()  # analyses by name, or "all"
    budget: Budget | None = None  # what a row may cost at most
    complete: bool = False  # every analysis where none is named, for a format with room for them


def report_on(folders: Sequence[Path], view: View, differences: bool = False) -> Report:
    """Return the report on one results folder, or on the `differences` of two; raise UsageError for what does not fit."""
    if not differences:
        if len(folders) > 1:
            raise UsageError(f"report takes one results folder, not {len(folders)}; --compare shows how two differ")
        return make_report(folders[0], view)
    if len(folders) != 2:
        raise UsageError(f"--compare takes two results folders, not {len(folders)}: adbench report A B --compare")
    unused = {"--rows": view.rows, "--columns": view.columns, "--study": view.study != AUTO, "--show": view.show}
    if given := [option for option, value in (unused | {"--max-latency and --max-memory": view.budget}).items() if value]:
        raise UsageError(f"--compare shows every job of both folders; leave out {', '.join(given)}")
    return compare(folders[0], folders[1], view.metric)


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Let many objects be made that all stay: to look for garbage among them again and again would take a third of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@_without_garbage_collection()
def make_report(folder: Path, view: View | None = None) -> Report:
    """Return the report on a results folder; raise DataError if it is empty, UsageError for an unknown name."""
    view, store = view or View(), ResultStore(folder)
    planned, commands, left_out = store.planned(), store.commands(), list[str]()  # plans before results: they are large
    results = store.all(planned)
    if view.budget and results:
        results, planned, left_out = within(view.budget, results, planned)
    report, found, keys = laid_out(results, planned, view.rows, view.columns, view.metric, folder)
    rows = choose_rows(found, view.rows, None) if view.columns else keys
    metrics = shown_metrics(results, view.metric) if view.metric else list(MEASURES)
    question = Question(rows, metrics, lambda result: store.replicates(result.job.key))
    show = view.show or ((ALL,) if view.complete else ())
    sections = [*_studies(found, view.study), *_analyses(found, question, show)]
    notes = [*report.notes, *left_out, *sentences(found, question)]
    return replace(report, notes=notes, sections=sections, folder=folder, commands=commands)


@_without_garbage_collection()
def render(report: Report, name: str, bold: bool = False) -> str:
    """Return the report as text in the format `name`; raise UsageError if there is none of that name."""
    return FORMATS.get(name)(replace(report, bold=bold))


def _studies(found: Sequence[Entry], wanted: str) -> list[Section]:
    if wanted == NONE:
        return []
    if wanted == AUTO and len(found) > MOST_JOBS:
        text = f"studies of over {MOST_JOBS} jobs are long: they are shown where one is named by --study"
        return [Section("Studies", notes=[text])]
    if wanted == AUTO:
        return [study.section(found) for study in STUDIES.items().values() if study.recognised_in(found)]
    study = STUDIES.get(wanted)
    if not study.answered_by(found):
        name = STUDIES.canonical(wanted)
        raise DataError(f"these results do not answer the study '{name}': no two jobs differ in their {study.key} alone")
    return [study.section(found)]


def _analyses(found: Sequence[Entry], question: Question, wanted: Sequence[str]) -> list[Section]:
    names = ANALYSES.names() if ALL in wanted else [ANALYSES.canonical(name) for name in wanted]
    return [ANALYSES.get(name)(found, question) for name in dict.fromkeys(names)]


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
