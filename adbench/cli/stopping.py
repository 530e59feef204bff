"""Ctrl-C and SIGTERM end a command within seconds, print how to resume it, and lose no finished work."""

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
    """Raised by a signal. It is neither an Exception nor a KeyboardInterrupt, so that no handler on the way up catches it."""


@contextmanager
def stoppable(command: str) -> Iterator[None]:
    """Let SIGINT and SIGTERM end the block with exit code 130 or 143, and print `command` as the line that resumes it.

    Python runs signal handlers only between two bytecodes, and one call may be a long computation. If the block is still running
    after four seconds, a thread ends the process. This is safe: files are written beside their target and renamed.
    """
    handlers = {number: signal.signal(number, _stop) for number in _NAMES}
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    earlier = signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    Thread(target=_end_if_stuck, args=(read_end, command), daemon=True).start()
    try:
        yield
    except _Stopped as stop:
        raise SystemExit(_print_resume(stop.args[0], command)) from None
    finally:
        signal.set_wakeup_fd(earlier)
        os.close(write_end)  # ends the thread
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _stop(number: int, frame: FrameType | None) -> None:
    raise _Stopped(number)


def _print_resume(number: int, command: str) -> int:
    """Print how to resume and return the exit code."""
    console.error(f"{_NAMES[number]}; finished work is kept, resume with: {command}")
    return 128 + number


def _end_if_stuck(read_end: int, command: str) -> None:
    """Wait for a signal, then for the end of the block; end the process if that takes longer than the grace period."""
    number, deadline = 0, float("inf")
    while time.monotonic() < deadline:
        wait = None if not number else deadline - time.monotonic()
        if not select.select([read_end], [], [], wait)[0]:
            break
        received = os.read(read_end, 1)
        if not received:
            return os.close(read_end)
        if not number and received[0] in _NAMES:
            number, deadline = received[0], time.monotonic() + _GRACE_S
    os._exit(_print_resume(number, command))
