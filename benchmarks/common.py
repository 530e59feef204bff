"""What the benchmarks share: threads set before numpy and torch load, timings in turn, the machine's limits, peers.

Each script times ours and a plain reference in turn within one run and prints the median of the ratios, by wall and by CPU
time; the latter is fairer where other programs run on the machine. `--peer-python` names a Python that has anomalib.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from adbench.core.pages import use_huge_pages


def arguments(description: str, threads: int = 1) -> argparse.Namespace:
    """Return the options; call it before numpy and torch are imported, as they read the thread count from the environment.

    threads: the default, 0 = all of the machine's.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--threads", type=int, default=threads)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peer-python", metavar="PATH", help="a Python that has anomalib, timed in the same run")
    parser.add_argument("--peer-pages", action="store_true", help="give peers huge pages, which the command line takes")
    parser.add_argument("--patchcore-inspection", metavar="DIR", help="its source folder (coreset only)")
    parser.add_argument("--data", type=Path, metavar="DIR", help="a category's folder, MVTec's layout (scoring only)")
    options = parser.parse_args()
    use_huge_pages()  # as the command line does
    Peer.pages = options.peer_pages
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        if options.threads:
            os.environ[variable] = str(options.threads)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does
    return options


class Timing(NamedTuple):
    """Seconds of one call."""

    wall: float
    cpu: float


def timed(call: Callable[[], object]) -> Timing:
    """Return the time of one call."""
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return Timing(time.perf_counter() - wall, time.process_time() - cpu)


class Peer:
    """A case of peers.py in a process of its own, which runs it once per call."""

    pages = False

    def __init__(self, python: str, case: str, threads: int, **given: object) -> None:
        script = str(Path(__file__).with_name("peers.py"))
        command = [python, script, case, json.dumps({"threads": threads, **given})]
        known = {name: value for name, value in os.environ.items() if self.pages or name != "GLIBC_TUNABLES"}
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=known)

    def __call__(self) -> Timing:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            sys.exit(f"the peer ended with exit code {self._process.wait()}")
        return Timing(**json.loads(answer))

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()


def in_turn(calls: Mapping[str, Callable[[], Timing]], repeats: int, warm: int = 0) -> dict[str, list[Timing]]:
    """Return the timings of calls that follow each other; a first round is not counted, nor `warm` calls before each."""
    found: dict[str, list[Timing]] = {name: [] for name in calls}
    for number in range(repeats + 1):
        for name, call in calls.items():
            timing = [call() for _ in range(warm + 1)][-1]
            if number:
                found[name].append(timing)
    return found


def local(call: Callable[[], object]) -> Callable[[], Timing]:
    """Return a function that times a call."""
    return lambda: timed(call)


def ratio(ours: Sequence[Timing], theirs: Sequence[Timing]) -> Timing:
    """Return the medians of the ratios ours / theirs of the same round."""
    pairs = list(zip(ours, theirs, strict=True))
    return Timing(*(statistics.median(a[i] / b[i] for a, b in pairs) for i in (0, 1)))


def middle(timings: Sequence[Timing]) -> Timing:
    """Return the medians."""
    return Timing(*(statistics.median(timing[i] for timing in timings) for i in (0, 1)))


def show(title: str, found: Mapping[str, Sequence[Timing]], unit: float = 1, name: str = "s") -> None:
    """Print what each took, divided by `unit`, and the ratios of the first to the others."""
    first = next(iter(found))
    print(title)
    for label, timings in found.items():
        time_taken = middle(timings)
        line = f"  {label:34} wall {time_taken.wall / unit:9.3f} {name}   CPU {time_taken.cpu / unit:9.3f} {name}"
        if label != first:
            of = ratio(found[first], timings)
            line += f"   {first} / it: wall {of.wall:.3f}, CPU {of.cpu:.3f}"
        print(line, flush=True)


def peak_flops(rows: int = 512, dim: int = 128) -> float:
    """Return the rate of a float32 matrix product that stays in the cache, in operations per CPU second."""
    import torch

    left, right = torch.randn(rows, dim), torch.randn(dim, rows)
    times = [timed(lambda: [left @ right for _ in range(20)]).cpu / 20 for _ in range(20)]
    return 2 * rows * rows * dim / statistics.median(times)


def copy_bandwidth(megabytes: int = 256) -> float:
    """Return the bytes per CPU second that a copy of an array reads and writes."""
    import numpy as np

    source = np.ones(megabytes << 18, np.float32)
    target = np.empty_like(source)
    return 2 * source.nbytes / statistics.median(timed(lambda: np.copyto(target, source)).cpu for _ in range(9))


def exponent(sizes: Sequence[int], seconds: Sequence[float]) -> float:
    """Return the power of the size that fits the times."""
    import numpy as np

    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])
