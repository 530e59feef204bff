"""Time of an epoch of FastFlow against a plain implementation of the same network. Run: python benchmarks/flows.py [THREADS]

The plain one is written here as one reads the method: the channels permuted by a product with a C x C matrix, the factor
0.1 laid on all values of the subnet's output, log-determinants summed over all of the image at each step, the images'
features in memory as float32. Ours reads float16 from a file. Both are trained on the same values, in turn; the ratio of
medians counts. Neither includes a backbone.
"""

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

THREADS = sys.argv[1] if len(sys.argv) > 1 else "1"
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = THREADS  # before numpy and torch read them

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from adbench.detectors.fastflow import FastFlow  # noqa: E402
from adbench.features.feature_maps import FeatureMaps  # noqa: E402

REPEATS, IMAGES, BATCH, CPU = 7, 32, 8, torch.device("cpu")
CASES = ((40, 32), (112, 16), (320, 8), (512, 16))  # (channels, side): EfficientNet-Lite0 at 256 px, ResNet-50's layer 2 at 128


class PlainStep(nn.Module):
    """One coupling, a scale and offset per channel, a permutation; (B, C, h, w) to the same and (B,)."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.half = channels // 2
        kept, pad = channels - self.half, kernel // 2
        self.subnet = nn.Sequential(
            nn.Conv2d(kept, kept, kernel, padding=pad), nn.ReLU(), nn.Conv2d(kept, 2 * self.half, kernel, padding=pad)
        )
        self.raw = nn.Parameter(torch.full((1, channels, 1, 1), 2 * float(np.log(np.expm1(5.0)))))
        self.offset = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.register_buffer("permutation", torch.eye(channels)[torch.randperm(channels)][:, :, None, None])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        kept, moved = x[:, : -self.half], x[:, -self.half :]
        a = 0.1 * self.subnet(kept)
        logs = 2.0 * torch.tanh(a[:, : self.half])
        y = torch.cat([kept, moved * torch.exp(logs) + a[:, self.half :]], dim=1)
        scale = 0.1 * F.softplus(self.raw, beta=0.5)
        cells = x.shape[2] * x.shape[3]
        logdet = logs.sum(dim=(1, 2, 3)) + cells * scale.log().sum()
        return F.conv2d(y * scale + self.offset, self.permutation), logdet


def plain_epoch(steps: nn.ModuleList, optimizer: torch.optim.Optimizer, data: Tensor) -> None:
    for rows in torch.randperm(len(data)).split(BATCH):
        z, total = data[rows], torch.zeros(len(rows))
        for step in steps:
            z, logdet = step(z)
            total = total + logdet
        optimizer.zero_grad()
        (0.5 * z.square().sum(dim=(1, 2, 3)) - total).mean().backward()
        optimizer.step()


def our_epoch(features: FeatureMaps, epochs: int) -> float:
    """Return the seconds of `epochs` epochs, all that `fit` does around them included."""
    start = time.perf_counter()
    FastFlow(epochs=epochs, batch_size=BATCH, min_steps=0).fit(features, device=CPU)
    return time.perf_counter() - start


def compare(channels: int, side: int, folder: Path) -> None:
    draw = np.random.default_rng(0)
    np.save(folder / "maps.npy", draw.normal(size=(IMAGES, channels, side, side)).astype(np.float16))
    features = FeatureMaps((np.load(folder / "maps.npy", mmap_mode="r"),))
    data = torch.from_numpy(np.array(features.layers[0])).float()
    steps = nn.ModuleList(PlainStep(channels, 1 if i % 2 else 3) for i in range(8))
    optimizer = torch.optim.Adam(steps.parameters(), 1e-3, weight_decay=1e-5)
    plain, ours = [], []
    for _ in range(REPEATS + 1):
        start = time.perf_counter()
        plain_epoch(steps, optimizer, data)
        plain.append(time.perf_counter() - start)
        ours.append(our_epoch(features, 2) - our_epoch(features, 1))
    mine, theirs = statistics.median(ours[1:]), statistics.median(plain[1:])
    print(f"{channels:4} x {side:2} x {side:2}: ours {mine:6.3f} s, plain {theirs:6.3f} s, ratio {mine / theirs:.2f}")


if __name__ == "__main__":
    torch.set_num_threads(int(THREADS))
    print(f"{THREADS} thread(s), one epoch of {IMAGES} images in batches of {BATCH}")
    with tempfile.TemporaryDirectory() as folder:
        for case in CASES:
            compare(*case, Path(folder))
