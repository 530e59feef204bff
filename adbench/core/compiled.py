"""Loops compiled by numba, for computations that a sequence of tensor operations does more slowly.

A compiled loop keeps its data in the processor's first cache and releases Python's interpreter lock. Between tensor operations,
threads wait for that lock, which takes most of the time of a short search. The machine code is cached on disk, beside the
source file or in the user's cache folder, so only the first call ever compiles. A compiled loop must call only loops of its own
file: numba does not notice changes in other files. Importing numba takes a quarter of a second, so modules with compiled loops
are imported where they are called.
"""

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any, ParamSpec, TypeVar

import numba
from numba.core import caching

Inputs = ParamSpec("Inputs")
Output = TypeVar("Output")
_LOG = logging.getLogger("adbench")
_FunctionCache: Any = caching.FunctionCache


class _TolerantCache(_FunctionCache):  # type: ignore[misc]  # numba is untyped
    """Numba's cache of machine code, except that a damaged file or a full disk costs a compilation and stops nothing."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the machine code, or None if the cache has none that can be read; a damaged index is emptied."""
        try:
            return super().load_overload(sig, target_context)
        except Exception as error:  # unpickling a damaged file raises anything
            _LOG.debug("the cache of compiled code in %s is damaged (%s); compiling anew", self.cache_path, error)
            with suppress(Exception):
                self.flush()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Save the machine code if that is possible."""
        try:
            super().save_overload(sig, data)
        except Exception as error:
            _LOG.debug("cannot cache compiled code in %s (%s)", self.cache_path, error)


def compiled(function: Callable[Inputs, Output]) -> Callable[Inputs, Output]:
    """Compile a function at its first call. Sums may be formed in any order, as in tensor operations."""
    made: Any = numba.njit(nogil=True, fastmath={"reassoc", "contract"})(function)
    with suppress(RuntimeError):  # no folder to cache it in
        made._cache = _TolerantCache(function)
    return made  # type: ignore[no-any-return]
