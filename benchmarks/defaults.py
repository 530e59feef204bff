"""Defaults against their alternatives: smoothing in input pixels, and FastFlow's width, map and image score.

Run: python benchmarks/defaults.py smoothing|fastflow [--data DIR] [--categories NAME,..] [--sizes N,..]. EfficientNet-Lite0,
maps scored at 256 px, mean and standard deviation over seeds.

smoothing: stride 16; each detector is fitted once per seed, and its maps are smoothed by 4 input pixels (default) and by 4 px of
a 256 grid (before 0.2.0). PatchCore has 1,000 patches. fastflow: each flow is trained once per seed, in a short run, and scored
with anomaly_map log (default) and probability, image_score cell (default) and map. The layer conv_head has 1,280 channels, where
the default width is a quarter of the published one (hidden_ratio 0.25 and 1.0).
"""

from __future__ import annotations

import argparse
import os
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

PARSER = argparse.ArgumentParser(description=__doc__)
PARSER.add_argument("part", choices=["smoothing", "fastflow"])
PARSER.add_argument("--threads", type=int, default=1)
PARSER.add_argument("--data", default="demo", metavar="DIR")
PARSER.add_argument("--categories", default="", metavar="NAME,..", help="default: all")
PARSER.add_argument("--sizes", default="", metavar="N,..", help="of the images, in pixels; default: 128,512, of flows 128")
PARSER.add_argument("--seeds", default="0,1,2", metavar="N,..")
PARSER.add_argument("--steps", type=int, default=80, help="of a flow's training")
PARSER.add_argument("--layers", default="", metavar="NAME,..", help="fastflow: only the case with these layers")
OPTIONS = PARSER.parse_args()
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = str(OPTIONS.threads)

import numpy as np  # noqa: E402

import adbench  # noqa: E402
from adbench.core.environment import cache_folder  # noqa: E402
from adbench.detectors.fastflow import IMAGE_SCORES, MAPS  # noqa: E402
from adbench.features.anomaly_maps import upsample  # noqa: E402
from adbench.metrics import evaluate  # noqa: E402
from adbench.metrics.support.labels import CategoryInputs  # noqa: E402
from adbench.sweep.workspace import Workspace  # noqa: E402
from adbench.types import Scores  # noqa: E402

BACKBONE, GRID, EPOCHS = "efficientnet_lite0", 256, 8
STAGE, JOINED, WIDE = "blocks.4.2.add", "blocks.2.1.add,blocks.4.2.add", "conv_head"
DETECTORS: list[tuple[str, dict[str, Any]]] = [("patchcore", {"coreset_max": 1000}), ("padim", {}), ("mahalanobis", {})]
FLOWS = ((JOINED, 1.0), (WIDE, 0.25), (WIDE, 1.0))  # layers and hidden_ratio
SHORT = {"epochs": EPOCHS, "min_steps": OPTIONS.steps, "schedule": "onecycle", "precision": "auto"}
METRICS = ("image_auroc", "pixel_auroc", "aupro")
Features = dict[str, np.ndarray]
Row = tuple[str, list[float]]  # what was done, and the metrics


def measured(scorer: adbench.FeatureDetector, test: Features, inputs: CategoryInputs) -> list[float]:
    """Return the metrics of a fitted detector."""
    scores, labels = scorer.score(test), inputs.labels(GRID)
    maps = upsample(np.asarray(scores.maps), GRID, [], scorer.detector.gaussian)
    found = evaluate(Scores(scores.image, maps), labels.truth, regions=labels.regions)
    return [float(found[name]) for name in METRICS]


def smoothing(train: Features, test: Features, inputs: CategoryInputs, size: int, seed: int) -> Iterator[Row]:
    """Yield the rows of all detectors, smoothed in the old and in the new way."""
    stage: tuple[Features, Features] = ({STAGE: train[STAGE]}, {STAGE: test[STAGE]})
    for name, params in DETECTORS:
        scorer = adbench.make_detector(name, seed=seed, device="cpu", **params).fit(stage[0])
        for way, sigma in (("4 px of a 256 grid", 4.0), ("4 input pixels", 4.0 * GRID / size)):
            vars(scorer.detector)["smoothing"] = sigma  # in pixels of a 256 grid
            yield f"{name} | {size} | {way}", measured(scorer, stage[1], inputs)


def fastflow(train: Features, test: Features, inputs: CategoryInputs, size: int, seed: int) -> Iterator[Row]:
    """Yield the rows of all flows, scored in four ways."""
    for case, ratio in FLOWS:
        if OPTIONS.layers in ("", case):
            own = [{layer: of[layer] for layer in case.split(",")} for of in (train, test)]
            rate = 0.0005 if case == WIDE else 0.002  # at 0.002 flows of the published width diverge
            short = SHORT | {"hidden_ratio": ratio, "learning_rate": rate}
            scorer = adbench.make_detector("fastflow", seed=seed, device="cpu", **short).fit(own[0])
            for way in product(MAPS, IMAGE_SCORES):
                vars(scorer.detector).update(zip(("anomaly_map", "image_score"), way, strict=True))
                yield " | ".join([case, f"{size}", f"{ratio:g}", *way]), measured(scorer, own[1], inputs)


def show(inputs: CategoryInputs, size: int, rows: Callable[..., Iterator[Row]]) -> None:
    """Print the rows of a category."""
    splits = [[sample.path for sample in inputs.split(name)] for name in ("train", "test")]
    layers = [STAGE] if rows is smoothing else sorted({layer for case, _ in FLOWS for layer in case.split(",")})
    train, test = (adbench.extract_features(paths, BACKBONE, layers, image_size=size, device="cpu") for paths in splits)
    found = defaultdict(list)
    for seed in map(int, OPTIONS.seeds.split(",")):
        for what, metrics in rows(train, test, inputs, size, seed):
            found[what].append(metrics)
    for what, values in found.items():
        spreads = np.std(values, axis=0, ddof=1) if len(values) > 1 else np.zeros(len(METRICS))
        cells = [f"{mean:.3f} ± {spread:.3f}" for mean, spread in zip(np.mean(values, axis=0), spreads, strict=True)]
        print(inputs.category.name, what, *cells, sep=" | ", flush=True)


if __name__ == "__main__":
    part = {"smoothing": smoothing, "fastflow": fastflow}[OPTIONS.part]
    print(f"category | {OPTIONS.part} | image AUROC | pixel AUROC | AU-PRO")
    chosen = tuple(filter(None, OPTIONS.categories.split(",")))
    for one in Workspace(OPTIONS.data, cache_folder(None), chosen, "cpu").inputs():
        for side in (OPTIONS.sizes or ("128,512" if part is smoothing else "128")).split(","):
            show(one, int(side), part)
