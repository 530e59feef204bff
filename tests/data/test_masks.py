"""What counts as defective in a mask: class numbers, soft edges, lossy compression, alpha; what cannot be told is refused."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import write_deep_png
from PIL import Image
from scipy.ndimage import gaussian_filter

from adbench.core.errors import DataError
from adbench.data.images import Decoded, decode_mask, read_mask

DISK = np.hypot(*(np.mgrid[:96, :96] - 47.5)) < 24
WHITE = DISK.astype(np.uint8) * 255
SOFT = gaussian_filter(WHITE.astype(np.float32), 3)
NONE = np.zeros_like(DISK)
Save = Callable[..., Path]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    def save(image: Image.Image | np.ndarray, name: str = "a.png", **options: object) -> Path:
        image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
        image.save(tmp_path / name, **options)
        return tmp_path / name

    return save


def layers(color: np.ndarray | int, alpha: np.ndarray | int) -> Image.Image:
    """Return an RGBA picture of gray levels and alpha."""
    planes = [Image.fromarray(np.broadcast_to(np.uint8(p), DISK.shape).copy()) for p in (color, color, color, alpha)]
    return Image.merge("RGBA", planes)


def decoded(path: Path) -> Decoded:
    return decode_mask(path, path.read_bytes())


def refusal(path: Path) -> str:
    with pytest.raises(DataError) as error:
        read_mask(path)
    return str(error.value).removeprefix(f"cannot read mask {path}: ")


@pytest.mark.parametrize("name", ["a.jpg", "a.JPEG", "a.webp", "a.tif"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_lossy_mask_has_the_area_that_was_drawn(save: Save, name: str, mode: str) -> None:
    options = {"compression": "jpeg"} if name == "a.tif" else {"quality": 60}
    path = save(Image.fromarray(WHITE).convert(mode), name, **options)
    stored = np.asarray(Image.open(path).convert("L"))
    assert (stored > 0).sum() > 1.1 * DISK.sum()  # so that the test means something
    mask, remark, _ = decoded(path)
    assert (mask != DISK).sum() < 0.01 * DISK.sum()
    assert remark == "soft"


def test_a_lossy_mask_of_two_levels_is_read_as_ever(save: Save) -> None:
    blocks = np.kron(np.eye(4, dtype=np.uint8), np.full((8, 8), 255, np.uint8))
    mask, remark, _ = decoded(save(blocks, "a.jpg", quality=100))
    assert np.array_equal(mask, blocks > 0) and remark == ""


def test_faint_levels_of_a_lossy_mask_are_refused(save: Save) -> None:
    path = save((SOFT / 25).astype(np.uint8), "a.jpg")
    assert refusal(path) == "values up to 11 of 255 may be noise of its compression; save it as PNG"


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "CMYK", "16 bit", "float16", "float32"])
def test_soft_edges_end_at_half_of_the_maximum(save: Save, tmp_path: Path, mode: str) -> None:
    levels = np.round(SOFT * 0.8).astype(np.uint8)
    if mode == "16 bit":
        path = save(levels.astype(np.uint16) * 257)
    elif mode.startswith("float"):
        path = write_tiff(tmp_path / "a.tif", (SOFT / 255).astype(mode))
    else:
        path = save(Image.fromarray(levels).convert(mode), "a.tif" if mode == "CMYK" else "a.png")
    mask, remark, _ = decoded(path)
    assert (mask != DISK).sum() < 0.02 * DISK.sum()
    assert remark == "soft"


def write_tiff(path: Path, values: np.ndarray, **options: object) -> Path:
    import tifffile

    tifffile.imwrite(path, values, **options)
    return path


@pytest.mark.parametrize(("levels", "remark"), [
    ([0, 1, 2, 3], ""), (range(60), ""), ([0, 255], ""), ([0, 7], ""), ([0, 60, 120, 255], "levels"),
    (range(0, 256, 17), "levels"),
])  # fmt: skip
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_class_number_counts(save: Save, levels: list[int], remark: str, dtype: type) -> None:
    classes = np.resize(np.repeat(np.array(levels, dtype), 4), (16, 32))
    mask, said, _ = decoded(save(classes))
    assert np.array_equal(mask, classes > 0)
    assert said == (remark if dtype is np.uint8 else "")  # 255 of 65535 is a number, too


def test_class_colors_count_whatever_their_channel(save: Save) -> None:
    image = Image.fromarray(np.repeat(np.uint8([[0, 1, 2, 3]]), 4, axis=0))
    image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0, 0, 0, 1])
    assert np.array_equal(read_mask(save(image)), [[False, True, True, True]] * 4)


@pytest.mark.parametrize("options", [{"photometric": "minisblack"}, {"photometric": "miniswhite"}])
def test_one_bit_is_black_and_white_however_it_is_stored(tmp_path: Path, options: dict[str, str]) -> None:
    stored = DISK if options["photometric"] == "minisblack" else ~DISK
    assert np.array_equal(read_mask(write_tiff(tmp_path / "a.tif", stored, **options)), DISK)


def test_16_bit_class_numbers_count(save: Save) -> None:
    assert np.array_equal(read_mask(save(DISK.astype(np.uint16))), DISK)


def test_16_bit_colors_that_pillow_rounds_to_nothing_are_refused(tmp_path: Path) -> None:
    colors = np.repeat(DISK[..., None], 3, axis=2).astype(np.uint16)
    path = write_deep_png(tmp_path / "a.png", colors)
    assert refusal(path) == "no value of its 16-bit colors is above 255, but class numbers may be below; save it as gray"
    assert np.array_equal(read_mask(write_deep_png(path, colors * 65535)), DISK)


@pytest.mark.parametrize("value", [1, 65535])
def test_16_bit_colors_of_a_tiff_count_with_all_bits(tmp_path: Path, value: int) -> None:
    colors = np.repeat(DISK[..., None], 3, axis=2).astype(np.uint16) * value
    assert np.array_equal(read_mask(write_tiff(tmp_path / "a.tif", colors, photometric="rgb")), DISK)


@pytest.mark.parametrize(("color", "alpha"), [
    (255, WHITE), (0, WHITE), (77, WHITE // 2), (255, SOFT), (WHITE, WHITE), ((SOFT > 0) * 255, SOFT), (WHITE, WHITE // 2 + 100),
    (WHITE, 255), (WHITE, 90), (WHITE, 0),
])  # fmt: skip
def test_a_mask_with_alpha_is_read_where_it_was_drawn(save: Save, color: np.ndarray | int, alpha: np.ndarray | int) -> None:
    mask, remark, _ = decoded(save(layers(color, alpha)))
    assert (mask != DISK).sum() < (0.02 * DISK.sum() if alpha is SOFT else 1)
    assert remark == ("alpha" if not isinstance(color, np.ndarray) or alpha is SOFT else "")


@pytest.mark.parametrize("color", [0, 255])
def test_nothing_is_drawn_on_a_black_or_an_opaque_mask(save: Save, color: int) -> None:
    assert np.array_equal(read_mask(save(layers(color, 255))), NONE if color == 0 else ~NONE)
    assert not read_mask(save(layers(0, 0))).any()


def test_gray_and_palette_with_alpha_are_read_alike(save: Save) -> None:
    assert np.array_equal(read_mask(save(layers(255, WHITE).convert("LA"))), DISK)
    image = Image.fromarray(DISK.astype(np.uint8))
    image.putpalette([255] * 6)
    assert np.array_equal(read_mask(save(image.convert("P"), transparency=bytes([0, 255]))), DISK)


def test_erased_strokes_are_no_defects(save: Save) -> None:
    strokes = WHITE.copy()
    strokes[-10:] = 255
    mask, remark, _ = decoded(save(layers(strokes, WHITE)))
    assert np.array_equal(mask, DISK) and remark == "alpha"


def test_color_and_alpha_that_contradict_each_other_are_refused(save: Save) -> None:
    remedy = "save it in black and white, without alpha"
    assert refusal(save(layers(255 - WHITE, WHITE))) == f"its colors are where alpha hides them; {remedy}"
    assert refusal(save(layers(255, 0))) == f"it has one color and is transparent everywhere; {remedy}"


@pytest.mark.parametrize(("name", "what"), [("a.tif", "pages"), ("a.png", "frames"), ("a.webp", "frames")])
def test_a_mask_of_several_pictures_is_refused(save: Save, name: str, what: str) -> None:
    path = save(Image.fromarray(WHITE), name, save_all=True, append_images=[Image.fromarray(255 - WHITE)])
    assert refusal(path) == f"it has further {what}, and only the first would count; save each mask as a file"


def test_a_mask_of_five_channels_is_refused(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tif", np.zeros((8, 8, 5), np.uint8), photometric="rgb")
    assert refusal(path) == "it has further channels, and only the first would count; save each mask as a file"


@pytest.mark.parametrize("value", [-1, np.nan])
def test_values_that_are_no_levels_are_refused(save: Save, value: float) -> None:
    values = np.full((4, 4), value, np.float32 if np.isnan(value) else np.int32)
    assert refusal(save(values, "a.tif")) == "some values are negative or no numbers; replace or remove it"
