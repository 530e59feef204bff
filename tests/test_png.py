"""What the encoder writes, Pillow reads."""

import io

import numpy as np
import pytest
from PIL import Image

from adbench.png import encode


@pytest.mark.parametrize("shape", [(1, 1, 3), (7, 300, 3), (256, 256, 3), (500, 2, 3)])
def test_another_decoder_reads_the_same_pixels(shape: tuple[int, int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    with Image.open(io.BytesIO(encode(pixels))) as image:
        image.load()
        assert (image.format, image.mode) == ("PNG", "RGB")
        assert np.array_equal(np.asarray(image), pixels)


def test_flat_places_cost_nothing() -> None:
    assert len(encode(np.full((512, 512, 3), 200, np.uint8))) < 10_000
