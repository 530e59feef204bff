"""Quality and cost of all detectors on EfficientNet-Lite0's best main stage and on strides 8 and 16 joined.

Run: python benchmarks/detectors.py [--threads N] [--data DIR] [--detectors NAME,..] [--out DIR]. Three seeds. Detectors that
train have the short settings of docs/method.md and precision=auto. Results are kept in the results folder (default:
detector-results), so that a stopped run goes on, and detectors may be run one by one. Prints the table.
"""

from __future__ import annotations

import argparse
import os
from collections import defaultdict
from pathlib import Path
from typing import Any

PARSER = argparse.ArgumentParser(description=__doc__)
PARSER.add_argument("--threads", type=int, default=1)
PARSER.add_argument("--data", default="demo", metavar="DIR")
PARSER.add_argument("--detectors", default="", metavar="NAME,..", help="default: all")
PARSER.add_argument("--seeds", default="0,1,2", metavar="N,..")
PARSER.add_argument("--out", type=Path, default=Path("detector-results"), metavar="DIR")
OPTIONS = PARSER.parse_args()
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = str(OPTIONS.threads)

import numpy as np  # noqa: E402

import adbench  # noqa: E402
from adbench.types import Result  # noqa: E402

JOINED = "blocks.2.1.add+blocks.4.2.add"  # strides 8 and 16
STAGES = ("blocks.2.1.add", "blocks.4.2.add")  # strides 8 and 16
FAST = (*STAGES, JOINED)
SHORT = {"epochs": 20, "schedule": "onecycle", "precision": "auto"}
CASES: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {  # layers and parameters; training is measured on fewer layers
    "patchcore": (FAST, {"coreset_max": 2048}),
    "subspace": (FAST, {}),
    "padim": (FAST, {}),
    "mahalanobis": (FAST, {}),
    "fastflow": (("blocks.4.2.add", JOINED), SHORT),
    "asymst": (("blocks.4.2.add",), SHORT | {"learning_rate": 0.002, "student_hidden": 64}),
    "supersimplenet": (
        ("blocks.4.2.add", JOINED),
        SHORT | {"learning_rate": 0.001, "batch_size": 8, "upscale": 1, "hidden": 256, "image_score": "map", "min_steps": 0},
    ),
    "rd": ((JOINED,), SHORT | {"epochs": 40, "min_steps": 0}),
}
METRICS = ("image_auroc", "pixel_auroc", "aupro")


def results(name: str) -> list[Result]:
    """Return one detector's results on all categories, layers and seeds."""
    layers, params = CASES[name]
    spec = {
        "backbones": ["efficientnet_lite0"], "layers": list(layers), "image_sizes": [256],
        "detectors": [{"name": name, "params": params}], "seeds": [int(seed) for seed in OPTIONS.seeds.split(",")],
    }  # fmt: skip
    return adbench.run_sweep(spec, OPTIONS.data, OPTIONS.out / Path(OPTIONS.data).name, device="cpu")


def interval(members: list[Result], metric: str) -> str:
    """Return the mean over categories and seeds with the half width of its 95 % interval, from those of the categories."""
    values, halves = defaultdict(list), defaultdict(list)
    for result in members:
        values[result.job.category].append(result.metrics[metric])
        halves[result.job.category].append(np.ptp(result.details["intervals"][metric]) / 2)
    half = np.sqrt(sum(np.mean(of) ** 2 for of in halves.values())) / len(halves)
    return f"{np.mean([np.mean(of) for of in values.values()]):.3f} ± {half:.3f}"


def least(members: list[Result], cost: str) -> float:
    """Return the mean over categories of a cost at the seed where it was least: other processes can only add to it."""
    values = defaultdict(list)
    for result in members:
        values[result.job.category].append(result.cost[cost])
    return float(np.mean([min(of) for of in values.values()]))


def rows(name: str, found: list[Result]) -> list[str]:
    """Return the table's rows of a detector: its best single stage, and joined layers."""
    by_layer = defaultdict(list)
    for result in found:
        if result.status == "done":
            by_layer[result.job.layer].append(result)
    single = {layer: members for layer, members in by_layer.items() if "+" not in layer}
    best = max(
        single, key=lambda layer: np.mean([r.metrics["image_auroc"] + r.metrics["aupro"] for r in single[layer]]), default=""
    )
    lines = []
    for layer in filter(None, (best, JOINED if JOINED in by_layer else "")):
        members = by_layer[layer]
        costs = [least(members, key) for key in ("fit_s", "score_ms", "state_mb", "peak_memory_mb")]
        shown = layer if "+" not in layer else "strides 8 and 16"
        quality = [interval(members, metric) for metric in METRICS]
        lines.append(
            " | ".join([f"`{name}`", shown, *quality, f"{costs[0]:.2f}", f"{costs[1]:.1f}", f"{costs[2]:.2f}", f"{costs[3]:.0f}"])
        )
    return lines


if __name__ == "__main__":
    print("detector | layer | image AUROC | pixel AUROC | AU-PRO | fit, s | score of an image, ms | state, MB | peak memory, MB")
    for name in OPTIONS.detectors.split(",") if OPTIONS.detectors else CASES:
        for line in rows(name, results(name)):
            print(line, flush=True)
