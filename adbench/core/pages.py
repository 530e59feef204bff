"""Huge pages for the process's memory. This module is imported before any other and loads nothing."""

import os
import sys
from contextlib import suppress
from pathlib import Path

_VARIABLE, _SETTING = "GLIBC_TUNABLES", "glibc.malloc.hugetlb=1"  # glibc 2.35; earlier ones pass over it
_MODE = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def started_as(program: str) -> bool:
    """Return whether this process was started as the script or with `python -m`, and not by a program that calls its function."""
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    return Path(getattr(main, "__file__", None) or "").name == program or (
        spec is not None and spec.name == f"{program}.__main__"
    )


def use_huge_pages() -> None:
    """Start this program again, in the same process, with malloc on huge pages where the kernel gives them on request.

    Extraction and training touch many arrays of a few megabytes: on pages of 4 KB they wait for page tables (docs/benchmarks).
    glibc reads the variable only when a program starts. One that is already set stays as it is.
    """
    if sys.platform != "linux" or _VARIABLE in os.environ or not sys.executable:
        return
    with suppress(OSError):
        if "[madvise]" in _MODE.read_text():
            os.environ[_VARIABLE] = _SETTING
            os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606
