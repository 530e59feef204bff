"""Images at network size: decoded once, as they are now, as many as fit."""

from pathlib import Path

import numpy as np
import pytest
from conftest import Run, make_category
from PIL import Image

from adbench import images
from adbench.errors import DataError
from adbench.pixels import PixelMemory, read_pixels


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are decoded from now on."""
    names: list[str] = []
    decode = images._decoded
    monkeypatch.setattr(images, "_decoded", lambda path, data: (names.append(path.name), decode(path, data))[1])
    return names


@pytest.fixture
def image(tmp_path: Path) -> Path:
    Image.fromarray(np.arange(48 * 40 * 3, dtype=np.uint8).reshape(48, 40, 3)).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def test_the_check_and_every_pass_share_one_decoding(run: Run, tmp_path: Path, decoded: list[str]) -> None:
    make_category(tmp_path / "once" / "part", 8, train=3, good=2, bad=0)
    command = ("extract", "efficientnet_lite0", "blocks.1.1.add", "--data", tmp_path / "once", "--cache", "c")
    run(*command, "--image-size", 64)
    assert sorted(decoded) == ["000.png", "000.png", "001.png", "001.png", "002.png"]
    run(*command, "--image-size", 64, "--weights", "random")
    assert len(decoded) == 5


def test_what_is_kept_is_what_is_read(image: Path, decoded: list[str]) -> None:
    memory = PixelMemory(1 << 20)
    memory.keeper([32, 16])(image, images.read_image(image))
    kept = {size: memory.read(image, size) for size in (32, 16)}
    assert len(decoded) == 1
    for size, pixels in kept.items():
        np.testing.assert_array_equal(pixels, read_pixels(image, size))


def test_a_changed_file_is_read_again(image: Path) -> None:
    memory = PixelMemory(1 << 20)
    memory.read(image, 16)
    Image.new("RGB", (40, 48), "white").save(image)
    assert (memory.read(image, 16) == 255).all()


def test_no_more_is_kept_than_fits(image: Path, decoded: list[str]) -> None:
    memory = PixelMemory(3 * 16**2)
    for size in (16, 16, 8, 8):
        memory.read(image, size)
    assert len(decoded) == 3


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"^cannot read image .*gone\.png: No such file or directory; replace or remove it$"
    ):
        PixelMemory(1 << 20).read(tmp_path / "gone.png", 16)
