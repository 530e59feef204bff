"""One picture of many synthetic defects, for a person to judge: a row for each kind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from adbench.data.synthetic.generation import SyntheticImage
from adbench.data.writing import save_picture
from adbench.pictures.heatmaps import outlined, scaled

_SIDE, _GAP, _CAPTION = 144, 6, 18  # px of a picture, between pictures, above a row


class ContactSheet:
    """Takes images as they come and keeps small pictures of up to `columns` per kind."""

    def __init__(self, columns: int = 6) -> None:
        self._columns = columns
        self._cells: dict[str, list[Image.Image]] = {}

    def add(self, made: SyntheticImage) -> None:
        """Take one image, unless its kind has enough."""
        cells = self._cells.setdefault(made.kind, [])
        if len(cells) < self._columns:
            cells.append(_cell(made))

    def save(self, path: Path) -> None:
        """Write the sheet as PNG: per image the whole with the mask's outline, and the defect itself enlarged."""
        width = self._columns * (2 * _SIDE + 2 * _GAP) + _GAP
        sheet = Image.new("RGB", (width, len(self._cells) * (_CAPTION + _SIDE + _GAP)), "white")
        for row, (kind, cells) in enumerate(sorted(self._cells.items())):
            top = row * (_CAPTION + _SIDE + _GAP)
            ImageDraw.Draw(sheet).text((_GAP, top + 2), kind, fill="black", font=ImageFont.load_default(13))
            for column, cell in enumerate(cells):
                sheet.paste(cell, (_GAP + column * (2 * _SIDE + 2 * _GAP), top + _CAPTION))
        save_picture(sheet, path, "PNG")


def _cell(made: SyntheticImage) -> Image.Image:
    marked = outlined(made.image, made.mask, width=max(1, max(made.mask.shape) // 160))
    cell = Image.new("RGB", (2 * _SIDE, _SIDE), "white")
    for left, picture in ((0, marked), (_SIDE, made.image[_surroundings(made.mask)])):
        scale = _SIDE / max(picture.shape[:2])
        method = Image.Resampling.BICUBIC if scale > 1 else Image.Resampling.BOX
        cell.paste(Image.fromarray(picture).resize(scaled(picture.shape, scale), method), (left, 0))
    return cell


def _surroundings(mask: NDArray[np.bool_]) -> tuple[slice, slice]:
    """Return the square around the mask with half as much again on each side, at least 32 px wide."""
    positions = np.argwhere(mask)
    low, high = positions.min(0), positions.max(0)
    half = max(16, int((high - low).max()))
    middle = np.clip((low + high) // 2, half, np.maximum(np.asarray(mask.shape) - half, half))
    return slice(max(middle[0] - half, 0), middle[0] + half), slice(max(middle[1] - half, 0), middle[1] + half)
