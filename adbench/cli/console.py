"""Everything that a person sees: progress and talk on stderr, answers on stdout. rich lives here only, and loads late."""

from __future__ import annotations

import json
import logging
import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from adbench.types import OnStep, ignore_step

_SPEED_S = 600  # past over which the time left is estimated: a training step may take a minute
_quiet = False


def set_up(quiet: bool = False, verbose: bool = False) -> None:
    """Send the package's log to stderr: warnings always, progress unless quiet, tracebacks of failed jobs if verbose."""
    global _quiet
    _quiet = quiet
    log = logging.getLogger("adbench")
    log.handlers = [handler := logging.StreamHandler(sys.stderr)]
    handler.setFormatter(_OneLine("adbench: %(levelname_lower)s%(message)s"))
    log.setLevel(logging.DEBUG if verbose else logging.WARNING)


class _OneLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        record.levelname_lower = "" if record.levelno <= logging.INFO else f"{record.levelname.lower()}: "
        return super().format(record)


def answer(text: str) -> None:
    """Print an answer on stdout."""
    sys.stdout.write(text if text.endswith("\n") else text + "\n")
    sys.stdout.flush()


def answer_json(document: Any) -> None:
    """Print one JSON document on stdout; what is not a number is null."""
    answer(json.dumps(_finite(document), indent=2, ensure_ascii=False))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def say(text: str) -> None:
    """Print talk on stderr, unless quiet."""
    if not _quiet:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


def error(text: str) -> None:
    """Print the one line of an error on stderr."""
    sys.stderr.write("adbench: error: " + " ".join(text.split()) + "\n")


def colour(stream: Any) -> bool:
    """Return whether `stream` is a terminal that may be coloured (https://no-color.org)."""
    return bool(stream.isatty()) and not os.environ.get("NO_COLOR")


def table(headings: list[str], rows: list[list[Any]]) -> str:
    """Return a plain table for people."""
    from tabulate import tabulate

    return str(tabulate(rows, headings, disable_numparse=True))


def size(count: float) -> str:
    """Return bytes as a person reads them, in powers of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def duration(seconds: float) -> str:
    """Return seconds as a person reads them: 40 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


@contextmanager
def progress(jobs: int | None = None) -> Iterator[tuple[OnStep, Any]]:
    """Yield (listener for steps, function to call after each job); bars only where stderr is a terminal and not quiet."""
    if _quiet or not sys.stderr.isatty():
        yield ignore_step, lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    bars = Progress(*columns, console=Console(stderr=True), transient=True, speed_estimate_period=_SPEED_S)
    with bars:
        whole = bars.add_task("jobs", total=jobs) if jobs else None
        step = bars.add_task("", total=None, visible=False)

        def on_step(done: int, total: int, note: str) -> None:
            task = bars.tasks[-1]
            if total != task.total or done < task.completed:  # another activity; a note alone may hold a loss
                bars.reset(step, total=total or None, description=note, visible=True)
            bars.update(step, completed=done, description=note)

        yield on_step, (lambda: bars.advance(whole)) if whole is not None else (lambda: None)
