"""What the tests of every cluster share: a study, the command line as a process, and metrics to compare."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from conftest import make_category

STUDY = """\
backbones: [efficientnet_lite0]
layers: [blocks.1.1.add]
image_sizes: [64]
eval_size: 64
detectors: [patchcore, {name: fastflow, params: {epochs: 40}}, mahalanobis]
"""
PATIENCE_S = 600


class Sweeps:
    """Sweeps over two categories in one folder, each into results of its own; all share data and nothing else."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder, self.environment = folder, environment
        for seed, name in enumerate(("alpha", "beta"), 1):
            make_category(folder / "parts" / name, seed)
        (folder / "study.yaml").write_text(STUDY)
        self.study = ["--spec", str(folder / "study.yaml"), "--data", str(folder / "parts")]

    def start(self, name: str, *options: Any, study: list[str] | None = None) -> "subprocess.Popen[str]":
        """Start a sweep into the results `name`, with a cache of its own."""
        places = ["--out", str(self.folder / name), "--cache", str(self.folder / f"cache-{name}"), "--json"]
        command = [sys.executable, "-m", "adbench", "sweep", *(study or self.study), *places, *map(str, options)]
        return subprocess.Popen(
            command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )

    def run(self, name: str, *options: Any, code: int = 0, study: list[str] | None = None) -> dict[str, Any]:
        """Run a sweep to its end and return its summary."""
        return summary(self.start(name, *options, study=study), code)

    def metrics(self, name: str) -> dict[str, str]:
        """Return the metrics of each job, as they stand in its file."""
        records = {path.stem: json.loads(path.read_text()) for path in (self.folder / name).glob("*.json")}
        return {key: json.dumps(record["metrics"]) for key, record in records.items()}

    def worker_at(self, name: str, detector: str, other_than: int = 0) -> int:
        """Wait until a worker is at a job of this detector; return its process id."""

        def look() -> int | None:
            lines = next((self.folder / name / "plans").glob("*.jsonl")).read_text().splitlines()[1:]
            jobs = {job["key"]: job for job in map(json.loads, lines)}
            for path in (self.folder / name / "running").glob("*.json"):
                sign = json.loads(path.read_text())
                if sign["pid"] != other_than and sign["job"] and jobs[sign["job"]]["detector"] == detector:
                    return int(sign["pid"])
            return None

        return until(look)


def summary(process: "subprocess.Popen[str]", code: int = 0) -> dict[str, Any]:
    """Wait for a sweep and return its summary."""
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == code, err
    return json.loads(out) if out else {"err": err}


def until(look: Callable[[], Any]) -> Any:
    """Return the first true answer of `look`; what is not there yet counts as none."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        try:
            if answer := look():
                return answer
        except (StopIteration, FileNotFoundError, ValueError):
            pass
        time.sleep(0.05)
    raise AssertionError("waited in vain")


def kill(pid: int) -> None:
    """End a process as the kernel does when memory is short."""
    os.kill(pid, signal.SIGKILL)
