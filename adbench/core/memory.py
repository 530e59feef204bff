"""Out of memory, on the machine or its accelerator: detect it, and repeat a computation on halves of its rows."""

from collections.abc import Callable
from typing import TypeVar

import torch

Part = TypeVar("Part")
ADVICE = "end other processes that use it, or use fewer workers (--jobs), a deeper layer, a smaller image_size or fewer images"


def out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that memory ran out; torch raises a plain RuntimeError when CPU memory does."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def in_parts(call: Callable[[slice], Part], rows: slice) -> list[Part]:
    """Return the results of `call` on all rows: one if memory suffices, else one per half, per quarter and so on.

    Raises what `call` raises, also if a single row needs too much memory.
    """
    try:
        return [call(rows)]
    except Exception as error:
        if rows.stop - rows.start < 2 or not out_of_memory(error):
            raise
    # outside the except block: inside it, the traceback keeps the tensors of the failed call alive
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    middle = (rows.start + rows.stop) // 2
    return in_parts(call, slice(rows.start, middle)) + in_parts(call, slice(middle, rows.stop))
