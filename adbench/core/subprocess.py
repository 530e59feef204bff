"""What only torch can tell, asked in a process of its own: the one that plans a sweep and watches its workers stays small.

Torch takes 500 MB and seconds to load; a sweep's parent on a login node may live for days.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TypeVar

from adbench.core.errors import AdbenchError
from adbench.core.memo import Memo, code_and_libraries

T = TypeVar("T")


def in_subprocess(question: Callable[[], T]) -> T:
    """Return what `question` returns in a new process, or raise the AdbenchError that it raises; both are pickled.

    If that process dies, for its memory or otherwise, the question is asked in this one.
    """
    context = get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(theirs, question), daemon=True)
    process.start()
    theirs.close()
    try:
        outcome = ours.recv()
    except EOFError:
        return question()
    finally:
        process.terminate()
        process.join()
    if isinstance(outcome, AdbenchError):
        raise outcome
    return outcome  # type: ignore[no-any-return]


def _answer(pipe: Connection, question: Callable[[], object]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's Ctrl-C is for the parent, which ends this process
    try:
        pipe.send(question())
    except AdbenchError as error:
        pipe.send(error)


def default_threads(memo: Path) -> int:
    """Return how many CPU threads torch uses here; `memo` is a folder that remembers it."""
    if "torch" in sys.modules:
        return _threads()
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    settings = [os.environ.get(name) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_THREAD_LIMIT")]
    question = ["threads", os.uname().nodename if hasattr(os, "uname") else "", cores, *settings]
    return int(Memo(memo / "threads.json", code_and_libraries()).to(question, partial(in_subprocess, _threads)))


def _threads() -> int:
    import torch

    return torch.get_num_threads()
