"""Frames around pictures: texts that fit, the color bar's places, rows of panels."""

import numpy as np
import pytest

from adbench.pictures.frames import ColorBar, fitted, framed, heat_colors, sized_font

BAR = ColorBar(10.0, 15.0, 30.0, [("typical", 10.0), ("highest of all", 30.0)])
BLACK, WHITE = np.zeros((40, 200, 3), np.uint8), np.full((40, 200, 3), 255, np.uint8)


@pytest.mark.parametrize(("value", "place"), [(10, 0), (15, 0.25), (30, 1), (5, 0), (99, 1)])
def test_places_on_the_bar(value: float, place: float) -> None:
    assert BAR.place(value) == place


def test_a_bar_without_range_has_one_place() -> None:
    assert ColorBar(1.0, 1.0, 1.0, []).place(1.0) == 0


def test_only_the_colored_part_of_the_bar_has_colors() -> None:
    drawn = np.asarray(framed(["title"], [("", WHITE)], bar=BAR))
    rows, columns = np.nonzero((drawn == heat_colors()[255]).all(axis=2))
    assert len(set(rows)) > 4 and 48 < columns.min() <= columns.max() < 60  # a quarter of 200 px beside a margin


def test_a_long_name_keeps_its_ends() -> None:
    font = sized_font(13)
    short = fitted("a_long_name_of_a_file_000123.png", font, 120)
    assert short.startswith("a_l") and short.endswith("23.png") and "…" in short and font.getlength(short) <= 120
    assert fitted("a.png", font, 120) == "a.png"


@pytest.mark.parametrize(
    ("name", "drawn"), [("a\nb.png", r"a\nb.png"), ("a\udce9.png", r"a\udce9.png"), ("日本 é.png", "日本 é.png")]
)
def test_a_name_of_any_characters_is_drawn(name: str, drawn: str) -> None:
    assert fitted(name, sized_font(13), 500) == drawn
    framed([name], [(name, WHITE)])


def test_panels_stand_in_rows() -> None:
    one, two = (framed([], [("", BLACK), ("", WHITE)], columns) for columns in (1, 2))
    assert one.width < two.width < 2 * one.width and two.height < one.height < 2 * two.height
