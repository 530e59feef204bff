"""Run every fault, each in a process of its own, and print what did not end as it should.

    python tests/faults/bench.py [WORDS] [--every N]

WORDS choose cases by name, --every N takes each Nth. Exit code 1 if any case fails.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # more threads would not survive a fork
HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import bad_files  # noqa: E402
import bad_folders  # noqa: E402
import bad_images  # noqa: E402
import bad_specs  # noqa: E402
import numpy as np  # noqa: E402
from cases import EVAL, LAYER, STUDY, SWEEP, Case  # noqa: E402
from conftest import make_category  # noqa: E402

LIMIT_S = 120  # a case that takes longer hangs


def all_cases() -> list[Case]:
    """Return every case; names are unique."""
    found = [*bad_images.cases(), *bad_specs.cases(), *bad_files.cases(), *bad_folders.cases()]
    assert len({case.name for case in found}) == len(found)
    return found


def command(workplace: Path, arguments: Sequence[str]) -> tuple[int, str, str]:
    """Run the command line in a forked process; return exit code (or minus the signal), stdout and stderr."""
    out, err = workplace / "stdout", workplace / "stderr"
    child = os.fork()
    if child == 0:
        _become(workplace, arguments, out, err)
    deadline = time.monotonic() + LIMIT_S
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status), out.read_text(errors="replace"), err.read_text(errors="replace")
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return -9, "", f"hangs: not ended after {LIMIT_S} s"
        time.sleep(0.005)


def _become(workplace: Path, arguments: Sequence[str], out: Path, err: Path) -> None:
    """Be the command: never returns."""
    from adbench.cli import main

    os.chdir(workplace)
    os.environ["ADBENCH_CACHE"] = str(workplace / "cache")
    for target, number in ((out, 1), (err, 2)):
        os.dup2(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    code = 1
    try:
        main(list(arguments))
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def template(folder: Path) -> Path:
    """Make the workplace that every case damages a copy of."""
    make_category(folder / "parts/alpha", 1)
    (folder / "study.yaml").write_text(STUDY)
    for path in sorted((folder / "parts/alpha/test").glob("*/*.png")):
        target = folder / "maps" / path.relative_to(folder / "parts").with_suffix(".npy")
        target.parent.mkdir(parents=True, exist_ok=True)
        np.save(target, np.random.default_rng(len(path.name)).random((16, 16), dtype=np.float32))
    train = ("train", "patchcore", "efficientnet_lite0", LAYER, "--image-size", "64", "--eval-size", "64")
    for arguments in (SWEEP, (*train, "--data", "parts", "--category", "alpha", "--model", "m.safetensors"), EVAL):
        code, _, err = command(folder, arguments)
        assert code == 0, err
    return folder


def metrics(workplace: Path) -> dict[str, str]:
    """Return, by job, the text of the metrics of every result."""
    import json

    found = {}
    for path in (workplace / "results").glob("*.json"):
        found[path.name] = json.dumps(json.loads(path.read_text())["metrics"], sort_keys=True)
    return found


def finished(workplace: Path) -> dict[str, str]:
    """Return the digests of all results."""
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in (workplace / "results").glob("*.json")}


def problem(case: Case, pristine: Path, folder: Path) -> str | None:
    """Run a case; return what is wrong with it, or None."""
    workplace = folder / "workplace"
    shutil.copytree(pristine, workplace, symlinks=True)
    try:
        case.damage(workplace)
        before = finished(workplace)
        code, out, err = command(workplace, case.command)
        if found := case.problem(code, out, err):
            return found
        if (workplace / "hacked").exists():
            return "code from a file was run"
        if case.recovers:
            return None if metrics(workplace) == metrics(pristine) else "the metrics are not the same bytes"
        lost = [name for name, digest in before.items() if finished(workplace).get(name) != digest]
        return f"finished results were changed: {lost}" if lost else None
    finally:
        shutil.rmtree(workplace)


def warm_up() -> None:
    """Load libraries and compiled loops before the forks, which then start at once."""
    import timm  # noqa: F401
    import torch

    import adbench.models.training  # noqa: F401
    from adbench.detectors import make_detector
    from adbench.features.feature_maps import FeatureMaps

    maps = FeatureMaps((np.random.default_rng(0).random((8, 4, 8, 8), dtype=np.float32),))
    make_detector("patchcore", {}, 0).fit(maps, device=torch.device("cpu")).score(maps, device=torch.device("cpu"))


def main() -> int:
    """Run the chosen cases and print a line for each that fails, then the count."""
    parser = argparse.ArgumentParser()
    parser.add_argument("words", nargs="*")
    parser.add_argument("--every", type=int, default=1)
    given = parser.parse_args()
    chosen = [case for case in all_cases() if all(word in case.name for word in given.words)][:: given.every]
    warm_up()
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        pristine = template(Path(folder) / "pristine")
        for case in chosen:
            if found := problem(case, pristine, Path(folder)):
                failed += 1
                print(f"FAILED {case.name}: {found}", flush=True)
    print(f"{len(chosen) - failed} of {len(chosen)} bad inputs ended as they should")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
