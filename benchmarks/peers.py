"""What peers do, in a process of their own and with their own code: `PYTHON benchmarks/peers.py CASE JSON`.

Prepares the case, then runs it once for each line on stdin, and prints its wall and CPU seconds as JSON. Steps that all take
the same time (a coreset's) are run in part and multiplied up.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

del sys.path[0]  # this folder: transformers.py is not the library that anomalib imports
GIVEN = json.loads(sys.argv[2]) if len(sys.argv) > 2 else {}
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = str(GIVEN.get("threads", 1))
os.environ |= {"OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_OFFLINE": "1"}

import numpy as np  # noqa: E402
import torch  # noqa: E402

Case = tuple[Callable[[], object], float]  # what is timed, and what its time is multiplied by


def extraction(backbone: str, layers: list[str], paths: list[str], size: int, batch: int, **_: Any) -> Case:
    """anomalib: its reader, torchvision's resize, timm's feature extractor, 3 x 3 mean and joined layers."""
    from anomalib.data.utils import read_image
    from anomalib.models.image.patchcore.torch_model import PatchcoreModel
    from torchvision.transforms.v2 import Compose, Normalize, Resize

    model = PatchcoreModel(layers=layers, backbone=backbone, pre_trained=False).train()
    model.feature_extractor.eval()
    transform = Compose([Resize((size, size), antialias=True), Normalize([0.5] * 3, [0.5] * 3)])

    def run() -> None:
        for i in range(0, len(paths), batch):
            model(torch.stack([transform(read_image(path, as_tensor=True)) for path in paths[i : i + batch]]))
        model.embedding_store.clear()

    return run, 1


def scoring(features: str, bank: str, layers: list[str], size: int, **_: Any) -> Case:
    """anomalib: scores and the map of one image, given its features."""
    from anomalib.models.image.patchcore.torch_model import PatchcoreModel

    model = PatchcoreModel(layers=layers, backbone="resnet18", pre_trained=False).eval()
    given = {layer: torch.from_numpy(array) for layer, array in np.load(features).items()}
    model.memory_bank = torch.from_numpy(np.load(bank))
    model.feature_extractor = torch.nn.Identity()
    model.feature_extractor.forward = lambda _: given
    image = torch.zeros(1, 3, size, size)

    def run() -> None:
        with torch.no_grad():
            model(image)

    return run, 1


def coreset(points: str, picks: int, steps: int, **_: Any) -> Case:
    """anomalib: k-center greedy, the first steps of it; without its projection, which is the same for all."""
    from anomalib.models.components import KCenterGreedy

    embedding = torch.from_numpy(np.load(points))
    greedy = KCenterGreedy(embedding, picks / len(embedding))
    greedy.features = embedding

    def run() -> None:
        greedy.reset_distances()
        greedy.update_distances(torch.tensor(0))
        for _ in range(steps):
            index = greedy.get_new_idx()
            greedy.update_distances(index)

    return run, picks / steps


def inspection(points: str, picks: int, steps: int, source: str, **_: Any) -> Case:
    """patchcore-inspection: approximate greedy selection, the first steps of it; without its projection."""
    sys.path.insert(0, source)
    from patchcore.sampler import ApproximateGreedyCoresetSampler

    features = torch.from_numpy(np.load(points))
    sampler = ApproximateGreedyCoresetSampler(steps / len(features), torch.device("cpu"))
    return lambda: sampler._compute_greedy_coreset_indices(features), picks / steps


def runs(data: str, categories: list[str], backbone: str, layers: list[str], size: int, folder: str, **_: Any) -> Case:
    """anomalib: fit and test of PatchCore, one run per category and layer, with its defaults but for what is given."""
    from anomalib.data import MVTecAD
    from anomalib.engine import Engine
    from anomalib.models import Patchcore

    def run() -> None:
        for category in categories:
            for layer in layers:
                images = MVTecAD(data, category, train_batch_size=8, eval_batch_size=8, num_workers=0, seed=0)
                prepared = Patchcore.configure_pre_processor(image_size=(size, size))
                model = Patchcore(backbone, [layer], pre_trained=False, pre_processor=prepared, visualizer=False)
                engine = Engine(accelerator="cpu", devices=1, logger=False, default_root_dir=folder)
                engine.fit(model, datamodule=images)
                engine.test(model, datamodule=images, verbose=False)

    return run, 1


def flows(layers: list[tuple[int, int]], images: int, batch: int, size: int, backbone: bool, **_: Any) -> Case:
    """anomalib: a third of an epoch of FastFlow on three layers, with the backbone's passes or with features given."""
    import timm
    from anomalib.models.image.fastflow.loss import FastflowLoss
    from anomalib.models.image.fastflow.torch_model import FastflowModel, create_fast_flow_block

    model = FastflowModel((size, size), "resnet18", pre_trained=False).train()
    shapes = [[channels, side, side] for channels, side in layers]
    model.norms = torch.nn.ModuleList(torch.nn.LayerNorm(shape) for shape in shapes)
    model.fast_flow_blocks = torch.nn.ModuleList(create_fast_flow_block(shape, False, 1.0, 8) for shape in shapes)
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False, features_only=True, out_indices=[2, 3, 4])
    data = [torch.randn(images, 3, size, size)] if backbone else [torch.randn(images, *shape) for shape in shapes]
    model.feature_extractor = network.requires_grad_(False).eval() if backbone else torch.nn.Identity()
    optimizer, loss = torch.optim.Adam(model.parameters(), lr=0.001, weight_decay=1e-5), FastflowLoss()

    def run() -> None:
        for rows in torch.randperm(images).split(batch):
            given = [values[rows] for values in data]
            optimizer.zero_grad()
            loss(*model(given[0] if backbone else given)).backward()
            optimizer.step()

    return run, 1 / len(layers)


def main() -> None:
    """Prepare the case, then time it whenever a line comes."""
    answers, sys.stdout = sys.stdout, sys.stderr  # peers print
    torch.set_num_threads(GIVEN["threads"])
    case, factor = globals()[sys.argv[1]](**GIVEN)
    for _ in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        case()
        found = {"wall": factor * (time.perf_counter() - wall), "cpu": factor * (time.process_time() - cpu)}
        answers.write(json.dumps(found) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
