"""When memory runs out, on the machine or its accelerator: smaller parts first, then a reason that says what to do."""

from collections.abc import Callable
from typing import TypeVar

import torch

Part = TypeVar("Part")
ADVICE = "end what else uses it, take fewer workers (--jobs), a deeper layer, a smaller image_size or fewer images"


def out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory ran out; torch's own allocator on a CPU has no class for it."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def in_parts(call: Callable[[slice], Part], rows: slice) -> list[Part]:
    """Return what `call` gives for all rows at once or, where memory does not reach, for halves of them, and so on.

    Raises what `call` raises, also when a single row takes too much.
    """
    try:
        return [call(rows)]
    except Exception as error:
        if rows.stop - rows.start < 2 or not out_of_memory(error):
            raise
    # out here the frames of the error, and the tensors that they hold, are gone
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    middle = (rows.start + rows.stop) // 2
    return in_parts(call, slice(rows.start, middle)) + in_parts(call, slice(middle, rows.stop))
