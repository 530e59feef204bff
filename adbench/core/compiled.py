"""Loops compiled by numba, for computations that a sequence of tensor operations does more slowly.

A compiled loop keeps its data in the processor's first cache and releases Python's interpreter lock. Between tensor operations,
threads wait for that lock, which takes most of the time of a short search. The machine code is cached on disk, beside the
source file or in the user's cache folder, so only the first call ever compiles. A compiled loop must call only loops of its own
file: numba does not notice changes in other files. Importing numba takes a quarter of a second, so modules with compiled loops
are imported where they are called.
"""

from collections.abc import Callable
from functools import partial
from typing import ParamSpec, TypeVar

import numba

Inputs = ParamSpec("Inputs")
Output = TypeVar("Output")


def compiled(function: Callable[Inputs, Output]) -> Callable[Inputs, Output]:
    """Compile a function at its first call. Sums may be formed in any order, as in tensor operations."""
    compiler = partial(numba.njit, nogil=True, fastmath={"reassoc", "contract"})
    try:
        made: Callable[Inputs, Output] = compiler(cache=True)(function)
    except RuntimeError:  # no folder to cache it in
        made = compiler()(function)
    return made
