"""Blocks of a long computation on several CPU threads, one block each: far fewer waits than torch's own threads need.

Torch divides every operation and waits for all threads at its end, thousands of times for a row of small products; when
another process holds one of the cores each of these waits costs a time slice.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from threading import Lock
from typing import Any

import torch

Spread = Callable[[Callable[[Any], None], Sequence[Any]], None]  # calls a function on each item


@contextmanager
def workers(device: torch.device, worth: bool = True) -> Iterator[Spread]:
    """Give a function that calls another on each item, on as many threads as torch may use, and waits for the last.

    Meanwhile torch works on one thread in each of them; its setting is put back at the end. On a device other than the
    CPU, or where several threads are not worth it, the items come one after the other. The calls must not touch the same data.
    """
    count = torch.get_num_threads()
    if device.type != "cpu" or count == 1:
        yield _one_by_one
        return
    torch.set_num_threads(1)
    try:
        yield _spread(count) if worth else _one_by_one
    finally:
        torch.set_num_threads(count)


def _one_by_one(call: Callable[[Any], None], items: Sequence[Any]) -> None:
    for item in items:
        call(item)


def _spread(count: int) -> Spread:
    helpers = _helpers(count - 1, os.getpid())

    def spread(call: Callable[[Any], None], items: Sequence[Any]) -> None:
        waiting, lock = iter(items), Lock()

        @torch.inference_mode()  # that mode is a thread's own
        def work() -> None:
            while True:
                with lock:
                    item = next(waiting, _NONE)
                if item is _NONE:
                    return
                call(item)

        others = [helpers.submit(work) for _ in range(min(count, len(items)) - 1)]
        try:
            work()
        finally:
            for other in others:
                other.exception()
        for other in others:
            other.result()

    return spread


_NONE = object()


@lru_cache(maxsize=4)
def _helpers(count: int, process: int) -> ThreadPoolExecutor:
    """Return threads that stay: new ones take memory of their own anew, which costs as much as a short search.

    process: its number; a fork has none of the threads.
    """
    return ThreadPoolExecutor(count, "adbench", torch.set_num_threads, (1,))
