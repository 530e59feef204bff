"""Blocks of a long computation on several CPU threads, one block each: far fewer waits than torch's own threads need.

Torch divides every operation and waits for all threads at its end, thousands of times for a row of small products; when
another process holds one of the cores each of these waits costs a time slice.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
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
        if not worth:
            yield _one_by_one
            return
        with ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,)) as pool:

            def spread(call: Callable[[Any], None], items: Sequence[Any]) -> None:
                if len(items) < 2:
                    return _one_by_one(call, items)
                for _ in pool.map(torch.inference_mode()(call), items):  # that mode is a thread's own
                    pass
                return None

            yield spread
    finally:
        torch.set_num_threads(count)


def _one_by_one(call: Callable[[Any], None], items: Sequence[Any]) -> None:
    for item in items:
        call(item)
