"""Time of scoring one image with PatchCore, features given, against a plain distance matrix and anomalib.

Run: python benchmarks/scoring.py [--threads N] [--peer-python PATH]. The bank has a tenth of 40 images' patches. Ours and
anomalib's include the image score and the smoothed map at 256 px.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

from common import Peer, arguments, exponent, in_turn, local, middle, peak_flops, show

OPTIONS = arguments(__doc__)

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from adbench.anomaly_maps import upsample  # noqa: E402
from adbench.detectors.patchcore import PatchCore  # noqa: E402
from adbench.feature_maps import FeatureMaps  # noqa: E402

CPU, GRID = torch.device("cpu"), 256
CASES = {  # channels and cells of each layer at 256 px
    "efficientnet_lite0, strides 8 and 16": {"blocks.2": (40, 32), "blocks.4": (112, 16)},
    "wide_resnet50_2, strides 8 and 16": {"layer2": (512, 32), "layer3": (1024, 16)},
}
ROWS, SIZES = 4096, (2048, 4096, 8192, 16_384, 32_768)


def fitted(rows: int, channels: int) -> PatchCore:
    draw = np.random.default_rng(1)
    return PatchCore().load_state_dict(
        {"bank": torch.from_numpy(draw.normal(size=(rows, channels)).astype(np.float32))}
    )


def ours(detector: PatchCore, features: FeatureMaps) -> None:
    scores = detector.score(features, device=CPU)
    upsample(scores.maps, GRID, [(GRID, GRID)], detector.smoothing)


def plain(bank: torch.Tensor, layers: list[torch.Tensor]) -> None:
    """Take the minima of the whole distance matrix; no score, no map."""
    pooled = [F.avg_pool2d(layer, 3, 1, 1) for layer in layers]
    joined = torch.cat([F.interpolate(layer, pooled[0].shape[-2:], mode="bilinear") for layer in pooled], 1)
    torch.cdist(joined.permute(0, 2, 3, 1).flatten(0, 2), bank).min(1)


def compare(name: str, folder: Path) -> None:
    draw = np.random.default_rng(0)
    arrays = {k: draw.normal(size=(1, c, side, side)).astype(np.float32) for k, (c, side) in CASES[name].items()}
    channels = sum(array.shape[1] for array in arrays.values())
    detector, features = fitted(ROWS, channels), FeatureMaps(tuple(arrays.values()))
    bank, layers = torch.from_numpy(detector.bank_), [torch.from_numpy(array) for array in arrays.values()]
    calls = {
        "ours": local(partial(ours, detector, features)),
        "plain distance matrix": local(partial(plain, bank, layers)),
    }
    if OPTIONS.peer_python:
        np.savez(folder / "features.npz", **arrays)
        np.save(folder / "bank.npy", detector.bank_)
        given = {"features": str(folder / "features.npz"), "bank": str(folder / "bank.npy"), "layers": list(arrays)}
        calls["anomalib"] = Peer(OPTIONS.peer_python, "scoring", OPTIONS.threads, size=GRID, **given)
    found = in_turn(calls, 4 * OPTIONS.repeats)
    show(f"{name}: one image against {ROWS:,} patches of {channels} channels", found, 1e-3, "ms")
    patches = max(side for _, side in CASES[name].values()) ** 2
    limit = 2 * patches * ROWS * channels / peak_flops(dim=channels)
    print(f"  its matrix product at peak speed: {1000 * limit:.1f} ms, {limit / middle(found['ours']).cpu:.2f} of ours")


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
        for case in CASES:
            compare(case, Path(folder))
    growth()
