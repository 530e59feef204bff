"""One picture of many synthetic defects, for a person to judge: a row for each kind."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from adbench.data.synthetic.generation import SyntheticImage
from adbench.data.writing import save_picture
from adbench.pictures.frames import INK, PAPER, SOFT, fitted, sized_font
from adbench.pictures.heatmaps import outlined, resized_mask, scaled

_SIDE, _GAP, _BETWEEN = 160, 4, 24  # px of a picture, between the pictures of a defect, between defects
_LINE, _TEXT, _LARGE = 22, 14, 20  # px: a line of text, its letters, those of the title
_LEGEND = "Of each defect: the image with the defect's outline; the defect enlarged; the same with its outline"


class ContactSheet:
    """Takes images as they come and keeps small pictures of up to `columns` per kind."""

    def __init__(self, title: str, columns: int = 4) -> None:
        self._title, self._columns = title, columns
        self._cells: dict[str, list[Image.Image]] = {}
        self._counts: Counter[str] = Counter()

    def add(self, made: SyntheticImage) -> None:
        """Take one image; it is only counted if its kind has enough."""
        self._counts[made.kind] += 1
        cells = self._cells.setdefault(made.kind, [])
        if len(cells) < self._columns:
            cells.append(_cell(made))

    def save(self, path: Path) -> None:
        """Write the sheet as PNG: a title, a legend, and a row of defects for each kind."""
        font, large, columns = sized_font(_TEXT), sized_font(_LARGE), max(map(len, self._cells.values()))
        width = max(columns * (3 * (_SIDE + _GAP) + _BETWEEN), round(font.getlength(_LEGEND)) + _BETWEEN)
        height = _SIDE + 2 * _LINE + _BETWEEN
        sheet = Image.new("RGB", (width, 4 * _LINE + len(self._cells) * height), PAPER)
        draw = ImageDraw.Draw(sheet)
        number = f"{self._counts.total()} images, {len(self._cells)} kinds"
        draw.text((_BETWEEN // 2, _LINE // 2), fitted(f"{self._title}: {number}", large, width - _BETWEEN), INK, large)
        draw.text((_BETWEEN // 2, 2 * _LINE), _LEGEND, SOFT, font)
        for row, (kind, cells) in enumerate(sorted(self._cells.items())):
            top, count = 4 * _LINE + row * height, self._counts[kind]
            shown = f"{len(cells)} of {count} images" if count > len(cells) else "1 image" if count == 1 else f"{count} images"
            draw.text((_BETWEEN // 2, top - 8), kind, INK, large)
            draw.text((_BETWEEN // 2 + large.getlength(f"{kind} "), top - 2), shown, SOFT, font)
            for column, cell in enumerate(cells):
                sheet.paste(cell, (_BETWEEN // 2 + column * (cell.width + _BETWEEN), top + _LINE))
        save_picture(sheet, path, "PNG")


def _cell(made: SyntheticImage) -> Image.Image:
    """Return the three pictures of a defect below the name of its file and its size."""
    cell = Image.new("RGB", (3 * (_SIDE + _GAP), _LINE + _SIDE), PAPER)
    font = sized_font(_TEXT)
    name = fitted(f"{made.kind}/{made.index:03d}.png, {made.size_px:.0f} px", font, cell.width)
    ImageDraw.Draw(cell).text((0, 0), name, SOFT, font)
    near = _surroundings(made.mask)
    shown = [_fit(made.image, made.mask), _fit(made.image[near]), _fit(made.image[near], made.mask[near])]
    for index, picture in enumerate(shown):
        cell.paste(Image.fromarray(picture), (index * (_SIDE + _GAP), _LINE))
    return cell


def _fit(image: NDArray[np.uint8], mask: NDArray[np.bool_] | None = None) -> NDArray[np.uint8]:
    """Return an image resized to its place in the sheet, with the outline of a mask."""
    scale = _SIDE / max(image.shape[:2])
    size = scaled(image.shape, scale)
    method = Image.Resampling.BICUBIC if scale > 1 else Image.Resampling.BOX
    fitting = np.asarray(Image.fromarray(image).resize(size, method))
    return fitting if mask is None else outlined(fitting, resized_mask(mask, size), width=1)


def _surroundings(mask: NDArray[np.bool_]) -> tuple[slice, slice]:
    """Return the square around the mask with half as much again on each side, at least 32 px wide."""
    positions = np.argwhere(mask)
    low, high = positions.min(0), positions.max(0)
    half = max(16, int((high - low).max()))
    middle = np.clip((low + high) // 2, half, np.maximum(np.asarray(mask.shape) - half, half))
    return slice(max(middle[0] - half, 0), middle[0] + half), slice(max(middle[1] - half, 0), middle[1] + half)
