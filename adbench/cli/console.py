"""Output for people: answers on stdout, progress and messages on stderr. Only this module imports rich, and only for bars."""

from __future__ import annotations

import io
import json
import logging
import math
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Protocol, TextIO

from adbench.core.errors import DataError

if TYPE_CHECKING:
    from rich.progress import ProgressColumn

    from adbench.types import OnStep  # at run time it would import numpy: half of the start-up time

_SPEED_S = 600  # window for estimating the time left, in seconds: one training step may take a minute
_quiet = False


def set_up(quiet: bool = False, verbose: bool = False) -> None:
    """Send the package's log to stderr: warnings always, tracebacks of failed jobs if verbose. Quiet silences `say` and bars.

    A closed standard stream is replaced by the null device. Characters that a stream cannot encode are escaped.
    """
    global _quiet
    _quiet = quiet
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):  # in this order: each takes the lowest free number
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115  open until the process ends
        elif mode == "w" and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    log = logging.getLogger("adbench")
    log.handlers = [handler := _Handler()]
    handler.setFormatter(logging.Formatter("adbench: %(prefix)s%(message)s"))
    handler.addFilter(_add_prefix)
    log.setLevel(logging.DEBUG if verbose else logging.WARNING)


class _Handler(logging.Handler):
    """Writes to the stderr of the moment, so that a bar prints lines above itself; no traceback if that is closed."""

    def emit(self, record: logging.LogRecord) -> None:
        _talk(self.format(record) + "\n")


def _add_prefix(record: logging.LogRecord) -> bool:
    record.prefix = "" if record.levelno <= logging.INFO else f"{record.levelname.lower()}: "
    return True


def answer(text: str) -> None:
    """Print an answer on stdout; raise DataError if it cannot be written. A reader that has gone is no error."""
    try:
        _write(sys.stdout, text if text.endswith("\n") else text + "\n")
    except OSError as error:
        _discard(sys.stdout)
        raise DataError(f"cannot write the answer to stdout: {error.strerror}; send it elsewhere or free the disk") from error


def answer_document(text: str) -> None:
    """Print a document on stdout, as UTF-8 whatever the encoding of the terminal; bytes of names that are no text are escaped."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    answer(text)


def answer_json(document: object) -> None:
    """Print one JSON document on stdout; NaN and infinity become null."""
    answer_document(json.dumps(_finite(document), indent=2, ensure_ascii=False))


def _write(stream: TextIO, text: str) -> None:
    """Write and flush; a closed pipe is quiet, because the work goes on (`adbench sweep ... | head -1`)."""
    try:
        stream.write(text)
        stream.flush()
    except BrokenPipeError:
        _discard(stream)


def _discard(stream: TextIO) -> None:
    """Send what `stream` holds and still gets to the null device; at exit, Python flushes it once more."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)


def _finite(value: object) -> object:
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def say(text: str) -> None:
    """Print a message on stderr, unless quiet."""
    if not _quiet:
        _talk(text + "\n")


def detail(text: str) -> None:
    """Print a message on stderr if verbose."""
    if logging.getLogger("adbench").isEnabledFor(logging.DEBUG):
        say(text)


def has_bars() -> bool:
    """Return whether progress is drawn: on a terminal, unless quiet."""
    return not _quiet and sys.stderr.isatty()


def error(text: str) -> None:
    """Print an error on stderr, as one line."""
    _talk("adbench: error: " + " ".join(text.split()) + "\n")


def _talk(text: str) -> None:
    """Write to stderr. If that fails, there is no place left to say so, and the work goes on."""
    try:
        _write(sys.stderr, text)
    except OSError:
        _discard(sys.stderr)


def has_color(stream: TextIO) -> bool:
    """Return whether `stream` is a terminal and NO_COLOR is unset (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR")


def width() -> int:
    """Return the number of columns of the terminal, of COLUMNS if it is set, else 100."""
    return shutil.get_terminal_size((100, 24)).columns


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


class Advance(Protocol):
    """Takes that a job is done. done, total: how many are and will be, by default one more; left_s: forecast seconds left."""

    def __call__(self, done: int | None = None, total: int | None = None, left_s: float | None = None) -> None: ...


@contextmanager
def job_progress(jobs: int, left_s: float | None = None, done: int = 0, name: str = "jobs") -> Iterator[tuple[OnStep, Advance]]:
    """Yield a listener for steps and a function to call after each job, which has a bar of its own unless there are none.

    left_s: the forecast of all jobs in seconds; without it, the time left is reckoned from the number of jobs. done: how many
    jobs are done before. name: what the jobs are called.
    """
    if not has_bars():
        yield lambda done, total, note: None, lambda done=None, total=None, left_s=None: None
        return
    from rich.console import Console
    from rich.progress import Progress

    def until(left_s: float | None) -> float | None:
        return None if left_s is None else time.monotonic() + left_s

    console = Console(stderr=True)
    with Progress(*_bar_columns(), console=console, transient=True, speed_estimate_period=_SPEED_S) as bars:
        whole = bars.add_task(name, total=jobs, completed=done, visible=jobs > 0, ends=until(left_s))
        bars.add_task("", total=None, visible=False)

        def on_step(done: int, total: int, note: str) -> None:
            task = bars.tasks[-1]
            if (total or None) != task.total or done < task.completed:  # a new activity; a new note alone may be a loss
                bars.remove_task(task.id)  # as a task cannot lose its total
                bars.add_task(note, total=total or None)
            bars.update(bars.tasks[-1].id, completed=done, description=note)

        def advance(done: int | None = None, total: int | None = None, left_s: float | None = None) -> None:
            count = bars.tasks[0].completed + 1 if done is None else done
            bars.update(whole, completed=count, total=total, visible=True, ends=until(left_s))

        yield on_step, advance


def _bar_columns() -> list[ProgressColumn]:
    """Return what a bar consists of; its time left is counted down to the field `ends` of the task, if that is set."""
    from rich.progress import BarColumn, MofNCompleteColumn, Task, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.text import Text

    class Left(TimeRemainingColumn):
        def render(self, task: Task) -> Text:
            ends = task.fields.get("ends")
            return super().render(task) if ends is None else Text(f"{duration(max(0.0, ends - time.monotonic()))} left")

    return [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), Left()]
