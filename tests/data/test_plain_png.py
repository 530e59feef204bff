"""Plain PNG files give the same pixels as Pillow; all others are left to Pillow."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from adbench.core.errors import DataError
from adbench.data import images
from adbench.data.images import plain_png, read_image

SIGNATURE = b"\x89PNG\r\n\x1a\n"
CHANNELS = {0: 1, 2: 3, 6: 4}
RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "SMALLEST", 1)


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def header(width: int, height: int, depth: int = 8, color: int = 2, interlace: int = 0) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, interlace))


def encoded(pixels: np.ndarray, kinds: list[int], *more: bytes, color: int = 2) -> bytes:
    """Return a PNG of (H, W, C) pixels whose line y has the filter kinds[y % len(kinds)], by the specification's formulas."""
    height, width, step = pixels.shape
    lines = pixels.reshape(height, -1).astype(int)
    zero, stream = np.zeros(lines.shape[1], int), b""
    for y, line in enumerate(lines):
        above = lines[y - 1] if y else zero
        left, corner = (np.concatenate([np.zeros(step, int), values[:-step]]) for values in (line, above))
        guess = left + above - corner
        distances = np.stack([abs(guess - left), abs(guess - above), abs(guess - corner)])
        paeth = np.choose(distances.argmin(0), [left, above, corner])
        kind = kinds[y % len(kinds)]
        stream += bytes([kind]) + ((line - [zero, left, above, (left + above) // 2, paeth][kind]) % 256).astype("u1").tobytes()
    packed = zlib.compress(stream)
    parts = chunk(b"IDAT", packed[:50]) + chunk(b"IDAT", packed[50:])
    return SIGNATURE + header(width, height, color=color) + b"".join(more) + parts + chunk(b"IEND", b"")


def by_pillow(data: bytes) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(data)).convert("RGB"))


@pytest.mark.parametrize("color", CHANNELS)
@pytest.mark.parametrize("kinds", [[0], [1], [2], [3], [4], [4, 1, 3, 0, 2]])
def test_each_filter_is_undone(color: int, kinds: list[int]) -> None:
    smooth = np.add.outer(np.add.outer(np.arange(23), 2 * np.arange(31)), np.arange(CHANNELS[color]))
    for pixels in (RNG.integers(0, 256, smooth.shape), smooth):
        data = encoded(pixels, kinds, color=color)
        found = plain_png(data)
        assert found is not None
        assert found.flags.writeable
        assert (found == by_pillow(data)).all()
        assert (found == pixels[..., : 3 if color else 1]).all()


@pytest.mark.parametrize(
    "options",
    [{"mode": "P"}, {"mode": "1"}, {"mode": "I;16"}, {"mode": "LA"}, {"transparency": (1, 2, 3)}, {"exif": b"Exif\0\0II*\0"}],
    ids=str,
)
def test_other_modes_and_notes_are_left_to_pillow(options: dict[str, object]) -> None:
    mode, file = str(options.pop("mode", "RGB")), io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (9, 9, 3), np.uint8)).convert("L" if mode == "I;16" else mode).convert(mode).save(
        file, "PNG", **options
    )
    assert plain_png(file.getvalue()) is None


def test_an_image_that_a_text_turns_is_turned(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    notes = PngImagePlugin.PngInfo()
    notes.add_text("Software", "any")
    plain, turned = tmp_path / "plain.png", tmp_path / "turned.png"
    image = Image.fromarray(RNG.integers(0, 256, (4, 7, 3), np.uint8))
    image.save(plain, pnginfo=notes)
    assert plain_png(plain.read_bytes()) is not None
    raw = exif.tobytes()
    notes.add_text("Raw profile type exif", f"\nexif\n{len(raw):8}\n{raw.hex()}\n")
    image.save(turned, pnginfo=notes)
    assert plain_png(turned.read_bytes()) is None
    assert read_image(plain).shape == (4, 7, 3)
    assert read_image(turned).shape == (7, 4, 3)


def test_an_interlaced_a_huge_and_a_tiny_image_are_left_to_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(RNG.integers(0, 256, (9, 9, 3)), [4])
    assert plain_png(data) is not None
    with monkeypatch.context() as patch:
        patch.setattr(images, "MOST_PIXELS", 80)
        assert plain_png(data) is None
    assert plain_png(data.replace(header(9, 9), header(9, 9, interlace=1))) is None
    monkeypatch.setattr(images, "SMALLEST", 82)
    assert plain_png(data) is None


@pytest.mark.parametrize("other", [header(9, 8), header(9, 10), header(8, 9)])
def test_pixels_that_do_not_fit_the_header_are_left_to_pillow(other: bytes) -> None:
    data = encoded(RNG.integers(0, 256, (9, 9, 3)), [4])
    assert plain_png(data.replace(header(9, 9), other)) is None


def test_an_unknown_filter_is_left_to_pillow() -> None:
    lines = zlib.compress(bytes([5] + [0] * 27) * 9)
    assert plain_png(SIGNATURE + header(9, 9) + chunk(b"IDAT", lines) + chunk(b"IEND", b"")) is None


def test_a_damaged_file_is_refused_or_read_as_pillow_reads_it(tmp_path: Path) -> None:
    data = encoded(RNG.integers(0, 256, (12, 12, 3)), [4, 3])
    path, refused = tmp_path / "a.png", 0
    for place in range(len(data)):
        for broken in (data[:place], data[:place] + bytes([data[place] ^ 16]) + data[place + 1 :]):
            assert plain_png(broken) is None or place >= len(data) - 12
            path.write_bytes(broken)
            try:
                found = read_image(path)
            except DataError as error:
                refused += 1
                assert "a.png" in str(error)
            else:
                assert (found == by_pillow(broken)).all()
    assert refused > len(data)
