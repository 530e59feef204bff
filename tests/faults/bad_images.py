"""Damaged, huge, empty and hostile images, as training images, test images and masks."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import tifffile
from cases import DATA, EXTRACT, FINE, SWEEP, Case, nothing, write
from PIL import Image

PLACES = {
    "training image": "parts/alpha/train/good/000",
    "test image": "parts/alpha/test/good/000",
    "mask": "parts/alpha/ground_truth/spot/000_mask",
}


def encoded(suffix: str, mode: str = "RGB", size: tuple[int, int] = (64, 64), **options: Any) -> bytes:
    """Return a picture of noise."""
    noise = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(noise).convert(mode).save(out, format=suffix, **options)
    return out.getvalue()


def png_claiming(width: int, height: int) -> bytes:
    """Return a PNG whose header claims a size that its content lacks: a decompression bomb if it is believed."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


def with_text_bomb(size: int = 200_000_000) -> bytes:
    """Return a small PNG with a compressed text that would fill `size` bytes."""
    text = zlib.compress(b"A" * size)
    content = b"Comment\0\0" + text
    chunk = struct.pack(">I", len(content)) + b"zTXt" + content + struct.pack(">I", zlib.crc32(b"zTXt" + content))
    whole = encoded("PNG")
    return whole[:33] + chunk + whole[33:]


def damaged() -> Iterator[tuple[str, str, bytes]]:
    """Yield (what, suffix, content) of files that no one can decode."""
    for kind, suffix in (("PNG", "png"), ("JPEG", "jpg"), ("TIFF", "tiff"), ("BMP", "bmp"), ("WEBP", "webp")):
        whole = encoded(kind)
        for share in (0.02, 0.3, 0.9):
            yield f"{kind} cut to {share:.0%}", suffix, whole[: int(len(whole) * share)]
    whole = encoded("PNG")
    yield "empty file", "png", b""
    yield "one byte", "png", b"\x89"
    yield "zeros", "png", bytes(5000)
    yield "text", "jpg", b"this is no picture\n" * 50
    yield "HTML", "png", b"<html><body>404</body></html>"
    yield "SVG", "png", b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
    yield "PostScript", "png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\nshowpage\n"
    yield "zip", "png", b"PK\x03\x04" + bytes(200)
    yield "GIF", "png", encoded("GIF")
    yield "PNG of 1 x 1", "png", encoded("PNG", size=(1, 1))
    yield "PNG of 65500 x 1", "png", encoded("PNG", size=(65500, 1))
    yield "bomb of 65500 x 65500", "png", png_claiming(65500, 65500)
    yield "bomb of 2^31 x 2^31", "png", png_claiming(2**31 - 1, 2**31 - 1)
    yield "PNG without pixels", "png", png_claiming(64, 64)
    yield "PNG of width 0", "png", png_claiming(0, 64)
    yield "PNG with a bad checksum", "png", whole[:60] + bytes([whole[60] ^ 255]) + whole[61:]
    yield "text bomb", "png", with_text_bomb()
    yield "TIFF whose directory is itself", "tiff", b"II*\0\x08\0\0\0\x01\0" + bytes(12) + b"\x08\0\0\0"
    yield "TIFF of NaN", "tiff", nan_tiff()
    yield "TIFF of five channels", "tiff", tiff(np.zeros((64, 64, 5), np.uint8), photometric="minisblack", planarconfig="contig")
    yield "TIFF of complex numbers", "tiff", tiff(np.zeros((64, 64), np.complex64))


def nan_tiff() -> bytes:
    """Return a float TIFF that holds no number."""
    out = io.BytesIO()
    Image.fromarray(np.full((64, 64), np.nan, np.float32)).save(out, format="TIFF")
    return out.getvalue()


def tiff(values: np.ndarray, **options: Any) -> bytes:
    """Return a TIFF of any kind of numbers."""
    out = io.BytesIO()
    tifffile.imwrite(out, values, **options)
    return out.getvalue()


def picture(values: np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    """Return a picture of these values."""
    out = io.BytesIO()
    Image.fromarray(values).save(out, format=kind, **options)
    return out.getvalue()


def said() -> Iterator[tuple[str, str, str, bytes, str]]:
    """Yield (where, what, suffix, content, a pattern of the warning) of files that are read, with a remark."""
    disk = np.hypot(*(np.mgrid[:64, :64] - 32)) < 15
    white, ramp = disk.astype(np.uint8) * 255, np.tile(np.arange(64, dtype=np.uint8) * 4, (64, 1))
    in_alpha = np.dstack([np.full((64, 64, 3), 255, np.uint8), white])
    more = {"save_all": True, "append_images": [Image.fromarray(ramp)]}
    yield "training image", "12 bits in 16", "png", picture(ramp.astype(np.uint16) * 16), "multiply their values by 16"
    yield "training image", "12 bits in 16", "TIF", tiff(ramp.astype(np.uint16) * 16), "multiply their values by 16"
    yield "test image", "TIFF of two pages", "tif", picture(ramp, "TIFF", **more), "only the first is read"
    yield "test image", "animated PNG", "png", picture(ramp, "PNG", **more), "only the first is read"
    yield "test image", "TIFF of RGB and two channels", "tif", tiff(np.dstack([ramp] * 5), photometric="rgb"), "only the colors"
    yield "mask", "JPEG", "JPG", picture(white, "JPEG"), "soft edges"
    yield "mask", "soft edges", "png", picture(ramp), "soft edges"
    yield "mask", "white with the defect in alpha", "png", picture(in_alpha), "drawn in alpha"
    yield "mask", "alpha only", "png", picture(in_alpha * np.uint8([0, 0, 0, 1])), "drawn in alpha"
    yield "mask", "few gray levels", "png", picture(ramp // 64 * 64), "any value above 0"


def unclear() -> Iterator[tuple[str, str, bytes]]:
    """Yield (what, suffix, content) of masks that may mean one thing or another."""
    white = np.tile(np.uint8([0, 255]).repeat(32), (64, 1))
    yield "color against alpha", "png", picture(np.dstack([255 - white] * 3 + [white]))
    yield "white and transparent", "png", picture(np.dstack([np.full_like(white, 255)] * 3 + [np.zeros_like(white)]))
    yield "two pages", "tif", picture(white, "TIFF", save_all=True, append_images=[Image.fromarray(255 - white)])
    yield "faint JPEG", "jpg", picture(np.random.default_rng(0).integers(0, 9, (64, 64), np.uint8), "JPEG")
    yield "negative", "tif", picture(white.astype(np.int32) - 1, "TIFF")


def disguised(name: str) -> Any:
    """Put another image of the same size in bytes and the same time in the place of a PNG."""

    def damage(workplace: Any) -> None:
        path = workplace / name
        status, content = path.stat(), picture(np.full((64, 64), 255, np.uint8))
        path.write_bytes(content.ljust(status.st_size, b"\0"))
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert (path.stat().st_size, path.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)

    return damage


def odd() -> Iterator[tuple[str, str, bytes]]:
    """Yield (what, suffix, content) of files that are unusual and right."""
    yield "JPEG named png", "png", encoded("JPEG")
    yield "CMYK JPEG", "jpg", encoded("JPEG", "CMYK")
    yield "grey with alpha", "png", encoded("PNG", "LA")
    yield "palette", "png", encoded("PNG", "P")
    yield "one bit", "png", encoded("PNG", "1")
    yield "16 bit", "png", sixteen_bit()
    yield "upside down by EXIF", "jpg", encoded("JPEG", exif=turned())
    yield "64 x 2", "png", encoded("PNG", size=(64, 2))
    plane = np.random.default_rng(0).random((64, 64))
    yield "TIFF of float16", "TIFF", tiff(plane.astype(np.float16))
    yield "TIFF of float RGB", "tif", tiff(np.dstack([plane] * 3).astype(np.float32), photometric="rgb")


def sixteen_bit() -> bytes:
    """Return a grey PNG of 16 bits."""
    out = io.BytesIO()
    Image.fromarray(np.arange(4096, dtype=np.uint16).reshape(64, 64) * 16).save(out, format="PNG")
    return out.getvalue()


def turned() -> Image.Exif:
    """Return the tag that says "turn by 180 degrees"."""
    exif = Image.Exif()
    exif[0x0112] = 3
    return exif


def cases() -> Iterator[Case]:
    """Yield every file in every place that it can damage."""
    for where, path in PLACES.items():
        for what, suffix, content in damaged():
            yield Case(f"{where}: {what}", replaced(path, suffix, content), EXTRACT, DATA, rf"{path.split('/')[-1]}\.{suffix}")
    for what, suffix, content in odd():
        yield Case(f"odd image: {what}", replaced(PLACES["training image"], suffix, content), EXTRACT, FINE)
    for where, what, suffix, content, says in said():
        yield Case(f"odd {where}: {what}, {suffix}", replaced(PLACES[where], suffix, content), EXTRACT, FINE, says)
    for what, suffix, content in unclear():
        yield Case(f"unclear mask: {what}", replaced(PLACES["mask"], suffix, content), EXTRACT, DATA, rf"000_mask\.{suffix}: ")
    for where, path in PLACES.items():
        # a mask decides no features, but the metrics: the sweep has to run its jobs again
        command, says = (SWEEP, r"\[2/2\]") if where == "mask" else (EXTRACT, "images per second")
        yield Case(f"{where} of the same size and time", disguised(f"{path}.png"), command, FINE, says)
    for name, more in {"untouched": (), "verified": ("--verify-data",)}.items():
        yield Case(f"{name} data is cached", nothing, (*EXTRACT, *more), FINE, r"\A(?!(?s:.*)images per second)")


def replaced(path: str, suffix: str, content: bytes) -> Any:
    """Put `content` in the place of the PNG there."""

    def damage(workplace: Any) -> None:
        (workplace / f"{path}.png").unlink()
        write(f"{path}.{suffix}", content)(workplace)

    return damage
