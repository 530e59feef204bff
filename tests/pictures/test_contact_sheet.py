"""The contact sheet: as many images of a kind as it has columns, each with its outline."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adbench.data.synthetic.generation import SyntheticImage
from adbench.pictures.contact_sheet import ContactSheet
from adbench.types import Sample

OUTLINE = (255, 32, 160)


def made(kind: str, index: int) -> SyntheticImage:
    mask = np.zeros((64, 96), bool)
    mask[20:40, 30:60] = True
    return SyntheticImage(np.full((64, 96, 3), 90, np.uint8), mask, kind, Sample(Path("a.png"), "a.png", "good", ()), 0, index)


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (2, 2), (7, 3)])
def test_a_row_has_a_limit_and_each_defect_two_outlines(tmp_path: Path, count: int, columns: int) -> None:
    sheet = ContactSheet("Defects", columns=3)
    for index in range(count):
        sheet.add(made("stain", index))
    sheet.save(tmp_path / "sheet.png")
    marked = (np.asarray(Image.open(tmp_path / "sheet.png")) == OUTLINE).all(axis=2)
    across = np.flatnonzero(np.diff(np.r_[False, marked.any(axis=0)].astype(int)) == 1)
    assert len(across) == 2 * columns


def test_each_kind_has_a_row(tmp_path: Path) -> None:
    heights = []
    for kinds in (["stain"], ["stain", "blur"], ["stain", "blur", "hole"]):
        sheet = ContactSheet("Defects")
        for index, kind in enumerate(kinds):
            sheet.add(made(kind, index))
        sheet.save(tmp_path / "sheet.png")
        heights.append(Image.open(tmp_path / "sheet.png").height)
    assert heights[2] - heights[1] == heights[1] - heights[0] > 160
