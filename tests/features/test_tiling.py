"""Views and tiles: sizes as a user writes them, where tiles lie, and that joined maps are those of the tiles and of the image."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from adbench.backbones.layers import Description, describe
from adbench.backbones.weights import resolve
from adbench.core.errors import UsageError
from adbench.data.pixels import read_pixels
from adbench.features.extraction import Network, extract
from adbench.features.tiling import Axis, Tiling
from adbench.features.view import View, parse_image_size

CPU = torch.device("cpu")
STEM, DEEP = "conv_stem", "blocks.2.1.add"
SIZE = 102, 150  # of the images: no multiples of the strides of deep layers


@pytest.fixture(scope="module")
def network() -> Network:
    return Network("efficientnet_lite0", resolve("efficientnet_lite0", "random"))


@pytest.fixture(scope="module")
def description(cache: Path) -> Description:
    return describe("efficientnet_lite0", cache / "backbones")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    paths = [folder / f"{index}.png" for index in range(3)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (*SIZE, 3), np.uint8)).save(path)
    return paths


def features(network: Network, images: list[Path], tiling: Tiling, half: bool = False) -> dict[str, np.ndarray]:
    batches = list(extract(network, images, [STEM, DEEP], tiling, CPU, half=half))
    return {layer: np.concatenate([batch[layer] for batch in batches]) for layer in batches[0]}


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (256, 256), ("256", 256), ("256x256", 256), ("512 X 1240", "512x1240"), ("native", "native"), ("Native/2", "native/2"),
        ("native/1", "native"), ("native/2.50", "native/2.5"),
    ],
)  # fmt: skip
def test_a_size_has_one_form(text: str | int, size: int | str) -> None:
    assert parse_image_size(text) == size


@pytest.mark.parametrize("text", ["0x256", "16", "5000", "256x", "native/0", "native/0.5", "natif", "-1", "256x99999", ""])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match=text.lower() if text.isalnum() else None):
        parse_image_size(text)


def test_a_native_view_has_the_size_of_the_images() -> None:
    assert View("native/2", 64).at((200, 300)) == View("100x150", 64)
    assert View("native").at((200, 200)) == View(200)
    assert View(256, 256, 0.5).at((1, 1)) == View(256)  # a tile as large as the image is none
    assert View("native", 300).at((200, 300)) == View("200x300")


@pytest.mark.parametrize(
    ("view", "message"),
    [
        (View(128, 256), "tile 256 is larger than the image, 128 x 128 px; take a smaller tile, or a larger image size"),
        (View("native/8"), "image size native/8 is 13 x 19 px; take at least 32 px a side"),
        (View("native", 100), "tile 100 does not fit efficientnet_lite0; take 96 or 128"),
        (
            View("native", 64, 0.75),
            "overlap 0.75 of tiles of 64 px: those of efficientnet_lite0 begin at multiples of 32 px; take an overlap up to 0.5, "
            "or a larger tile",
        ),
    ],
)
def test_views_that_no_network_can_see(view: View, message: str, description: Description) -> None:
    with pytest.raises(UsageError) as error:
        Tiling.of(view, SIZE, description)
    assert str(error.value) == message


@pytest.mark.parametrize("length", [64, 65, 96, 200, 1240, 4096])
@pytest.mark.parametrize("overlap", [0, 0.25, 0.5])
def test_tiles_cover_the_image_and_each_cell_has_one(length: int, overlap: float) -> None:
    axis = Axis.of(length, 64, overlap, 32)
    assert axis.starts[0] == 0 and length <= axis.padded < length + 32
    assert all(0 < b - a <= 64 * (1 - overlap) for a, b in zip(axis.starts, axis.starts[1:], strict=False))
    for cells in (32, 8, 2):
        stride, found = 64 // cells, []
        for start, (whole, own) in zip(axis.starts, axis.shares(cells), strict=True):
            found += range(whole.start, whole.stop)
            assert (own.start + start // stride, own.stop - own.start) == (whole.start, whole.stop - whole.start)
            for cell in range(whole.start, whole.stop):
                center = (cell + 0.5) * stride
                away = [abs(other + 32 - center) for other in axis.starts]
                assert abs(start + 32 - center) == min(away)
        assert found == list(range(axis.count(cells))) and abs(len(found) * stride - length) <= stride


def test_a_small_field_sees_no_tiles(network: Network, description: Description, images: list[Path]) -> None:
    tiling = Tiling.of(View("native", 64, 0.5), SIZE, description)
    whole = features(network, images, Tiling.of(View("native"), SIZE, description))[STEM]
    tiled = features(network, images, tiling)[STEM]
    assert tiling.count == 12 and tiled.shape == (3, 32, 51, 75)
    np.testing.assert_allclose(tiled[..., :-1, :-1], whole[..., :-1, :-1], atol=1e-5)


def test_joined_maps_are_those_of_the_tiles_alone(
    network: Network, description: Description, images: list[Path], tmp_path: Path
) -> None:
    tiling = Tiling.of(View("native", 64, 0.5), SIZE, description)
    tiled, pixels = features(network, images[:1], tiling)[DEEP][0], read_pixels(images[0], SIZE)
    shares = [(row, column) for row in tiling.rows.shares(8) for column in tiling.columns.shares(8)]
    for (row, column), tile in zip(shares, tiling.cut(pixels), strict=True):
        part = network.cut([DEEP])(network.normalize(torch.from_numpy(tile.copy())[None]))[DEEP][0].numpy()
        np.testing.assert_allclose(tiled[:, row[0], column[0]], part[:, row[1], column[1]], rtol=1e-4, atol=1e-4)
    assert tiled.shape == (40, 13, 19)


def test_tiles_of_several_images_share_a_pass_and_change_no_bit(
    network: Network, description: Description, images: list[Path]
) -> None:
    tiling = Tiling.of(View("native", 64), SIZE, description)
    together, alone = features(network, images, tiling), features(network, images[1:2], tiling)
    np.testing.assert_array_equal(together[DEEP][1:2], alone[DEEP])
    half = features(network, images, tiling, half=True)[DEEP]
    assert half.dtype == np.float16 and (half == together[DEEP].astype(np.float16)).all()


def test_a_transformer_sees_a_padded_image_whose_map_is_cut_back(cache: Path, images: list[Path]) -> None:
    network = Network("test_vit", resolve("test_vit", "random"))
    tiling = Tiling.of(View("native"), SIZE, describe("test_vit", cache / "backbones"), cache / "backbones")
    (maps,) = extract(network, images[:1], ["blocks.3"], tiling, CPU)
    assert tiling.inputs == (112, 160) and maps["blocks.3"].shape[2:] == (6, 9)
    (tile,) = tiling.cut(read_pixels(images[0], SIZE))
    np.testing.assert_array_equal(tile[SIZE[0] :, : SIZE[1]], tile[SIZE[0] - 1 : SIZE[0] - 11 : -1, : SIZE[1]])
