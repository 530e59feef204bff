"""Time of scoring one image with PatchCore, features given, against a plain distance matrix and anomalib.

Run: python benchmarks/scoring.py [--threads N] [--peer-python PATH] [--data CATEGORY_FOLDER]. The features are those of the
generated parts, of the images of a folder in MVTec's layout, and, as the worst case, of noise, where no row of the bank
can be ruled out. The bank is a coreset of a tenth of 40 images' patches. Ours and anomalib's include the image score and
the smoothed map at 256 px.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

from common import Peer, arguments, exponent, in_turn, local, middle, peak_flops, show

OPTIONS = arguments(__doc__)

import numpy as np  # noqa: E402
import torch  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from PIL import Image  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from adbench.backbones.network import Network  # noqa: E402
from adbench.backbones.weights import resolve  # noqa: E402
from adbench.data.layouts.demo import draw  # noqa: E402
from adbench.detectors.patchcore import PatchCore  # noqa: E402
from adbench.features.anomaly_maps import upsample  # noqa: E402
from adbench.features.extraction import extract  # noqa: E402
from adbench.features.feature_maps import FeatureMaps  # noqa: E402

CPU, GRID, IMAGES = torch.device("cpu"), 256, 40
NETWORKS = {  # weights; layers of stride 8 and 16; their channels and cells at 256 px
    "efficientnet_lite0": ("imagenet", {"blocks.2.1.add": (40, 32), "blocks.4.2.add": (112, 16)}),
    "wide_resnet50_2": ("random", {"layer2.3.relu_2": (512, 32), "layer3.5.relu_2": (1024, 16)}),
}
DRAWN = {"fabric": "hole", "nut": "scratch"}  # generated parts, and the defect of the image that is scored
ROWS, SIZES = 4096, (2048, 4096, 8192, 16_384, 32_768)

Layers = dict[str, NDArray[np.float32]]


def fitted(rows: int, channels: int) -> PatchCore:
    values = np.random.default_rng(1).normal(size=(rows, channels)).astype(np.float32)
    return PatchCore().load_state_dict({"bank": torch.from_numpy(values)})


def noise(network: str) -> tuple[PatchCore, Layers]:
    """Return a bank and one image's features without any structure."""
    shapes, rng = NETWORKS[network][1], np.random.default_rng(0)
    image = {k: rng.normal(size=(1, c, side, side)).astype(np.float32) for k, (c, side) in shapes.items()}
    return fitted(ROWS, sum(c for c, _ in shapes.values())), image


def drawn(category: str, folder: Path) -> list[Path]:
    """Write generated good images and, at the end, a defective one."""
    paths = []
    for number in range(IMAGES + 1):
        kind = DRAWN[category] if number == IMAGES else "good"
        paths.append(folder / f"{category}{number}.png")
        Image.fromarray(draw(category, "test" if number == IMAGES else "train", kind, number)[0]).save(paths[-1])
    return paths


def found(folder: Path) -> list[Path]:
    """Return training images of a folder in MVTec's layout and, at the end, the last test image."""
    last = [path for path in sorted((folder / "test").glob("*/*")) if path.parent.name != "good"][-1]
    return [*sorted((folder / "train" / "good").iterdir())[:IMAGES], last]


def of_images(network: str, paths: list[Path]) -> tuple[PatchCore, Layers]:
    """Return a detector fitted to all images but the last, and the last one's features."""
    weights, shapes = NETWORKS[network]
    whole: dict[str, list[NDArray[np.generic]]] = {layer: [] for layer in shapes}
    for maps in extract(Network(network, resolve(network, weights)), paths, list(shapes), GRID, CPU):
        for layer, values in maps.items():
            whole[layer].append(np.array(values))
    arrays = {layer: np.concatenate(values).astype(np.float32) for layer, values in whole.items()}
    detector = PatchCore().fit(FeatureMaps(tuple(a[:-1] for a in arrays.values())), device=CPU)
    return detector, {layer: array[-1:] for layer, array in arrays.items()}


def ours(detector: PatchCore, features: FeatureMaps) -> None:
    scores = detector.score(features, device=CPU)
    upsample(scores.maps, GRID, [(GRID, GRID)], detector.smoothing)


def plain(bank: torch.Tensor, layers: list[torch.Tensor]) -> None:
    """Take the minima of the whole distance matrix; no score, no map."""
    pooled = [F.avg_pool2d(layer, 3, 1, 1) for layer in layers]
    joined = torch.cat([F.interpolate(layer, pooled[0].shape[-2:], mode="bilinear") for layer in pooled], 1)
    torch.cdist(joined.permute(0, 2, 3, 1).flatten(0, 2), bank).min(1)


def compare(name: str, detector: PatchCore, arrays: Layers, folder: Path) -> None:
    features = FeatureMaps(tuple(arrays.values()))
    (rows, channels), patches = detector.bank_.shape, max(a.shape[2] * a.shape[3] for a in arrays.values())
    bank, layers = torch.from_numpy(detector.bank_), [torch.from_numpy(array) for array in arrays.values()]
    calls = {"ours": local(partial(ours, detector, features)), "plain distance matrix": local(partial(plain, bank, layers))}
    peers = {}
    if OPTIONS.peer_python:
        np.savez(folder / "features.npz", **arrays)
        np.save(folder / "bank.npy", detector.bank_)
        given = {"features": str(folder / "features.npz"), "bank": str(folder / "bank.npy")}
        peers["anomalib"] = Peer(OPTIONS.peer_python, "scoring", OPTIONS.threads, size=GRID, layers=list(arrays), **given)
    timings = in_turn(calls | peers, 4 * OPTIONS.repeats)
    show(f"{name}: one image against {rows:,} patches of {channels} channels", timings, 1e-3, "ms")
    limit = 2 * patches * rows * channels / peak_flops(dim=channels)
    print(f"  the whole matrix product at peak: {1000 * limit:.1f} ms, {limit / middle(timings['ours']).cpu:.2f} of ours")
    for peer in peers.values():
        peer.close()


def growth() -> None:
    """Print the exponent of the bank's rows."""
    features = FeatureMaps((np.random.default_rng(0).normal(size=(1, 152, 32, 32)).astype(np.float32),))
    calls = {rows: local(partial(ours, fitted(rows, 152), features)) for rows in SIZES}
    seconds = [middle(timings).cpu for timings in in_turn(calls, 2 * OPTIONS.repeats).values()]
    print(*(f"{rows:,} patches {1000 * s:.1f} ms," for rows, s in zip(SIZES, seconds, strict=True)), end="")
    print(f" exponent {exponent(SIZES, seconds):.2f}")


if __name__ == "__main__":
    torch.set_num_threads(OPTIONS.threads)
    print(f"{OPTIONS.threads} thread(s)")
    with tempfile.TemporaryDirectory() as folder:
        for network in NETWORKS:
            sources = {category: drawn(category, Path(folder)) for category in DRAWN}
            if OPTIONS.data:
                sources[OPTIONS.data.name] = found(OPTIONS.data)
            for source, paths in sources.items():
                compare(f"{network}, {source}", *of_images(network, paths), Path(folder))
            compare(f"{network}, noise", *noise(network), Path(folder))
    growth()
