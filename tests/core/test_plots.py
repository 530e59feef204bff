"""Matplotlib is imported once, whichever thread needs it first."""

import sys
import time
from concurrent.futures import ThreadPoolExecutor

import matplotlib
import pytest

from adbench.core import plots


def test_threads_that_need_matplotlib_at_once_wait_for_one_import(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def slow_import() -> None:
        calls.append("import")
        time.sleep(0.05)  # lets the other threads run
        sys.modules["matplotlib"] = matplotlib

    monkeypatch.delitem(sys.modules, "matplotlib")
    monkeypatch.setattr(plots, "_import", slow_import)
    with ThreadPoolExecutor(4) as pool:
        found = [call.result() for call in [pool.submit(plots.load_matplotlib) for _ in range(4)]]
    assert found == [matplotlib] * 4 and calls == ["import"]
