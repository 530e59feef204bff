import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from adbench.features.anomaly_maps import _product, resize_maps, upsample
from adbench.metrics.support.labels import lost_components, resize_mask


def by_libraries(maps, size, sigma):
    """Return what torch's interpolation and scipy's filter make of the maps, one after the other."""
    maps = torch.from_numpy(maps.astype(np.float64))[:, None]
    large = torch.nn.functional.interpolate(maps, size, mode="bilinear", align_corners=False)
    sigmas = sigma * size[0] / 256, sigma * size[1] / 256
    return np.stack([gaussian_filter(m, sigmas, mode="reflect", truncate=4.0) for m in large[:, 0].numpy()])


@pytest.mark.parametrize("sigma", [0.0, 1.0, 4.0])
@pytest.mark.parametrize(("grid", "size"), [
    ((28, 28), (256, 256)), ((7, 7), (256, 256)), ((1, 1), (32, 32)), ((14, 9), (100, 230)), ((56, 56), (56, 56)),
    ((64, 48), (40, 21)), ((5, 8), (900, 512)),
])  # fmt: skip
def test_resize_equals_torch_and_scipy(grid, size, sigma):
    maps = np.random.default_rng(0).standard_normal((2, *grid)).astype(np.float32)
    resized = resize_maps(maps, size, sigma)
    assert resized.dtype == np.float32
    assert np.allclose(resized, by_libraries(maps, size, sigma), atol=1e-5)


def test_constant_maps_stay_constant():
    assert np.allclose(resize_maps(np.full((1, 9, 9), 300, np.float32), (256, 256), 4.0), 300, rtol=1e-6)


def test_one_impulse_by_hand():
    maps = np.array([[[0, 4]]], dtype=np.float32)
    assert resize_maps(maps, (1, 4), 0.0).tolist() == [[[0, 1, 3, 4]]]


def test_an_image_does_not_depend_on_its_neighbours():
    maps = np.random.default_rng(0).standard_normal((5, 28, 28)).astype(np.float32)
    assert np.array_equal(resize_maps(maps, (256, 256), 4.0)[3], resize_maps(maps[3:4], (256, 256), 4.0)[0])


@pytest.mark.parametrize(("inner", "height", "width"), [(16, 256, 256), (33, 65, 91), (64, 256, 256), (300, 7, 555)])
def test_a_product_in_blocks_is_the_product(inner, height, width):
    rng = np.random.default_rng(0)
    left = rng.normal(size=(height, inner)).astype(np.float32)
    right = rng.normal(size=(3, inner, width)).astype(np.float32)
    np.testing.assert_allclose(_product(left, right), np.matmul(left, right), rtol=0, atol=1e-4)
    np.testing.assert_allclose(
        _product(right.transpose(0, 2, 1), left.T), np.matmul(left, right).transpose(0, 2, 1), rtol=0, atol=1e-4
    )


def test_upsample_to_one_grid():
    maps = np.random.default_rng(0).standard_normal((2, 7, 7)).astype(np.float32)
    assert np.array_equal(upsample(maps, 64, [], sigma=4.0), resize_maps(maps, (64, 64), 4.0))


def test_upsample_to_native_sizes():
    maps = np.random.default_rng(0).standard_normal((2, 7, 7)).astype(np.float32)
    native = upsample(maps, "native", [(30, 40), (50, 20)], sigma=4.0)
    assert [m.shape for m in native] == [(30, 40), (50, 20)]
    assert np.array_equal(native[1], resize_maps(maps[1:], (50, 20), 4.0)[0])


@pytest.mark.parametrize("height", [1, 2, 31, 256, 700, 900, 1024])
def test_masks_resize_as_pillow(height):
    mask = np.random.default_rng(0).random((height, 77)) < 0.5
    for size in ((256, 256), (224, 320), (3, 1), (1000, 77)):
        pillow = Image.fromarray(mask.astype(np.uint8)).resize(size[::-1], Image.Resampling.NEAREST)
        assert np.array_equal(resize_mask(mask, size), np.asarray(pillow, dtype=bool))


def test_corners_connect():
    assert lost_components(np.eye(4, dtype=bool), (4, 4)) == (0, 1)
    assert lost_components(np.array([[1, 0, 1], [0, 0, 0], [1, 0, 1]], dtype=bool), (3, 3)) == (0, 4)
    assert lost_components(np.zeros((4, 4), bool), (4, 4)) == (0, 0)


def test_lost_components_are_counted():
    mask = np.zeros((8, 8), dtype=bool)
    mask[0, 0] = mask[1, 4] = mask[4:, 4:] = True
    assert resize_mask(mask, (4, 4)).sum() == 4  # rows and columns 1, 3, 5, 7 stay
    assert lost_components(mask, (4, 4))[0] == 2
    assert lost_components(mask, (8, 8))[0] == 0


def test_import_is_light():
    code = "import sys, adbench.features.anomaly_maps; print([m for m in ('torch', 'scipy') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
