"""The preset patchcore-official against the official pipeline, rebuilt step by step from its description.

benchmarks/official_patchcore.py compares it with the authors' own code.
"""

from pathlib import Path

import faiss
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn
from torch.nn import functional as F

from adbench.backbones.network import Network
from adbench.backbones.weights import resolve
from adbench.features.anomaly_maps import upsample
from adbench.features.view import View
from adbench.models.files import load_model
from adbench.models.prediction import Scorer
from adbench.models.training import TrainingRequest, train_model
from adbench.sweep.spec import parse, preset_text
from adbench.sweep.workspace import Workspace

Found = tuple[NDArray[np.float32], NDArray[np.float32]]  # image scores (N,), maps (N, 224, 224)
MEAN, STD = (torch.tensor(values).view(3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
LAYERS = ("layer2", "layer3")


def official_input(path: Path) -> Tensor:
    """Resize the shorter side to 256, crop the middle 224 x 224, normalize."""
    image = Image.open(path).convert("RGB")
    scale = 256 / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BILINEAR)
    left, top = round((image.width - 224) / 2), round((image.height - 224) / 2)
    pixels = np.asarray(image.crop((left, top, left + 224, top + 224)), np.float32) / 255
    return (torch.from_numpy(pixels).permute(2, 0, 1) - MEAN) / STD


def official_patches(network: nn.Module, images: Tensor) -> Tensor:
    """(N, 3, 224, 224) to (N, 784, 1024): neighborhoods, resized to the first layer's grid, pooled, joined, pooled again."""
    maps: list[Tensor] = []
    hooks = [getattr(network, layer).register_forward_hook(lambda *given: maps.append(given[2])) for layer in LAYERS]
    with torch.no_grad():
        network(images)
    for hook in hooks:
        hook.remove()
    size, pooled = maps[0].shape[2:], []
    for layer in maps:
        around = F.unfold(layer, 3, padding=1).view(len(images), -1, *layer.shape[2:])
        around = F.interpolate(around, size, mode="bilinear", align_corners=False)
        pooled.append(F.adaptive_avg_pool1d(around.flatten(2).transpose(1, 2), 1024))
    return F.adaptive_avg_pool1d(torch.cat(pooled, 2), 1024)


def official(network: nn.Module, train: list[Path], test: list[Path]) -> Found:
    """The scores with all patches in the bank, so that no random draw is compared."""
    bank, queries = (official_patches(network, torch.stack(list(map(official_input, paths)))) for paths in (train, test))
    index = faiss.IndexFlatL2(1024)
    index.add(bank.flatten(0, 1).numpy())
    distances, _ = index.search(queries.flatten(0, 1).numpy(), 1)  # squared
    grid = torch.from_numpy(distances).view(len(test), 1, 28, 28)
    fine = F.interpolate(grid, (224, 224), mode="bilinear", align_corners=False)[:, 0].numpy()
    return grid.amax((1, 2, 3)).numpy(), np.stack([gaussian_filter(one, sigma=4) for one in fine])


def ours(backbone: str, data: Path, cache: Path, test: list[Path], dtype: str) -> Found:
    spec = parse(preset_text("patchcore-official"))
    (detector,), (size,) = spec.detectors, spec.image_sizes
    assert (spec.dtype, spec.eval_size, detector.name) == ("float32", 224, "patchcore")
    workspace = Workspace(str(data), cache, ("part",), "cpu")
    choices = TrainingRequest("patchcore", backbone, "+".join(LAYERS), "random", View(size, crop=spec.crop), 224, dtype)
    model = cache / f"{dtype}.safetensors"
    train_model(workspace, choices, detector.params | {"coreset_fraction": 1.0}, model)
    scorer = Scorer.of(load_model(model), model, workspace)
    scores = list(scorer.score(test))
    maps = np.concatenate([np.asarray(batch.maps) for batch in scores])
    return np.concatenate([batch.image for batch in scores]), np.asarray(upsample(maps, 224, [], scorer.detector.smoothing))


def differences(backbone: str, folder: Path, train: list[Path], test: list[Path], dtype: str) -> tuple[float, float]:
    """Return the largest difference of an image score and of a map's pixel, as shares of the largest value."""
    network = Network(backbone, resolve(backbone, "random")).module
    image, maps = official(network, train, test)
    own_image, own_maps = ours(backbone, folder, folder / "cache", test, dtype)
    return float(abs(own_image - image).max() / image.max()), float(abs(own_maps - maps).max() / maps.max())


def write(folder: Path, count: int, side: int, seed: int = 0) -> list[Path]:
    """Write images whose shorter side has `side` px: 256 are not resized, 320 are (their middle square has 280 px)."""
    rng, paths = np.random.default_rng(seed), []
    for index in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (10, 12, 3), np.uint8))
        paths.append(folder / "part" / "train" / "good" / f"{index}.png")
        paths[-1].parent.mkdir(parents=True, exist_ok=True)
        coarse.resize((side * 5 // 4, side), Image.Resampling.BICUBIC).save(paths[-1])
    return paths


@pytest.mark.parametrize(
    ("side", "share"),
    [(256, 1e-5), (320, 5e-3)],  # resized pixels are whole gray levels there, and fractions of them here
)
def test_the_maps_agree_with_the_official_pipeline(tmp_path: Path, side: int, share: float) -> None:
    train, new = write(tmp_path, 2, side), write(tmp_path / "new", 2, side, seed=1)
    for difference in differences("resnet18", tmp_path, train, new, "float32"):
        assert difference < share
