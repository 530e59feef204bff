"""Time of a pass through a transformer's blocks, from images in memory to maps on the host, against timm alone.

Run: python benchmarks/transformers.py [--threads N] [--repeats N]. timm's side is `forward_intermediates` on normalized images,
for the same blocks, in batches of the same size, stopped behind the deepest one. Weights are random; they do not change the time.
"""

from __future__ import annotations

from functools import partial

from common import arguments, in_turn, local, show

OPTIONS = arguments(__doc__)

import numpy as np  # noqa: E402
import torch  # noqa: E402

from adbench.backbones.network import Network  # noqa: E402
from adbench.backbones.weights import resolve  # noqa: E402
from adbench.data.pixels import STEPS  # noqa: E402
from adbench.features.extraction import batch_size, launched, stacked  # noqa: E402
from adbench.features.graph_optimization import inference_module  # noqa: E402

CPU = torch.device("cpu")
CASES = {  # backbone: size in pixels, blocks or stages, images
    "vit_small_patch14_dinov2": (252, [2, 5, 8], 8),
    "vit_base_patch16_224": (224, [5, 8], 4),
    "vit_small_patch16_dinov3": (256, [5, 11], 8),
    "swin_tiny_patch4_window7_224": (224, [1, 2], 8),
}


def ours(network: Network, module: torch.nn.Module, pixels: list[np.ndarray], batch: int) -> None:
    """Normalize images, run the network up to the deepest layer, and copy the maps to the host."""
    for start in range(0, len(pixels), batch):
        launched(network, module, CPU, torch.float32, False, stacked(pixels[start : start + batch]))()


def timms(module: torch.nn.Module, images: torch.Tensor, indices: list[int], batch: int) -> None:
    """Run timm's own pass on normalized images."""
    with torch.inference_mode():
        for part in torch.split(images, batch):
            module.forward_intermediates(part, indices=indices, intermediates_only=True, stop_early=True)


def compare(name: str, size: int, indices: list[int], count: int) -> None:
    network = Network(name, resolve(name, "random"))
    kind = "layers" if name.startswith("swin") else "blocks"
    module = inference_module(network, [f"{kind}.{i}" for i in indices], (size, size), CPU, torch.float32)
    batch = batch_size(count, size, CPU)
    pixels = list(np.random.default_rng(0).integers(0, 255 * STEPS, (count, size, size, 3), np.int16))
    images = network.normalize(stacked(pixels)).contiguous()
    calls = {
        "ours": local(partial(ours, network, module, pixels, batch)),
        "timm's forward_intermediates": local(partial(timms, network.at((size, size)), images, indices, batch)),
    }
    show(f"{name}, {kind} {indices}, per image at {size} px:", in_turn(calls, OPTIONS.repeats), count / 1000, "ms")


if __name__ == "__main__":
    torch.set_num_threads(OPTIONS.threads)
    print(f"{OPTIONS.threads} thread(s)")
    for backbone, case in CASES.items():
        compare(backbone, *case)
