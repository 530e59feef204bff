"""Images at network size: decoded once, never stale, at most as many as fit."""

from pathlib import Path

import numpy as np
import pytest
from conftest import Run, make_category, opened_paths, replace_in_disguise
from PIL import Image
from scipy.ndimage import affine_transform

from adbench.core.errors import DataError
from adbench.data.images import read_image
from adbench.data.pixels import STEPS, PixelMemory, read_pixels, resize, turned


def images_in(opened: list[str]) -> list[str]:
    """Names of the images among opened files."""
    return sorted(Path(path).name for path in opened if path.endswith(".png"))


@pytest.fixture
def image(tmp_path: Path) -> Path:
    Image.fromarray(np.arange(48 * 40 * 3, dtype=np.uint8).reshape(48, 40, 3)).save(tmp_path / "a.png")
    return tmp_path / "a.png"


@pytest.mark.parametrize("size", [(96, 128), (16, 200), (33, 17), (2, 3), (40, 64)])
@pytest.mark.parametrize("side", [8, 40, 65])
def test_a_resized_image_is_rounded_once_to_a_fraction_of_a_gray_level(size: tuple[int, int], side: int) -> None:
    image = np.random.default_rng(side).integers(0, 256, (*size, 3), np.uint8)
    planes = [Image.fromarray(image[..., k].astype(np.float32)) for k in range(3)]
    exact = np.stack([plane.resize((side, side), Image.Resampling.BILINEAR) for plane in planes], axis=2)
    assert np.abs(resize(image, (side, side)) / STEPS - exact).max() < 0.5 / STEPS + 1e-4


def test_stripes_average_out_where_an_image_shrinks() -> None:
    stripes = np.repeat(np.tile(np.uint8([0, 255]), 64)[None, :, None], 96, axis=0).repeat(3, axis=2)
    small = resize(stripes, (16, 16))
    assert small.shape == (16, 16, 3) and small.flags.writeable
    assert np.abs(small / STEPS - 127).max() <= 12


@pytest.mark.parametrize("level", [0, 7, 255])
def test_one_gray_level_stays_exact(level: int) -> None:
    assert (resize(np.full((50, 41, 3), level, np.uint8), (32, 32)) == level * STEPS).all()


def test_an_image_of_the_size_stays_as_it_is() -> None:
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    assert (resize(image, (32, 32)) == image.astype(int) * STEPS).all()
    assert (resize(image[::-1, :, ::-1], (32, 32)) == image[::-1, :, ::-1].astype(int) * STEPS).all()


def test_an_image_may_be_a_view_of_another() -> None:
    strided = np.random.default_rng(0).integers(0, 256, (80, 90, 3), np.uint8)[::2, ::-1]
    assert (resize(strided, (32, 32)) == resize(strided.copy(), (32, 32))).all()


def test_the_check_and_every_pass_share_one_decoding(run: Run, tmp_path: Path) -> None:
    make_category(tmp_path / "once" / "part", 8, train=3, good=2, bad=0)
    command = ("extract", "efficientnet_lite0", "blocks.1.1.add", "--data", tmp_path / "once", "--cache", "c")
    with opened_paths() as opened:
        run(*command, "--image-size", 64)
        first = ["000.png"] * 2  # of each folder, opened once more to see whether adbench has drawn it
        assert images_in(opened) == [*first, "000.png", "000.png", "001.png", "001.png", "002.png"]
        run(*command, "--image-size", 64, "--weights", "random")
    assert len(images_in(opened)) == 7 + len(first)


def test_kept_pixels_equal_those_read(image: Path) -> None:
    memory = PixelMemory(1 << 20)
    memory.keeper([((32, 32), 1.0), ((16, 16), 1.0)])(image, read_image(image))
    with opened_paths() as opened:
        kept = {size: memory.read(image, size) for size in ((32, 32), (16, 16))}
    assert images_in(opened) == []
    for size, pixels in kept.items():
        np.testing.assert_array_equal(pixels, read_pixels(image, size))


def test_a_changed_file_is_read_again(image: Path) -> None:
    memory = PixelMemory(1 << 20)
    memory.read(image, (16, 16))
    Image.new("RGB", (40, 48), "white").save(image)
    assert (memory.read(image, (16, 16)) == 255 * STEPS).all()


def test_a_file_replaced_in_disguise_is_read_again(image: Path) -> None:
    memory, old = PixelMemory(1 << 20), image.read_bytes()
    memory.read(image, (16, 16))
    Image.new("RGB", (40, 48), "white").save(image)
    new = image.read_bytes().ljust(len(old), b"\0")
    image.write_bytes(old)
    memory.read(image, (16, 16))
    replace_in_disguise(image, new)
    assert (memory.read(image, (16, 16)) == 255 * STEPS).all()


def test_no_more_is_kept_than_fits(image: Path) -> None:
    memory = PixelMemory(6 * 16**2)
    with opened_paths() as opened:
        for size in ((16, 16), (16, 16), (8, 8), (8, 8)):
            memory.read(image, size)
    assert len(images_in(opened)) == 3


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^cannot read image .*gone\.png: No such file or directory; replace or remove it$"):
        PixelMemory(1 << 20).read(tmp_path / "gone.png", (16, 16))


@pytest.mark.parametrize("shape", [(40, 40), (31, 31)])
def test_right_angles_turn_pixels_into_pixels(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)
    for quarter in range(4):
        np.testing.assert_array_equal(turned(image, 90 * quarter), np.rot90(image, quarter))


def test_other_angles_are_bilinear_with_mirrored_borders() -> None:
    image = np.random.default_rng(0).integers(0, 256, (30, 50, 3)).astype(np.uint8)
    cosine, sine = np.cos(np.radians(30)), np.sin(np.radians(30))
    turn, center = np.array([[cosine, sine], [-sine, cosine]]), np.array([14.5, 24.5])
    planes = [
        affine_transform(image[..., k].astype(float), turn, center - turn @ center, order=1, mode="mirror") for k in range(3)
    ]
    np.testing.assert_allclose(turned(image, 30), np.stack(planes, axis=-1), atol=0.55)  # rounded to gray levels
