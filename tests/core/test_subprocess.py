"""A separate process that fails leaves no process, no semaphore and no remark behind."""

import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import multiprocessing, os, signal, sys, threading, time
from functools import partial
from pathlib import Path
from adbench.core.environment import choose_device
from adbench.core.errors import UsageError
from adbench.core.subprocess import in_subprocess


def children():
    return [pid for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()]


def sleep():
    Path("asleep").touch()
    time.sleep(60)


def interrupt_sleep():
    while not Path("asleep").exists():
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGINT)


def main():
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which background jobs of a shell ignore
    try:
        {call}
    except UsageError as error:
        print(error)
    except KeyboardInterrupt:
        print("interrupted")
    assert multiprocessing.active_children() == []
    assert len(children()) <= 1, children()  # the tracker of semaphores, which ends with this process


if __name__ == "__main__":
    main()
"""
CALLS = {
    "an error": ('in_subprocess(partial(choose_device, "cuda:99"))', "device 'cuda:99' is not on this machine"),
    "an interrupt": ("threading.Thread(target=interrupt_sleep).start(); in_subprocess(sleep)", "interrupted"),
}


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
@pytest.mark.parametrize("case", CALLS)
def test_nothing_is_left_behind(case: str, tmp_path: Path) -> None:
    call, shown = CALLS[case]
    script = tmp_path / "main.py"
    script.write_text(CODE.format(call=call))
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=100)
    assert (done.stdout[: len(shown)], done.stderr, done.returncode) == (shown, "", 0)
