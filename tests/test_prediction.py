"""Scores of new images: streamed, each independent of the others, in spite of damaged ones."""

from pathlib import Path

import numpy as np
import pytest
import torch

from adbench.extraction import Network, extract, read_pixels
from adbench.weights import resolve

LAYER = "blocks.1.1.add"


@pytest.fixture(scope="module")
def network() -> Network:
    return Network("efficientnet_lite0", resolve("efficientnet_lite0", "imagenet"))


def test_a_caller_may_read_images_its_own_way(network: Network, parts: Path) -> None:
    paths = sorted((parts / "alpha/train/good").glob("*.png"))[:3]
    seen = {}

    def read(path: Path, size: int) -> np.ndarray:
        seen[path] = size
        return read_pixels(paths[0], size)

    (batch,) = extract(network, paths, [LAYER], 64, torch.device("cpu"), read=read)
    assert seen == dict.fromkeys(paths, 64)
    assert batch[LAYER].shape == (3, 24, 16, 16)
    assert np.array_equal(batch[LAYER][0], batch[LAYER][2])
