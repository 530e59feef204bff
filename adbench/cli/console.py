"""Output for people: answers on stdout, progress and messages on stderr. Only this module imports rich, and only for bars."""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from textwrap import fill
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from adbench.types import OnStep  # at run time it would import numpy: half of the start-up time

_SPEED_S = 600  # window for estimating the time left, in seconds: one training step may take a minute
_quiet = False


def set_up(quiet: bool = False, verbose: bool = False) -> None:
    """Send the package's log to stderr: warnings always, tracebacks of failed jobs if verbose. Quiet silences `say` and bars."""
    global _quiet
    _quiet = quiet
    log = logging.getLogger("adbench")
    log.handlers = [handler := logging.StreamHandler(sys.stderr)]
    handler.setFormatter(logging.Formatter("adbench: %(prefix)s%(message)s"))
    handler.addFilter(_add_prefix)
    log.setLevel(logging.DEBUG if verbose else logging.WARNING)


def _add_prefix(record: logging.LogRecord) -> bool:
    record.prefix = "" if record.levelno <= logging.INFO else f"{record.levelname.lower()}: "
    return True


def answer(text: str) -> None:
    """Print an answer on stdout."""
    sys.stdout.write(text if text.endswith("\n") else text + "\n")
    sys.stdout.flush()


def answer_json(document: object) -> None:
    """Print one JSON document on stdout; NaN and infinity become null."""
    answer(json.dumps(_finite(document), indent=2, ensure_ascii=False))


def _finite(value: object) -> object:
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def say(text: str) -> None:
    """Print a message on stderr, unless quiet."""
    if not _quiet:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


def error(text: str) -> None:
    """Print an error on stderr, as one line."""
    sys.stderr.write("adbench: error: " + " ".join(text.split()) + "\n")


def has_color(stream: TextIO) -> bool:
    """Return whether `stream` is a terminal and NO_COLOR is unset (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR")


def table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a plain text table."""
    from tabulate import tabulate

    return str(tabulate(rows, headings, disable_numparse=True))


def definitions(texts: Mapping[str, str]) -> str:
    """Return names in a column with a text beside each one, wrapped at the width of the terminal if stdout is one."""
    indent = 2 + max(map(len, texts), default=0)
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
    lines = [f"{name:{indent}}{text}" for name, text in texts.items()]
    return "\n".join(fill(line, max(width, indent + 20), subsequent_indent=" " * indent) for line in lines)


def size(count: float) -> str:
    """Return a number of bytes in a readable unit, in powers of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def number(value: float | None, digits: int = 4) -> str:
    """Return a metric, or - for None."""
    return "-" if value is None else f"{value:.{digits}f}"


def duration(seconds: float) -> str:
    """Return seconds in a readable unit: 40 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


@contextmanager
def progress() -> Iterator[OnStep]:
    """Yield a listener for steps that draws a bar; it does nothing if quiet or if stderr is not a terminal."""
    with job_progress(0) as (on_step, _):
        yield on_step


@contextmanager
def job_progress(jobs: int) -> Iterator[tuple[OnStep, Callable[[], None]]]:
    """Yield a listener for steps and a function to call after each job, which has a bar of its own unless `jobs` is 0."""
    if _quiet or not sys.stderr.isatty():
        yield lambda done, total, note: None, lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, speed_estimate_period=_SPEED_S) as bars:
        whole = bars.add_task("jobs", total=jobs, visible=jobs > 0)
        step = bars.add_task("", total=None, visible=False)

        def on_step(done: int, total: int, note: str) -> None:
            task = bars.tasks[-1]
            if total != task.total or done < task.completed:  # a new activity; a new note alone is not: it may be a loss
                bars.reset(step, total=total or None, description=note, visible=True)
            bars.update(step, completed=done, description=note)

        yield on_step, lambda: bars.advance(whole)
