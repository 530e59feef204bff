"""Time of a sweep, PatchCore on four layers of three categories, against the same runs one by one with anomalib.

Run: python benchmarks/sweeps.py --peer-python PATH [--threads N] [--repeats N]. Ours is the command line in a process of its
own, start-up, check of the files, extraction into an empty cache, intervals and latencies included; anomalib's fit and test
come in one process that is there already. Both sides read the same generated parts.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import Peer, Timing, arguments, in_turn, show

OPTIONS = arguments(__doc__)

from adbench.data.layouts.demo import write  # noqa: E402

CATEGORIES, SIZE = ["fabric", "metal", "nut"], 128
BACKBONES = {  # our layers, anomalib's
    "efficientnet_lite0": (
        ["blocks.1.1.add", "blocks.2.1.add", "blocks.4.2.add", "blocks.6.0.bn3"],
        "tf_efficientnet_lite0",
        ["blocks.1", "blocks.2", "blocks.4", "blocks.6"],
    ),
    "resnet18": (["layer1", "layer2", "layer3", "layer4"], "resnet18", ["layer1", "layer2", "layer3", "layer4"]),
}


def sweep(backbone: str, layers: list[str], data: Path) -> Timing:
    """Return the time of the whole command, without anything in its cache."""
    with tempfile.TemporaryDirectory() as folder:
        spec = Path(folder) / "study.yaml"
        spec.write_text(
            f"backbones: [{backbone}]\nweights: [random]\nlayers: [{', '.join(layers)}]\nimage_sizes: [{SIZE}]\n"
            f"eval_size: {SIZE}\ndetectors: [patchcore]\nseeds: [0]\n"
        )
        options = ["--spec", spec, "--data", data, "--cache", f"{folder}/cache", "--out", f"{folder}/out", "--quiet"]
        chosen = [part for category in CATEGORIES for part in ("--category", category)]
        before, wall = os.times(), time.perf_counter()
        subprocess.run([sys.executable, "-m", "adbench", "sweep", *options, *chosen], check=True, stdout=subprocess.DEVNULL)
        after = os.times()
        cpu = after.children_user + after.children_system - before.children_user - before.children_system
        return Timing(time.perf_counter() - wall, cpu)


def compare(backbone: str, data: Path, folder: Path) -> None:
    layers, peer_name, peer_layers = BACKBONES[backbone]
    given = {"data": str(data), "categories": CATEGORIES, "backbone": peer_name, "layers": peer_layers}
    peer = Peer(OPTIONS.peer_python, "runs", OPTIONS.threads, size=SIZE, folder=str(folder), **given)
    found = in_turn({"adbench sweep": lambda: sweep(backbone, layers, data), "anomalib": peer}, OPTIONS.repeats)
    show(f"{backbone}: {len(layers)} layers, {len(CATEGORIES)} categories, {SIZE} px", found)
    peer.close()


if __name__ == "__main__":
    if not OPTIONS.peer_python:
        sys.exit("name a Python that has anomalib by --peer-python")
    print(f"{OPTIONS.threads} thread(s)")
    with tempfile.TemporaryDirectory() as name:
        write(Path(name) / "data")
        for case in BACKBONES:
            compare(case, Path(name) / "data", Path(name))
