"""FastFlow's published width, map and image score against this package's defaults.

Run: python benchmarks/fastflow.py [--data DIR] [--categories NAME,..] [--steps N]. Each flow is trained once per seed, in short
runs, and scored in four ways: anomaly_map log (default) or probability, image_score cell (default) or map. The layer conv_head
has 1,280 channels, where the default width is a quarter of the published one (hidden_ratio 0.25 and 1.0). Means over seeds.
"""

from __future__ import annotations

import argparse
import os
from collections import defaultdict
from itertools import product

PARSER = argparse.ArgumentParser(description=__doc__)
PARSER.add_argument("--threads", type=int, default=1)
PARSER.add_argument("--data", default="demo", metavar="DIR")
PARSER.add_argument("--categories", default="", metavar="NAME,..", help="default: all")
PARSER.add_argument("--steps", type=int, default=80)
PARSER.add_argument("--size", type=int, default=128, help="image size in pixels")
PARSER.add_argument("--seeds", default="0,1,2", metavar="N,..")
OPTIONS = PARSER.parse_args()
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = str(OPTIONS.threads)

import numpy as np  # noqa: E402

import adbench  # noqa: E402
from adbench.core.environment import cache_folder  # noqa: E402
from adbench.detectors.fastflow import IMAGE_SCORES, MAPS, FastFlow  # noqa: E402
from adbench.features.anomaly_maps import upsample  # noqa: E402
from adbench.metrics import evaluate  # noqa: E402
from adbench.metrics.support.labels import CategoryInputs  # noqa: E402
from adbench.sweep.workspace import Workspace  # noqa: E402
from adbench.types import Scores  # noqa: E402

BACKBONE, GRID, EPOCHS = "efficientnet_lite0", 256, 8
CASES = [(("blocks.2.1.add", "blocks.4.2.add"), 1.0), (("conv_head",), 0.25), (("conv_head",), 1.0)]  # layers and hidden_ratio
METRICS = ("image_auroc", "pixel_auroc", "aupro")
Features = dict[str, np.ndarray]
Measured = dict[tuple[str, ...], dict[str, float | None]]


def measured(train: Features, test: Features, ratio: float, seed: int, inputs: CategoryInputs) -> Measured:
    """Return {(map, image score): metrics} of one training."""
    settings = {"epochs": EPOCHS, "min_steps": OPTIONS.steps, "schedule": "onecycle", "learning_rate": 0.002, "precision": "auto"}
    flow = adbench.make_detector("fastflow", seed=seed, device="cpu", hidden_ratio=ratio, **settings).fit(train)
    assert isinstance(flow.detector, FastFlow)
    found: Measured = {}
    for flow.detector.anomaly_map, flow.detector.image_score in product(MAPS, IMAGE_SCORES):
        scores, labels = flow.score(test), inputs.labels(GRID)
        maps = upsample(np.asarray(scores.maps), GRID, [], flow.detector.gaussian)
        metrics = evaluate(Scores(scores.image, maps), labels.truth, regions=labels.regions)
        found[flow.detector.anomaly_map, flow.detector.image_score] = {name: metrics[name] for name in METRICS}
    return found


def show(inputs: CategoryInputs) -> None:
    """Print the rows of a category."""
    layers = sorted({layer for case, _ in CASES for layer in case})
    splits = [[sample.path for sample in inputs.split(name)] for name in ("train", "test")]
    train, test = (adbench.extract_features(paths, BACKBONE, layers, image_size=OPTIONS.size) for paths in splits)
    for names, ratio in CASES:
        values = defaultdict(list)
        for seed in map(int, OPTIONS.seeds.split(",")):
            for way, metrics in measured(*({n: of[n] for n in names} for of in (train, test)), ratio, seed, inputs).items():
                values[way].append([metrics[name] for name in METRICS])
        for way, rows in values.items():
            means = (f"{mean:.3f} ± {spread:.3f}" for mean, spread in zip(np.mean(rows, 0), np.std(rows, 0, ddof=1), strict=True))
            print(inputs.category.name, "+".join(names), f"{ratio:g}", *way, *means, sep=" | ", flush=True)


if __name__ == "__main__":
    chosen = tuple(filter(None, OPTIONS.categories.split(",")))
    print("category | layers | hidden_ratio | anomaly_map | image_score | image AUROC | pixel AUROC | AU-PRO")
    for one in Workspace(OPTIONS.data, cache_folder(None), chosen, "cpu").inputs():
        show(one)
