"""Kill workers and parents of sweeps with two workers at random moments, and look at what the same command makes of it.

Run: python tests/faults/kill_bench.py 50 [SEED]. Every round starts a sweep, kills one of its processes with SIGKILL after a
random time, waits until none is left, and runs the same command again: it must end well, with the same bytes of metrics.
Processes are found by a mark in their environment (Linux: /proc).
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from uuid import uuid4

sys.path.insert(0, str(Path(__file__).parent.parent))
from conftest import make_category

STUDY = (
    "backbones: [efficientnet_lite0]\nlayers: [blocks.1.1.add, blocks.2.1.add+blocks.4.2.add]\nimage_sizes: {sizes}\n"
    "eval_size: 64\n"
)
JOBS = 8
GONE_S = 60  # a loaded machine may take long to end a process


class Bench:
    """One study in one folder; `mark` is in the environment of every process that it starts."""

    def __init__(self, folder: Path, image_sizes: Sequence[int] = (64, 96)) -> None:
        self.folder, self.mark = folder, uuid4().hex
        for seed, name in enumerate(("alpha", "beta"), 1):
            make_category(folder / "parts" / name, seed)
        (folder / "study.yaml").write_text(STUDY.format(sizes=list(image_sizes)))

    def arguments(self, name: str) -> list[str]:
        """Return the command that sweeps into the results `name`."""
        spec, data, out, cache = (str(self.folder / part) for part in ("study.yaml", "parts", name, "cache"))
        return ["sweep", "--spec", spec, "--data", data, "--out", out, "--cache", cache, "--json"]

    def start(self, name: str) -> "subprocess.Popen[str]":
        """Start the command as a process with two workers."""
        command = [sys.executable, "-m", "adbench", *self.arguments(name), "--jobs", "2"]
        variables = dict(os.environ, ADBENCH_MARK=self.mark)
        return subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def metrics(self, name: str) -> dict[str, str]:
        """Return the metrics of each job as they stand in its file."""
        records = [json.loads(path.read_text()) for path in (self.folder / name).glob("*.json")]
        return {record["key"]: json.dumps(record["metrics"]) for record in records}

    def processes(self) -> list[int]:
        """Return the ids of all living processes that carry the mark."""
        return [int(path.parent.name) for path in Path("/proc").glob("[0-9]*/environ") if self.mark in _environment(path)]


def all_gone(bench: Bench) -> bool:
    """Return whether the bench's processes end soon."""
    end = time.monotonic() + GONE_S
    while bench.processes() and time.monotonic() < end:
        time.sleep(0.1)
    return not bench.processes()


def _environment(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:  # it has ended, or is another user's
        return ""


def finish(bench: Bench, name: str) -> dict[str, int]:
    """Run the sweep to its end and return its summary."""
    process = bench.start(name)
    out, err = process.communicate(timeout=600)
    if process.returncode:
        raise AssertionError(f"exit code {process.returncode}: {err}")
    return json.loads(out)


def strike(bench: Bench, rng: random.Random, span: float) -> str | None:
    """Start the sweep `hit`, kill one of its processes within `span` seconds, return whom; nothing of it may be left.

    None if it was done before.
    """
    process = bench.start("hit")
    time.sleep(rng.uniform(0, span))
    alive = bench.processes()
    victim = rng.choice(alive) if alive and process.poll() is None else None
    if victim:
        os.kill(victim, signal.SIGKILL)
    process.communicate(timeout=600)
    if not all_gone(bench):
        raise AssertionError(f"orphans: {bench.processes()}")
    return None if victim is None else "parent" if victim == process.pid else "worker"


def kills(bench: Bench, times: int, seed: int = 0) -> Iterator[Counter[str]]:
    """Strike `times`, yield whom so far; AssertionError if anything is not as it must be. The cache is emptied now and then."""
    rng, started = random.Random(seed), time.monotonic()
    finish(bench, "reference")
    expected, span, struck = bench.metrics("reference"), time.monotonic() - started, Counter[str]()
    while struck.total() < times:
        shutil.rmtree(bench.folder / "hit", ignore_errors=True)
        if rng.random() < 0.5:
            shutil.rmtree(bench.folder / "cache")
        whom = strike(bench, rng, span)
        if whom is None:
            continue
        struck[whom] += 1
        again = finish(bench, "hit")
        if again["done"] + again["cached"] != JOBS or bench.metrics("hit") != expected:
            raise AssertionError(f"after {dict(struck)}: {again}")
        yield struck


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        count, *seeds = map(int, sys.argv[1:])
        for struck in kills(Bench(Path(folder)), count, *seeds):
            sys.stdout.write(f"killed and recovered: {dict(struck)}\n")
            sys.stdout.flush()
