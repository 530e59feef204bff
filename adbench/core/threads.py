"""Threads: blocks of a long computation on several CPU threads, and maps over items that keep their order.

Torch splits every operation over its threads and waits for all of them at its end. A computation of many small products waits
thousands of times, and each wait costs a time slice when another process occupies a core. One block per thread waits once.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from itertools import count
from threading import Lock
from typing import Any, TypeVar, cast

import torch

RunAll = Callable[[Callable[[Any], None], Sequence[Any]], None]  # calls a function on each item


@contextmanager
def workers(device: torch.device, parallel: bool = True) -> Iterator[RunAll]:
    """Yield a function that calls another one on each item, on as many threads as torch may use, and waits for the last.

    Within the block, torch uses one thread in each worker; its setting is restored at the end. On a device other than the CPU,
    or with `parallel` false, the items are processed one after the other. The calls must not write to the same data.
    """
    count = torch.get_num_threads()
    if device.type != "cpu" or count == 1:
        yield _one_by_one
        return
    torch.set_num_threads(1)
    try:
        yield _run_on_threads(count) if parallel else _one_by_one
    finally:
        torch.set_num_threads(count)


def _one_by_one(call: Callable[[Any], None], items: Sequence[Any]) -> None:
    for item in items:
        call(item)


def _run_on_threads(count: int) -> RunAll:
    helpers = _thread_pool(count - 1, os.getpid())

    def spread(call: Callable[[Any], None], items: Sequence[Any]) -> None:
        waiting, lock = iter(items), Lock()

        @torch.inference_mode()  # the mode is set per thread
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
def _thread_pool(count: int, process: int) -> ThreadPoolExecutor:
    """Return a pool of threads that stay alive: starting new ones allocates memory, which costs as much as a short search.

    process: its ID, because a forked process inherits the cache but not the threads.
    """
    return ThreadPoolExecutor(count, "adbench", torch.set_num_threads, (1,))


Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


def ordered_map(call: Callable[[Item], Outcome], items: Iterable[Item], threads: int, ahead: int) -> Iterator[Outcome]:
    """Yield `call(item)` of each item in order, computed in threads; at most `ahead` finished outcomes are held."""
    waiting: deque[Future[Outcome]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(call, item))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def in_background(items: Iterator[Item]) -> Iterator[Item]:
    """Yield the items, each produced by a background thread while the caller works on the one before."""
    none = object()
    for item in ordered_map(lambda _: next(items, none), count(), threads=1, ahead=1):
        if item is none:
            return
        yield cast(Item, item)
