"""Reading of images and masks: every mode and depth, and every kind of bad file."""

import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from conftest import write_deep_png
from PIL import Image

from adbench.core.errors import DataError
from adbench.data import decoding
from adbench.data.images import decode_image, read_image, read_levels, read_mask, white_of
from adbench.data.pixels import STEPS, read_pixels

GRAY = np.arange(0, 240, dtype=np.uint8).reshape(12, 20)
RGB = np.stack([GRAY, GRAY[::-1], 255 - GRAY], axis=2)


@pytest.fixture
def save(tmp_path):
    def save(image: Image.Image | np.ndarray, name: str = "a.png", **options) -> Path:
        image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
        image.save(tmp_path / name, **options)
        return tmp_path / name

    return save


def gray(values) -> np.ndarray:
    return np.repeat(np.asarray(values)[..., None], 3, axis=2)


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.TIF", "a.tiff"])
def test_rgb_is_read_unchanged(save, name):
    image = read_image(save(RGB, name))
    assert image.dtype == np.uint8 and np.array_equal(image, RGB)


@pytest.mark.parametrize("name", ["a.jpg", "a.JPEG", "a.webp"])
def test_lossy_formats_are_read(save, name):
    assert np.abs(read_image(save(gray(GRAY), name, quality=100)).astype(int) - gray(GRAY)).mean() < 3


def test_a_jpeg_with_an_embedded_second_picture_is_read(save):
    path = save(Image.fromarray(gray(GRAY)), "a.mpo", save_all=True, append_images=[Image.new("RGB", (20, 12))])
    assert np.abs(read_image(path.rename(path.with_suffix(".jpg"))).astype(int) - gray(GRAY)).mean() < 5


def test_gray_becomes_three_equal_channels(save):
    assert np.array_equal(read_image(save(GRAY)), gray(GRAY))


def test_one_bit_becomes_black_and_white(save):
    assert np.array_equal(read_image(save(Image.fromarray(GRAY > 100))), gray(np.where(GRAY > 100, 255, 0)))


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_alpha_is_dropped_not_blended(save, mode):
    image = Image.fromarray(GRAY).convert(mode)
    image.putalpha(7)
    assert np.array_equal(read_image(save(image)), gray(GRAY))


@pytest.mark.parametrize("transparency", [None, 3, bytes([0, 90, 200])])
def test_a_palette_is_resolved_and_its_transparency_dropped(save, transparency):
    image = Image.fromarray(RGB).quantize(16)
    options = {} if transparency is None else {"transparency": transparency}
    assert np.array_equal(read_image(save(image, **options)), np.asarray(image.convert("RGB")))


def test_a_transparent_color_stays_that_color(save):
    assert np.array_equal(read_image(save(Image.fromarray(RGB), transparency=(1, 2, 3))), RGB)


def test_cmyk_becomes_rgb(save):
    assert np.array_equal(read_image(save(Image.new("CMYK", (4, 4), (0, 255, 255, 0)), "a.tif"))[0, 0], (255, 0, 0))


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_16_bit_values_are_scaled_and_rounded_not_clipped(save, name):
    values = np.array([[0, 128, 129], [257, 65407, 65535]], np.uint16)
    assert np.array_equal(read_image(save(values, name)), gray([[0, 0, 1], [1, 255, 255]]))


def test_big_endian_16_bit_is_read(tmp_path):
    values = np.array([[0, 1000], [30000, 65535]], ">u2")
    write_tiff(tmp_path / "a.tif", values)
    with Image.open(tmp_path / "a.tif") as image:
        assert image.mode == "I;16B"
    assert np.array_equal(read_image(tmp_path / "a.tif"), gray([[0, 4], [117, 255]]))


def write_tiff(path: Path, values: np.ndarray) -> None:
    """Write a big-endian, uncompressed, 16-bit gray TIFF, which Pillow itself does not write."""
    height, width = values.shape
    tags = [(256, width), (257, height), (258, 16), (259, 1), (262, 1), (273, 8), (277, 1), (278, height), (279, values.nbytes)]
    entries = b"".join(struct.pack(">HHII", tag, 4, 1, value) for tag, value in tags)
    head = b"MM\0*" + struct.pack(">I", 8 + values.nbytes)
    path.write_bytes(head + values.tobytes() + struct.pack(">H", len(tags)) + entries + bytes(4))


def test_32_bit_integers_are_taken_as_16_bit_values(save):
    assert np.array_equal(read_image(save(np.full((2, 2), 257 * 80, np.int32), "a.tif")), np.full((2, 2, 3), 80))


@pytest.mark.parametrize(("scale", "highest"), [(1.0, 1.0), (255.0, 200.0)])
def test_floats_are_read_in_either_range(save, scale, highest):
    values = np.array([[0, 0.25], [0.5, highest / scale]], np.float32) * np.float32(scale)
    assert np.array_equal(read_image(save(values, "a.tif")), gray(np.floor(values * (255 / scale) + 0.5)))


@pytest.mark.parametrize(("value", "text"), [
    (np.nan, "some values are no numbers; replace or remove it"),
    (300, "values from 300 to 300 do not fit 0 to 255; state the values of black and white as value_range, e.g. 0,300"),
])  # fmt: skip
def test_floats_of_no_known_range_are_refused(save, value, text):
    path = save(np.full((2, 2), value, np.float32), "a.tif")
    assert message(path) == f"cannot read image {path}: {text}"


FLOATS = RGB.astype(np.float32) / 255


@pytest.mark.parametrize(("values", "options"), [
    (FLOATS[..., 0].astype(np.float16), {}),
    (FLOATS[..., 0].astype(np.float64), {"compression": "zlib"}),
    (FLOATS, {"photometric": "rgb"}),
    (FLOATS.astype(np.float16) * 255, {"photometric": "rgb"}),
    (np.moveaxis(FLOATS, 2, 0), {"photometric": "rgb", "planarconfig": "separate"}),
    (np.dstack([FLOATS, FLOATS[..., :1]]), {"photometric": "rgb", "extrasamples": ["unassalpha"]}),
    (RGB[..., 0].astype(np.uint64) * 257, {}),
    (RGB[..., 0].astype(">f2"), {"byteorder": ">"}),
], ids=lambda v: str(getattr(v, "dtype", "")))  # fmt: skip
def test_tiff_files_that_pillow_refuses_are_read_all_the_same(tmp_path, values, options):
    tifffile.imwrite(tmp_path / "a.TIFF", values, **options)
    found = decode_image(tmp_path / "a.TIFF", (tmp_path / "a.TIFF").read_bytes())
    assert found.pixels.dtype == np.uint8 and found.remark == ""
    expected = gray(RGB[..., 0]) if values.ndim == 2 else RGB
    assert np.abs(found.pixels.astype(int) - expected).max() <= (1 if values.dtype == np.float16 else 0)


@pytest.mark.parametrize(("values", "options", "text"), [
    (np.zeros((6, 8, 5), np.uint8), {"planarconfig": "contig", "photometric": "minisblack"},
     "a TIFF of 5 x uint8 per pixel (MINISBLACK) is neither gray nor RGB; save it as one of them"),
    (np.zeros((6, 8, 5), np.float32), {"planarconfig": "contig", "photometric": "minisblack"},
     "a TIFF of 5 x float32 per pixel (MINISBLACK) is neither gray nor RGB; save it as one of them"),
    (np.zeros((6, 8), np.complex64), {}, "a TIFF of 1 x complex64 per pixel has no gray levels; save it as integers or floats"),
    (np.zeros((6, 8), np.float16), {"extratags": [(274, 3, 1, 6, True)]},
     "a TIFF of 1 x float16 per pixel is read upright only, not by its orientation tag; save it upright"),
    (np.zeros((1, 8), np.float16), {}, "8 x 1 pixels are no picture; replace or remove it"),
])  # fmt: skip
def test_other_kinds_of_tiff_are_named(tmp_path, capfd, values, options, text):
    tifffile.imwrite(tmp_path / "a.tif", values, **options)
    assert message(tmp_path / "a.tif") == f"cannot read image {tmp_path / 'a.tif'}: {text}"
    assert capfd.readouterr() == ("", "")


def test_a_tiff_of_many_channels_is_no_larger_than_others(tmp_path, monkeypatch):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((6, 8, 3), np.float16), photometric="rgb")
    monkeypatch.setattr(decoding, "MOST_PIXELS", 100)
    assert "8 x 6 pixels of 3 channels are more than" in message(tmp_path / "a.tif")


def test_tiff_orientation_turns_once(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", RGB, photometric="rgb", extratags=[(274, 3, 1, 6, True)])
    assert np.array_equal(read_image(tmp_path / "a.tif"), np.rot90(RGB, -1))


def pages(path: Path, *kinds: int) -> bytes:
    """Return a TIFF with a page after the first for each kind of subfile: 0 a page, 1 a preview."""
    with tifffile.TiffWriter(path) as file:
        file.write(GRAY)
        for kind in kinds:
            file.write(255 - GRAY[::2, ::2], subfiletype=kind)
    return path.read_bytes()


@pytest.mark.parametrize(("kinds", "remark"), [((), ""), ((0,), "pages"), ((1,), ""), ((1, 0), "pages")])
def test_the_first_page_is_read_and_others_are_said_unless_they_are_previews(tmp_path, kinds, remark):
    found = decode_image(tmp_path / "a.tif", pages(tmp_path / "a.tif", *kinds))
    assert np.array_equal(found.pixels, gray(GRAY)) and found.remark == remark


@pytest.mark.parametrize("name", ["a.png", "a.webp"])
def test_the_first_frame_is_read_and_others_are_said(save, name):
    path = save(Image.fromarray(GRAY), name, save_all=True, append_images=[Image.fromarray(255 - GRAY)], lossless=True)
    found = decode_image(path, path.read_bytes())
    assert np.array_equal(found.pixels, gray(GRAY)) and found.remark == "frames"


def test_channels_beside_the_colors_are_said(tmp_path):
    for name, values in {"a.tif": np.dstack([RGB, RGB[..., :2]]), "b.tif": np.dstack([FLOATS, FLOATS[..., :2]])}.items():
        tifffile.imwrite(tmp_path / name, values, photometric="rgb")
        found = decode_image(tmp_path / name, (tmp_path / name).read_bytes())
        assert np.array_equal(found.pixels, RGB) and found.remark == "channels"


@pytest.mark.parametrize(("values", "highest"), [
    (GRAY, None), (GRAY.astype(np.uint16), 239 / 65535), (GRAY.astype(np.float32) / 1000, 0.239),
    (RGB.astype(np.uint16) * 16, 16 * int(RGB.max()) / 65535),
])  # fmt: skip
def test_the_range_of_deep_files_is_known(tmp_path, values, highest):
    tifffile.imwrite(tmp_path / "a.tif", values)
    found = decode_image(tmp_path / "a.tif", (tmp_path / "a.tif").read_bytes())
    assert found.brightest == (None if highest is None else pytest.approx(highest))


def test_exif_orientation_turns_images_and_masks(save):
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees clockwise
    path = save(RGB, exif=exif)
    assert np.array_equal(read_image(path), np.rot90(RGB, -1))
    assert read_mask(path).shape == (20, 12)


@pytest.mark.parametrize("values", [
    np.array([[0, 1], [2, 255]], np.uint8), np.array([[0, 1], [2, 65535]], np.uint16),
    np.array([[0, 0.001], [1, 9]], np.float32), np.array([[False, True], [True, True]]),
])  # fmt: skip
def test_any_value_above_zero_is_defective(save, values):
    mask = read_mask(save(values, "a.tif"))
    assert mask.dtype == bool and np.array_equal(mask, [[False, True], [True, True]])


def test_any_color_channel_of_a_mask_counts_and_opaque_alpha_does_not(save):
    values = np.zeros((2, 2, 4), np.uint8)
    values[..., 3], values[0, 1, 2] = 255, 1
    assert np.array_equal(read_mask(save(values)), [[False, True], [False, False]])


def message(path: Path) -> str:
    """Return the error's text; nothing else may be said."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DataError) as error:
            read_image(path)
    return str(error.value)


@pytest.mark.parametrize(("content", "text"), [
    (b"", "the file is empty"),
    (b"not an image", "no PNG, JPEG, BMP, TIFF, WEBP or PPM content"),
    (b"GIF89a\1\0\1\0\0\0\0;", "no PNG, JPEG, BMP, TIFF, WEBP or PPM content"),
])  # fmt: skip
def test_files_of_other_content_are_named(tmp_path, capfd, content, text):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    assert message(path) == f"cannot read image {path}: {text}; replace or remove it"
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp", "a.tif", "a.webp"])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
def test_a_truncated_file_is_refused_in_one_line(save, capfd, name, kept):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    path = save(noise, name)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    text = message(path)
    assert text.startswith(f"cannot read image {path}: ") and text.endswith("; replace or remove it")
    assert "\n" not in text and capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
@pytest.mark.parametrize("colors", [1, 3])
def test_all_bits_of_a_deep_file_reach_the_network(tmp_path, name, colors):
    values = np.linspace(0, 4095, 64 * 64 * colors).round().astype(np.uint16).reshape(64, 64, colors)
    path = tmp_path / name
    if name == "a.tif":
        tifffile.imwrite(path, values.squeeze(), photometric="rgb" if colors == 3 else "minisblack")
    elif colors == 1:
        Image.fromarray(values[..., 0]).save(path)
    else:
        write_deep_png(path, values)
    brightest = decode_image(path, path.read_bytes()).brightest
    white = white_of([None, brightest])
    assert white == 4095 / 65535 and white_of([brightest, 0.9]) == white_of([None]) == 1
    levels = read_levels(path, white)
    np.testing.assert_allclose(levels, np.broadcast_to(values * (255 / 4095), (64, 64, 3)), atol=1e-4)
    assert (read_levels(path, white / 2) <= 255).all() and read_image(path, white).dtype == np.uint8
    pixels = read_pixels(path, (64, 64), white=white)
    assert np.abs(pixels / STEPS - levels).max() <= 0.5 / STEPS + 1e-4


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    assert message(tmp_path / "a.png").endswith("a.png: No such file or directory; replace or remove it")
    assert message(tmp_path).endswith("Is a directory; replace or remove it")


def test_a_single_pixel_is_no_picture(save):
    path = save(np.zeros((1, 1), np.uint8))
    assert message(path) == f"cannot read image {path}: 1 x 1 pixels are no picture; replace or remove it"


@pytest.mark.parametrize(("side", "text"), [
    (12_000, "12000 x 12000 pixels in a file of 49 bytes are a decompression bomb; remove it"),
    (2_000_000, f"2000000 x 2000000 pixels are more than the {decoding.MOST_PIXELS // 10**6} million that this machine's memory"),
])  # fmt: skip
def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path, side, text):
    head = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))
    (tmp_path / "a.png").write_bytes(content + struct.pack(">I", 4) + b"IDAT" + bytes(8))
    assert text in message(tmp_path / "a.png")
