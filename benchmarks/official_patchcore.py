"""Does the preset patchcore-official agree with the code of PatchCore's authors? Both run here on the same weights and images.

Run: python benchmarks/official_patchcore.py --repository DIR [--weights LABEL], DIR being a clone of
github.com/amazon-science/patchcore-inspection. Both memory banks have all patches, so that no random draw is compared; the
authors' coreset is compared by itself, on the same projected points and starts. Images are generated parts: 8 for the fit, 6
to score. Prints the largest difference of each step, as a share of the range of the authors' values; `exact distances` are in
float64, from the authors' patches, and "authors" is how far their own float32 distances are from these.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import torchvision

from adbench.backbones.network import Network
from adbench.backbones.weights import resolve
from adbench.data.demo.folder import Counts, write_demo
from adbench.detectors.search.approximate_coreset import approximate_coreset
from adbench.features.anomaly_maps import upsample
from adbench.features.view import View
from adbench.models.files import load_model
from adbench.models.prediction import Scorer
from adbench.models.training import TrainingRequest, train_model
from adbench.sweep.spec import parse, preset_text
from adbench.sweep.workspace import Workspace

SIDES = (256, 320, 900)  # not resized; 280 px seen; 787.5 px seen, so that the cut is rounded
CPU = torch.device("cpu")
CATEGORY, COUNTS = "nut", Counts(train=8, good=2, defective=1, new=0)
Steps = dict[str, np.ndarray]


def official(data: Path, weights: str) -> tuple[Steps, list[Path]]:
    """Return what the authors' code computes, and the test images in its order."""
    from patchcore.common import FaissNN
    from patchcore.datasets.mvtec import DatasetSplit, MVTecDataset
    from patchcore.patchcore import PatchCore as Official
    from patchcore.sampler import IdentitySampler

    network = torchvision.models.wide_resnet50_2(weights=None)
    network.load_state_dict(Network("wide_resnet50_2", resolve("wide_resnet50_2", weights)).module.state_dict())
    parts = [MVTecDataset(str(data), CATEGORY, 256, 224, split) for split in (DatasetSplit.TRAIN, DatasetSplit.TEST)]
    train, test = (torch.utils.data.DataLoader(part, batch_size=2) for part in parts)
    model, sampler, search = Official(CPU), IdentitySampler(), FaissNN(False, 1)
    model.load(network.eval(), ["layer2", "layer3"], CPU, (3, 224, 224), 1024, 1024, featuresampler=sampler, nn_method=search)
    model.fit(train)
    queries = np.concatenate([np.asarray(part) for part in model.embed(test)])
    distances = model.anomaly_scorer.predict([queries])[0].reshape(len(parts[1]), 28, 28)
    images, smoothed = model.predict(test)[:2]
    model.anomaly_segmentor.smoothing = 0
    fine = model.anomaly_segmentor.convert_to_segmentation(distances)
    bank = model.anomaly_scorer.detection_features
    steps = {"patches": bank, "distances": distances, "enlarged maps": np.stack(fine), "smoothed maps": np.stack(smoothed),
             "image scores": np.array(images), "exact distances": exact(queries, bank).reshape(distances.shape)}  # fmt: skip
    return steps, [Path(row[2]) for row in parts[1].data_to_iterate]


def exact(queries: np.ndarray, bank: np.ndarray) -> np.ndarray:
    """Return the squared distances to the nearest patches, in float64."""
    rows, centers = torch.from_numpy(queries).double(), torch.from_numpy(bank).double()
    return np.concatenate([torch.cdist(part, centers).min(1).values.square().numpy() for part in rows.split(1024)])


def ours(data: Path, weights: str, test: list[Path], cache: Path, dtype: str) -> Steps:
    """Return the same of the preset, with all patches in the bank."""
    spec = parse(preset_text("patchcore-official"))
    (backbone,), (layer,), (size,), (detector,) = spec.backbones, spec.layers, spec.image_sizes, spec.detectors
    workspace, file = Workspace(str(data), cache, (CATEGORY,), "cpu"), cache / f"{dtype}.safetensors"
    view, grid = View(size, crop=spec.crop), int(spec.eval_size)
    request = TrainingRequest(detector.name, backbone.name, layer, weights, view, grid, dtype)
    train_model(workspace, request, detector.params | {"coreset_fraction": 1.0}, file)
    scorer = Scorer.of(load_model(file), file, workspace)
    scores = list(scorer.score(test))
    maps = np.concatenate([np.asarray(batch.maps) for batch in scores])
    return {"patches": scorer.detector.bank_, "distances": maps, "enlarged maps": np.asarray(upsample(maps, grid, [])),
            "smoothed maps": np.asarray(upsample(maps, grid, [], scorer.smoothing)),
            "image scores": np.concatenate([batch.image for batch in scores]), "exact distances": maps}  # fmt: skip


def same_picks(bank: np.ndarray) -> float:
    """Return the share of the authors' picks of 10 % that ours has, from the same points and starts."""
    from patchcore.sampler import ApproximateGreedyCoresetSampler

    torch.manual_seed(0)
    sampler = ApproximateGreedyCoresetSampler(0.1, CPU)
    points = sampler._reduce_features(torch.from_numpy(bank)).detach()
    starts = np.random.RandomState(0).choice(len(points), 10, replace=False)
    np.random.seed(0)  # so that theirs draws the same
    theirs = sampler._compute_greedy_coreset_indices(points)
    return float(np.isin(theirs, approximate_coreset(points.numpy(), len(theirs), starts, device=CPU)).mean())


def main() -> None:
    """Print the differences at each size of the images, in float32 and with features stored in float16."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repository", required=True, metavar="DIR")
    parser.add_argument("--weights", default="random")
    options = parser.parse_args()
    sys.path.insert(0, f"{options.repository}/src")
    with tempfile.TemporaryDirectory() as made:
        for side in SIDES:
            folder = Path(made) / str(side)
            write_demo(folder, [CATEGORY], COUNTS, side)
            theirs, test = official(folder / "parts", options.weights)
            found = {dtype: ours(folder / "parts", options.weights, test, folder, dtype) for dtype in ("float32", "float16")}
            found["authors"] = theirs | {"exact distances": theirs["distances"]}
            for name, own in found.items():
                shares = (f"{step} {np.abs(own[step] - values).max() / np.ptp(values):.2g}" for step, values in theirs.items())
                print(f"{side} px, {name}:", ", ".join(shares))
            print(f"{side} px: share of equal picks {same_picks(theirs['patches']):.4f}", flush=True)


if __name__ == "__main__":
    main()
