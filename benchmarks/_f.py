"""Time of an epoch of FastFlow and a step of AsymST, float32 and bfloat16. Run: python benchmarks/flows.py --peer-python PATH

FastFlow: one layer's epoch from cached features, against a third of anomalib's epoch on all three layers, with its backbone
(EfficientNet-Lite0 on images in memory), which it runs in each epoch, and without; and against a plain implementation of the
same network, written here as one reads the method: the channels permuted by a product with a C x C matrix, the factor 0.1
laid on all values of the subnet's output, features in memory as float32. anomalib has no EfficientNet-Lite0: its model gets
timm's, with blocks of the right shapes. Its decoding and metrics are not counted. Without --peer-python, it is left out.
AsymST: a batch of 8 images through the training of teacher and student, bfloat16 against float32. All take their turns.
"""

from pathlib import Path

from common import Peer, Timing, arguments, in_turn, local, show, timed

options = arguments(__doc__.partition("\n")[0])

import tempfile  # noqa: E402
from collections.abc import Callable  # noqa: E402

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from adbench.detectors import make_detector  # noqa: E402
from adbench.features.feature_maps import FeatureMaps  # noqa: E402

SIZE, IMAGES, BATCH, CPU = 256, 32, 8, torch.device("cpu")
LAYERS = ((40, 32), (112, 16), (320, 8))  # (channels, side) of EfficientNet-Lite0 at 256 px
STUDENTS = ((112, 16, 64), (256, 32, 256), (112, 16, 1024))  # (channels, side, hidden channels of the student)


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


def plain(channels: int, data: Tensor) -> Callable[[], Timing]:
    steps = nn.ModuleList(PlainStep(channels, 1 if i % 2 else 3) for i in range(8))
    optimizer = torch.optim.Adam(steps.parameters(), 1e-3, weight_decay=1e-5)
    return local(lambda: plain_epoch(steps, optimizer, data))


def ours(name: str, features: FeatureMaps, epochs: int, **params: object) -> Callable[[], Timing]:
    """Return a function that times one epoch: a fit is repeated with `epochs` more, and all that surrounds them is the same."""

    def fit(epochs: int) -> Timing:
        detector = make_detector(name, {"epochs": epochs, "batch_size": BATCH, "min_steps": 0, **params}, 0)
        return timed(lambda: detector.fit(features, device=CPU))

    def call() -> Timing:
        few, many = fit(1), fit(1 + epochs)
        return Timing((many.wall - few.wall) / epochs, (many.cpu - few.cpu) / epochs)

    return call


def made_up(folder: Path, images: int, channels: int, side: int) -> FeatureMaps:
    """Return noise in a file, as the cache holds features."""
    np.save(folder / "maps.npy", np.random.default_rng(0).normal(size=(images, channels, side, side)).astype(np.float16))
    return FeatureMaps((np.load(folder / "maps.npy", mmap_mode="r"),))


def fastflow(folder: Path) -> None:
    given = {"layers": LAYERS, "images": IMAGES, "batch": BATCH, "size": SIZE}
    peers = {}
    if options.peer_python:
        make = {"a third of anomalib's": True, "a third without its backbone": False}
        peers = {
            name: Peer(options.peer_python, "flows", options.threads, backbone=with_it, **given) for name, with_it in make.items()
        }
    for channels, side in LAYERS:
        features = made_up(folder, IMAGES, channels, side)
        calls = {name: ours("fastflow", features, 5, precision=name) for name in ("bfloat16", "float32")}
        calls["plain"] = plain(channels, torch.from_numpy(np.array(features.layers[0])).float())
        found = in_turn(calls | peers, options.repeats, warm=1)  # a process that has waited starts slowly
        show(f"FastFlow, epoch of {IMAGES} images, {channels} x {side} x {side}", found)
    for peer in peers.values():
        peer.close()


def asymst(folder: Path) -> None:
    for channels, side, hidden in STUDENTS:
        features = made_up(folder, BATCH, channels, side)
        calls = {name: ours("asymst", features, 1, precision=name, student_hidden=hidden) for name in ("bfloat16", "float32")}
        show(
            f"AsymST, step of {BATCH} images, {channels} x {side} x {side}, student of {hidden}", in_turn(calls, options.repeats)
        )


if __name__ == "__main__":
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as place:
        fastflow(Path(place))

