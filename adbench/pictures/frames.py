"""Frames around pictures: a title, a caption above each panel, and a color bar that says what the colors stand for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from unicodedata import category

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from adbench.core.plots import load_matplotlib

PAPER, INK, SOFT, EMPTY = "#16191d", "#ffffff", "#b9c2cc", "#4a525b"
_LEAST_TEXT, _LETTERS = 13, 32  # px of a letter's height at least; letters' heights in a frame's width
Size = tuple[int, int]  # width, height in px
Panel = tuple[str, NDArray[np.uint8]]  # caption, pixels (H, W, 3)
Font = ImageFont.FreeTypeFont


@dataclass(frozen=True)
class ColorBar:
    """What the colors of a map stand for.

    Colors run from the value `low` to `high`, on a bar from `low` to `end`; `marks` are values with a name, of which those
    above `end` stand at the end.
    """

    low: float
    high: float
    end: float
    marks: Sequence[tuple[str, float]]

    def place(self, value: float) -> float:
        """Return where a value lies on the bar: 0 at its left end, 1 at its right end."""
        return float(np.clip((value - self.low) / max(self.end - self.low, 1e-12), 0, 1))


def framed(title: Sequence[str], panels: Sequence[Panel], columns: int = 1, bar: ColorBar | None = None) -> Image.Image:
    """Return panels of one size in rows of `columns` below the lines of a title, and the color bar below them."""
    height, width = panels[0][1].shape[:2]
    font = sized_font(max(_LEAST_TEXT, (width * columns) // _LETTERS))
    gap, line = int(font.size / 2), round(font.size * 1.4)
    across = columns * (width + gap) + gap
    rows, head = -(-len(panels) // columns), gap + len(title) * line
    row_height = height + gap + line * any(caption for caption, _ in panels)
    scale = _drawn_bar(bar, across - 2 * gap, font) if bar else Image.new("RGB", (1, 1), PAPER)
    sheet = Image.new("RGB", (across, head + rows * row_height + (scale.height + gap if bar else 0)), PAPER)
    draw = ImageDraw.Draw(sheet)
    for index, text in enumerate(title):
        draw.text((gap, gap // 2 + index * line), fitted(text, font, across - 2 * gap), INK if index == 0 else SOFT, font)
    for index, (caption, pixels) in enumerate(panels):
        left, top = gap + index % columns * (width + gap), head + index // columns * row_height
        draw.text((left, top), fitted(caption, font, width), SOFT, font)
        sheet.paste(Image.fromarray(pixels), (left, top + row_height - height - gap))
    if bar:
        sheet.paste(scale, (gap, sheet.height - scale.height - gap))
    return sheet


def fitted(text: str, font: Font, width: float) -> str:
    """Return a text that is at most `width` px wide; what is too long loses its middle, as names differ at their ends."""
    text = _drawable(text)
    kept = len(text)
    while kept > 2 and font.getlength(shown := _without_middle(text, kept)) > width:
        kept -= 1
    return shown if kept > 2 else text


def _drawable(text: str) -> str:
    """Return a text whose line breaks, control characters and undecodable bytes, which cannot be drawn, are escaped."""
    return "".join(repr(c)[1:-1] if category(c) in ("Cc", "Cs", "Zl", "Zp") else c for c in text)


def _without_middle(text: str, kept: int) -> str:
    return text if kept >= len(text) else f"{text[: kept // 2]}…{text[len(text) - (kept - kept // 2) :]}"


@lru_cache(maxsize=16)
def sized_font(size: int) -> Font:
    """Return the font of pictures, which matplotlib brings along: DejaVu Sans has most alphabets."""
    folder = Path(load_matplotlib().get_data_path())
    return ImageFont.truetype(str(folder / "fonts" / "ttf" / "DejaVuSans.ttf"), size)


@lru_cache(maxsize=1)
def heat_colors() -> NDArray[np.uint8]:
    """Return the colors of 256 levels of heat, (256, 3)."""
    return np.asarray(load_matplotlib().colormaps["inferno"](np.arange(256))[:, :3] * 255, np.uint8)


def _drawn_bar(bar: ColorBar, width: int, font: Font) -> Image.Image:
    """Return the bar with its marks; names that would overlap stand in several lines."""
    thick, line = int(font.size / 2) + 2, round(font.size * 1.3)
    labels = sorted((bar.place(value), f"{name} {value:.4g}") for name, value in bar.marks)
    ends, places = list[float](), []
    for place, text in labels:
        long = font.getlength(text)
        left = float(np.clip(place * width - long / 2, 0, max(width - long, 0)))
        row = next((i for i, end in enumerate(ends) if end < left), len(ends))
        ends[row : row + 1] = [left + long + font.size]
        places.append((place, left, row, text))
    drawn = Image.new("RGB", (width, thick + 4 + len(ends) * line), PAPER)
    draw = ImageDraw.Draw(drawn)
    draw.rectangle((0, 0, width, thick), EMPTY)
    if colored := round(bar.place(bar.high) * width):
        levels = np.linspace(0, 255, colored).round().astype(np.uint8)
        drawn.paste(Image.fromarray(np.repeat(heat_colors()[levels][None], thick + 1, axis=0)), (0, 0))
    for place, _, row, _ in places:
        across = min(round(place * width), width - 2)
        draw.line((across, 0, across, thick + 4 + row * line), INK, 2)
    for _, left, row, text in places:
        top = thick + 4 + row * line
        draw.rectangle((left, top, left + font.getlength(text), top + line), PAPER)  # a line to a lower name ends above this one
        draw.text((left, top), text, SOFT, font)
    return drawn
