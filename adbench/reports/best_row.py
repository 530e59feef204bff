"""The answer of a report: which row is best, by how much, whether chance explains the difference, and how to train it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from adbench.models.command import FPR, threshold_of, train_command
from adbench.reports.analyses import Question
from adbench.reports.comparison import FALSE_POSITIVES, fraction
from adbench.reports.configurations import (
    MOST,
    SCALE_KEYS,
    TEST_SET_KEYS,
    Configurations,
    comparisons,
    listed,
    with_influence,
)  # fmt: skip
from adbench.reports.formats import ANSWER, Section
from adbench.reports.keys import ROW_KEYS, KeyedJob, groups_by, several, varying
from adbench.reports.study_data import AXIS_NAMES, categories_of, measured
from adbench.reports.tables import counted
from adbench.statistics.ranks import ALPHA
from adbench.types import Job

MOST_RESULTS = 2000  # whose influence values are read without being asked: a second
Defaults = Callable[[str], dict[str, Any]]


def section(
    jobs: Sequence[KeyedJob], question: Question, metrics: Sequence[str], commands: Sequence[str], defaults: Defaults
) -> list[Section]:
    """Return a section with the answer by the mean of `metrics`, those that are measured, for each evaluation grid; or none.

    commands: that made the results. defaults: returns a detector's parameters at their defaults.
    """
    keys = [key for key in question.rows if key not in (*TEST_SET_KEYS, *SCALE_KEYS)]
    known = [name for name in metrics if (name not in AXIS_NAMES or name in measured(jobs)) and name != FALSE_POSITIVES]
    notes: list[str] = []
    for scale in groups_by(jobs, varying(jobs, SCALE_KEYS)) if known else ():
        found = comparisons(scale, keys, known, " and ".join(AXIS_NAMES.get(name, name) for name in known))
        for compared in found[:1]:
            notes.append(_sentence(compared, question))
            best = compared.rows[compared.best].jobs
            if not any(several(best, key) for key in ROW_KEYS if key not in ("dataset", "eval_size")):
                notes.append(_training(best, commands, defaults))
    return [Section(ANSWER, notes=notes)] if notes else []


def _sentence(compared: Configurations, question: Question) -> str:
    """Return which row is best and by how much, over which categories, and whether chance explains the difference."""
    best, means = compared.best, compared.means
    second = max(compared.others, key=lambda j: means[j])
    n, planned = len(compared.categories), compared.planned
    over = counted(n, "category") if n == planned else f"the {n} of {planned} categories that all rows have"
    what = f"mean of {compared.title}" if len(compared.metrics) > 1 else compared.title
    gap = means[best] - means[second]
    head = f"{compared.names[best]}: {what} {means[best]:.3f} over {over}"
    rest = f" ({counted(compared.left_out, 'incomplete row')} not compared)" if compared.left_out else ""
    if gap <= 0:
        return f"{head}, the same as {compared.names[second]}{rest}"
    return f"{head}, {_step(gap)} above the next, {compared.names[second]}{rest}; {_chance(compared, question, second)}"


def _step(gap: float) -> str:
    return fraction(gap, 3) if gap >= 0.0005 else "less than 0.001"


def _chance(compared: Configurations, question: Question, second: int) -> str:
    """Return whether chance in the choice of test images explains how far the best row is from the next, and from others."""
    results = sum(len(seeds) for cells in compared.cells for seeds in cells)
    if len(compared.rows) > MOST or results > MOST_RESULTS:
        return "--show significance tells whether that can be chance"
    tests = with_influence(compared, question).by_images
    if tests is None:
        return "whether that can be chance is unknown: not every result has influence values of the same test images"
    p = tests.p
    close = listed([compared.names[j] for j in compared.others if p[j] >= ALPHA and j != second])
    tested = f"(p = {p[second]:.2g}, sign flips over test images, all pairs of rows)"
    if p[second] >= ALPHA:
        return f"that can be chance {tested}" + (f"; so can its distance to {close}" if close else "")
    return f"that is more than chance explains {tested}" + (f"; its distance to {close} can be chance" if close else "")


def _training(jobs: Sequence[KeyedJob], commands: Sequence[str], defaults: Defaults) -> str:
    """Return the command that trains the row of these jobs, for the first of its categories."""
    if jobs[0].job.external:
        return f"another program made the maps of {jobs[0].job.detector}: adbench cannot train it"
    category, *others = categories_of(jobs)
    first = min((j for j in jobs if j.job.category == category), key=lambda j: j.job.seed)
    job, images = first.job, first.result.details.get("good_images") if first.result else None
    threshold = threshold_of(job, images) if images else (FPR, None)  # records of earlier versions do not know
    command = train_command(job, data_option(job, commands), category, defaults(job.detector), *threshold)
    return f"train it{f' (one model per category, here {category})' if others else ''}: {command}"


def data_option(job: Job, commands: Sequence[str]) -> str | None:
    """Return the data folder of a job as one of the commands that made the results names it, None where `train` finds it too."""
    named = [value for command in commands for value in _data_of(shlex.split(command))]
    for value in named:
        if value == job.dataset or Path(value).expanduser().resolve().name == job.dataset:
            return value
    own = set(named) - {"demo"}  # a dataset is often called like its layout, not like its folder
    if job.dataset != "demo" and len(own) == 1:
        return own.pop()
    default = Path(os.environ.get("ADBENCH_DATA") or "data").expanduser()
    if default.resolve().name == job.dataset and default.is_dir():
        return None
    return job.dataset if job.dataset == "demo" else "DIR"


def _data_of(words: Sequence[str]) -> list[str]:
    """Return the data folders that a command names."""
    pairs = list(zip(words, [*words[1:], ""], strict=True))
    values = [value for name, value in pairs if name == "--data"]
    values += [word.removeprefix("--data=") for word in words if word.startswith("--data=")]
    return values + [value.removeprefix("data=") for name, value in pairs if name == "--set" and value.startswith("data=")]
