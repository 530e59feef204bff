"""Run a function that needs torch in a process of its own, so that the process which plans a sweep stays small.

Torch takes 500 MB and seconds to load, and the parent of a sweep may live for days on a login node.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from multiprocessing import get_context, util
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TypeVar

from adbench.core.errors import AdbenchError
from adbench.core.memo import Memo, code_and_libraries

T = TypeVar("T")


def in_subprocess(function: Callable[[], T]) -> T:
    """Return what `function` returns in a new process, or raise the AdbenchError that it raises; both are pickled.

    If the new process dies, for lack of memory or otherwise, the function is called in this one.
    """
    context = get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send_result, args=(sender, function), daemon=True)
    try:
        process.start()
        sender.close()
        outcome = receiver.recv()
    except EOFError:
        return function()
    except BaseException:  # an interrupt
        if process.pid:
            process.terminate()
        raise
    finally:
        if process.pid:
            process.join()
    if isinstance(outcome, AdbenchError):
        raise outcome
    return outcome  # type: ignore[no-any-return]


def _send_result(pipe: Connection, function: Callable[[], object]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal; the parent ends this one
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that semaphores of libraries are released, without a warning
    try:
        pipe.send(function())
    except AdbenchError as error:
        pipe.send(error)
    finally:
        util._exit_function()  # type: ignore[attr-defined]  # releases semaphores
        os._exit(0)  # the other exit handlers would load more of torch: 120 MB and half a second


def default_threads(memo: Path) -> int:
    """Return the number of CPU threads that torch uses on this machine; `memo` is the folder of the memo that keeps it."""
    return _threads() if "torch" in sys.modules else _known_threads(memo, partial(in_subprocess, _threads))


def keep_threads(memo: Path) -> None:
    """Keep the number of threads for later processes; this one loads torch."""
    _known_threads(memo, _threads)


def _known_threads(memo: Path, ask: Callable[[], int]) -> int:
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    variables = [os.environ.get(name) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_THREAD_LIMIT")]
    question = ["threads", os.uname().nodename if hasattr(os, "uname") else "", cores, *variables]
    return int(Memo(memo / "threads.json", code_and_libraries()).answer(question, ask))


def _threads() -> int:
    import torch

    return torch.get_num_threads()
