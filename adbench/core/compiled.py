"""Loops compiled by numba, for what no row of tensor operations does as fast; they hold no lock of Python's.

What a loop reads stays in the first cache from one step to the next, and a thread that has started one waits for no other:
between tensor operations threads wait for each other's turn at the interpreter, which in a short search is most of the time.
The machine code is kept on disk beside the loop's file, or in the user's cache folder, so only a first call ever compiles.
A loop calls none of another file: what is kept would not know of changes there.
This package is slow to import: what calls a loop imports it there.
"""

from collections.abc import Callable
from functools import partial
from typing import ParamSpec, TypeVar

import numba

Inputs = ParamSpec("Inputs")
Output = TypeVar("Output")


def compiled(function: Callable[Inputs, Output]) -> Callable[Inputs, Output]:
    """Compile a function on its first call. Sums may be formed in any order, as in tensor operations."""
    compiler = partial(numba.njit, nogil=True, fastmath={"reassoc", "contract"})
    try:
        made: Callable[Inputs, Output] = compiler(cache=True)(function)
    except RuntimeError:  # no folder to keep it in
        made = compiler()(function)
    return made
