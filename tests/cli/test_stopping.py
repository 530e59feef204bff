"""A signal ends a command, also one that computes without listening."""

import signal
import subprocess
import sys

import pytest

DEAF = """
import hashlib, sys
from adbench.cli import stopping
stopping._GRACE_S = 0.2
with stopping.stoppable("adbench sweep --out 'my results'"):
    print("now", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", (1 << 31) - 1)
"""
LISTENS = DEAF.replace('hashlib.pbkdf2_hmac("sha256", b"", b"", (1 << 31) - 1)', "import time; time.sleep(1000)")


@pytest.mark.parametrize("program", [DEAF, LISTENS])
@pytest.mark.parametrize(("sent", "code", "name"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")])
def test_a_signal_ends_a_command_with_the_line_that_resumes_it(program: str, sent: int, code: int, name: str) -> None:
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "now\n"
    process.send_signal(sent)
    _, err = process.communicate(timeout=300)
    assert process.returncode == code
    assert err == f"adbench: error: {name}; finished work is kept, resume with: adbench sweep --out 'my results'\n"


def test_handlers_are_put_back() -> None:
    code = (
        "import signal\nfrom adbench.cli.stopping import stoppable\nbefore = signal.getsignal(signal.SIGTERM)\n"
        "with stoppable(''):\n    assert signal.getsignal(signal.SIGTERM) is not before\n"
        "assert signal.getsignal(signal.SIGTERM) is before\nassert signal.set_wakeup_fd(-1) == -1\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
