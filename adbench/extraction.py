"""Forward passes: images from disk through the cut graph of a backbone, every asked-for layer at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from adbench.backbones import find
from adbench.images import read_image, resize
from adbench.types import OnStep, ignore_step
from adbench.weights import Weights, load

_BATCH_PIXELS = 16 * 256 * 256  # fixed, so that an image's features never depend on the machine's memory
_AHEAD = 3  # batches decoded while one is in the network


@dataclass(frozen=True)
class Network:
    """A backbone with its weights; the module is built when a forward pass is first needed."""

    backbone: str
    weights: Weights

    @cached_property
    def module(self) -> nn.Module:
        return load(self.backbone, self.weights)

    def cut(self, layers: Sequence[str]) -> nn.Module:
        """Return the frozen graph up to the deepest of `layers`: (B, 3, H, W) to {layer: (B, C, h, w)}."""
        family, _ = find(self.backbone)
        return family.cut(self.module, {layer: layer for layer in layers}).eval().requires_grad_(False)

    def normalise(self, pixels: Tensor) -> Tensor:
        """Return (B, 3, H, W) float32 input from (B, H, W, 3) uint8 pixels, as the weights were trained."""
        mean = torch.tensor(self.weights.mean, device=pixels.device).view(1, -1, 1, 1)
        std = torch.tensor(self.weights.std, device=pixels.device).view(1, -1, 1, 1)
        return (pixels.permute(0, 3, 1, 2).float() / 255 - mean) / std  # channels-last in memory


def batch_size(image_size: int) -> int:
    """Return the images per forward pass: as many pixels as 16 images of 256 x 256."""
    return max(1, _BATCH_PIXELS // image_size**2)


def read_pixels(path: Path, image_size: int) -> NDArray[np.uint8]:
    """Return one image as the network sees it, before normalisation: (image_size, image_size, 3) RGB."""
    return resize(read_image(path), image_size)


def extract(
    network: Network,
    paths: Sequence[Path],
    layers: Sequence[str],
    image_size: int,
    device: torch.device,
    on_step: OnStep = ignore_step,
    read: Callable[[Path, int], NDArray[np.uint8]] = read_pixels,
) -> Iterator[dict[str, NDArray[np.float32]]]:
    """Yield {layer: (B, C, h, w)} for batches of images in order, one forward pass for all layers.

    Images are resized to a square, bilinear and antialiased, without a crop. `read` takes the place of `read_pixels`, for
    a caller who wants more of an image than its features; it runs in threads of this process. Raises what `read` raises:
    DataError for an unreadable image.
    """
    module = network.cut(layers).to(device)
    module = module.to(memory_format=torch.channels_last)
    done = 0
    with torch.inference_mode():
        for pixels in _decoded(paths, image_size, read):
            maps = module(network.normalise(torch.from_numpy(pixels).to(device)))
            yield {layer: maps[layer].float().contiguous().cpu().numpy() for layer in layers}
            done += len(pixels)
            on_step(done, len(paths), f"{network.backbone} at {image_size} px")


def _decoded(
    paths: Sequence[Path], image_size: int, read: Callable[[Path, int], NDArray[np.uint8]]
) -> Iterator[NDArray[np.uint8]]:
    """Yield batches (B, size, size, 3), decoded in threads while the network works."""
    size = batch_size(image_size)
    chunks = [paths[i : i + size] for i in range(0, len(paths), size)]
    with ThreadPoolExecutor(2) as pool:
        waiting: deque[list[Future[NDArray[np.uint8]]]] = deque()
        try:
            for chunk in chunks:
                waiting.append([pool.submit(read, path, image_size) for path in chunk])
                if len(waiting) > _AHEAD:
                    yield np.stack([future.result() for future in waiting.popleft()])
            while waiting:
                yield np.stack([future.result() for future in waiting.popleft()])
        finally:
            pool.shutdown(cancel_futures=True)
