"""Time of extraction, from files to features in memory, against the bare forward pass and anomalib.

Run: python benchmarks/extraction.py [--threads N] [--peer-python PATH]. The bare pass is the cut, unfolded graph on tensors
that are there already, in batches of the size that suits it best. Weights are random; they do not change the time.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

from common import Peer, arguments, exponent, in_turn, local, middle, show

OPTIONS = arguments(__doc__)

import numpy as np  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402
from scipy.ndimage import gaussian_filter  # noqa: E402

from adbench.backbones.network import Network  # noqa: E402
from adbench.backbones.weights import resolve  # noqa: E402
from adbench.features.extraction import extract  # noqa: E402

CPU, SIZE = torch.device("cpu"), 256
BATCHES = (1, 4, 8, 32)
SIZES = (128, 192, 256, 384, 512)
CASES = {  # our name and layers, anomalib's, images
    "efficientnet_lite0": (["blocks.2.1.add", "blocks.4.2.add"], "tf_efficientnet_lite0", ["blocks.2", "blocks.4"], 40),
    "wide_resnet50_2": (["layer2.3.relu_2", "layer3.5.relu_2"], "wide_resnet50_2", ["layer2", "layer3"], 12),
}
FILES = {"256 px": (256, 256), "800 x 600": (600, 800), "1024 px": (1024, 1024)}  # PNG


def write_images(folder: Path, count: int, shape: tuple[int, int]) -> list[Path]:
    """Write PNG files of smooth texture with noise, which compress as photographs do."""
    rng, paths = np.random.default_rng(0), []
    for number in range(count):
        texture = gaussian_filter(rng.normal(size=(*shape, 3)), (3, 3, 0))
        pixels = 127 + 40 * texture / texture.std() + rng.normal(0, 3, texture.shape)
        paths.append(folder / f"{number}.png")
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(paths[-1])
    return paths


def bare(network: Network, layers: list[str], pixels: torch.Tensor, batch: int) -> None:
    """Run the cut graph on normalized images."""
    module = network.cut(layers)
    with torch.inference_mode():
        for part in torch.split(pixels, batch):
            module(part)


def whole(network: Network, layers: list[str], paths: list[Path], size: int = SIZE) -> None:
    for _ in extract(network, paths, layers, size, CPU):
        pass


def best(calls: dict[int, object]) -> int:
    """Return the batch size that takes the least time."""
    found = in_turn(calls, 1)
    return min(found, key=lambda batch: middle(found[batch]).cpu)


def compare(name: str, files: str, folder: Path) -> None:
    layers, peer_name, peer_layers, count = CASES[name]
    network = Network(name, resolve(name, "random"))
    paths = write_images(folder, count, FILES[files])
    pixels = torch.randn(count, 3, SIZE, SIZE)
    passes = {batch: local(partial(bare, network, layers, pixels, batch)) for batch in BATCHES}
    batch = best(passes)
    calls = {"ours": local(partial(whole, network, layers, paths)), f"bare forward pass, {batch} at once": passes[batch]}
    peers = {}
    if OPTIONS.peer_python:
        given = {"backbone": peer_name, "layers": peer_layers, "paths": [str(path) for path in paths], "size": SIZE}
        peers = {b: Peer(OPTIONS.peer_python, "extraction", OPTIONS.threads, batch=b, **given) for b in BATCHES}
        batch = best(peers)
        calls[f"anomalib, {batch} at once"] = peers[batch]
    found = in_turn(calls, OPTIONS.repeats)
    show(f"{name}, {count} PNG files of {files}, per image at {SIZE} px:", found, count / 1000, "ms")
    for peer in peers.values():
        peer.close()


def growth(folder: Path) -> None:
    """Print the time of one image over the side of the input, and the power of its pixels that fits."""
    layers, _, _, _ = CASES["efficientnet_lite0"]
    network = Network("efficientnet_lite0", resolve("efficientnet_lite0", "random"))
    paths = write_images(folder, 16, (64, 64))
    calls = {size: local(partial(whole, network, layers, paths, size)) for size in SIZES}
    seconds = [middle(timings).cpu / len(paths) for timings in in_turn(calls, 3).values()]
    print("efficientnet_lite0:", *(f"{size} px {1000 * s:.1f} ms," for size, s in zip(SIZES, seconds, strict=True)), end="")
    print(f" exponent of the pixels {exponent([size**2 for size in SIZES], seconds):.2f}")


if __name__ == "__main__":
    torch.set_num_threads(OPTIONS.threads)
    print(f"{OPTIONS.threads} thread(s)")
    with tempfile.TemporaryDirectory() as name:
        for backbone in CASES:
            for files in FILES:
                compare(backbone, files, Path(name))
        growth(Path(name))
