"""CPU time of a sweep with and without huge pages. Run: python benchmarks/pages.py [--repeats 5]

The command line asks for huge pages itself, unless GLIBC_TUNABLES is set. Both runs start with empty folders, in turns.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from functools import partial

from common import Timing, arguments, in_turn, show

PRESET = "quickstart"


def sweep(threads: int, pages: bool) -> Timing:
    """Run the preset in a process of its own."""
    known = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"} | {"OMP_NUM_THREADS": str(threads)}
    known |= {} if pages else {"GLIBC_TUNABLES": ""}
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "adbench",
            "--quiet",
            "sweep",
            "--preset",
            PRESET,
            "--cache",
            f"{folder}/c",
            "--out",
            f"{folder}/r",
        ]
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(command, env=known, check=True, stdout=subprocess.DEVNULL)
        wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return Timing(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


if __name__ == "__main__":
    options = arguments(__doc__.partition("\n")[0])
    ways = {"huge pages": True, "pages of 4 KB": False}
    calls = {name: partial(sweep, options.threads, pages) for name, pages in ways.items()}
    show(f"sweep of the preset {PRESET}", in_turn(calls, options.repeats))
