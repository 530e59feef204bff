"""Ctrl-C and SIGTERM end a command within seconds, say how to go on, and lose nothing that is done."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from types import FrameType

from adbench.cli import console

_GRACE_S = 4.0
_NAMES = {int(signal.SIGINT): "interrupted", int(signal.SIGTERM): "terminated"}


class _Stopped(BaseException):
    """A signal on its way up through whatever was being done; none of what catches errors or Ctrl-C catches it."""


@contextmanager
def stoppable(typed: str) -> Iterator[None]:
    """Run a command so that SIGINT and SIGTERM end it with exit code 130 or 143 and the line, as it was `typed`, that resumes it.

    Python hears of a signal only between two steps of its own, and one step may be a long computation: a thread ends the
    process if the command is still at work after four seconds. Files are whole or not there: nothing breaks by that.
    """
    before = {number: signal.signal(number, _stop) for number in _NAMES}
    hears, told = os.pipe()
    os.set_blocking(told, False)
    earlier = signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    Thread(target=_insist, args=(hears, typed), daemon=True).start()
    try:
        yield
    except _Stopped as stop:
        raise SystemExit(_farewell(stop.args[0], typed)) from None
    finally:
        signal.set_wakeup_fd(earlier)
        os.close(told)  # ends the thread
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(number: int, frame: FrameType | None) -> None:
    raise _Stopped(number)


def _farewell(number: int, typed: str) -> int:
    console.error(f"{_NAMES[number]}; what is done is kept, go on with: {typed}")
    return 128 + number


def _insist(hears: int, typed: str) -> None:
    """Wait for a signal, then for the end of the command; end the process if that does not come."""
    number, deadline = 0, float("inf")
    while time.monotonic() < deadline:
        wait = None if not number else deadline - time.monotonic()
        if not select.select([hears], [], [], wait)[0]:
            break
        told = os.read(hears, 1)
        if not told:
            return os.close(hears)
        if not number and told[0] in _NAMES:
            number, deadline = told[0], time.monotonic() + _GRACE_S
    os._exit(_farewell(number, typed))
