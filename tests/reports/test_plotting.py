"""Figures as files: the same bytes for the same results, words inside, looks that need no color, another width, dark paper."""

import io
import re
from itertools import pairwise

import matplotlib
import pytest
from matplotlib.figure import Figure as Drawing
from PIL import Image

from adbench.reports.dark_mode import LEAST_CONTRAST, PAPER, contrast, follow_scheme, on_dark
from adbench.reports.formats import Figure
from adbench.reports.plotting import COLUMN, SCREEN, images, looks, name_layers, panels, shades, style
from adbench.reports.study_data import names_in_figure


def a_figure() -> Figure:
    def drawn() -> Drawing:
        drawing = Drawing(figsize=(COLUMN, 1))
        axes = drawing.subplots()
        axes.bar([0, 1], [1, 2], color=looks(1)[0].color, hatch="//")
        axes.set_title("Größe of layer1.2.relu_2")
        return drawing

    return Figure("toy", "Two bars", "a has 1, b has 2", drawn)


def test_the_same_results_give_the_same_bytes() -> None:
    assert images(a_figure()) == images(a_figure())


def test_settings_of_the_user_do_not_count_and_are_left_alone() -> None:
    before = images(a_figure())
    with matplotlib.rc_context({"font.size": 20, "svg.fonttype": "path"}):
        assert images(a_figure()) == before
        assert matplotlib.rcParams["font.size"] == 20


def test_words_travel_inside_the_files() -> None:
    made = images(a_figure())
    svg, png = made["svg"].decode(), Image.open(io.BytesIO(made["png"]))
    assert "<title>Two bars</title>" in svg and "a has 1, b has 2" in svg
    assert "layer1.2.relu_2" in svg  # text is kept as text
    assert png.info["Description"] == "a has 1, b has 2"
    assert png.width == COLUMN * 200


@pytest.mark.parametrize("count", [1, 4, 9])
def test_series_differ_without_color(count: int) -> None:
    found = looks(count)
    assert len({look.hatch for look in found}) == len({look.marker for look in found}) == count


def test_shades_are_ordered_by_lightness() -> None:
    greys = [Image.new("RGB", (1, 1), look.color).convert("L").getpixel((0, 0)) for look in shades(5)]
    assert greys == sorted(greys)
    assert min(b - a for a, b in pairwise(greys)) > 15


def test_a_figure_is_drawn_again_for_a_screen() -> None:
    drawn = Figure("wide", "c", "d", lambda: panels((COLUMN, 1))[0])
    widths = [Image.open(io.BytesIO(images(drawn, ["png"], width)["png"])).width for width in (COLUMN, SCREEN)]
    assert widths == [COLUMN * 200, SCREEN * 200]


NAMES = ["blocks.1.1.add", "blocks.2.1.add+blocks.4.2.add"]


@pytest.mark.parametrize(
    ("width", "lines", "shown"),
    [
        (COLUMN, False, ["blocks.1", "blocks.2+blocks.4"]),
        (COLUMN, True, ["blocks.1.1.add", "blocks.2.1.add+\nblocks.4.2.add"]),
        (SCREEN, False, NAMES),
    ],
)
def test_names_of_layers_are_whole_where_there_is_room(width: float, lines: bool, shown: list[str]) -> None:
    with style(width):
        assert list(names_in_figure(NAMES, lines).values()) == shown


@pytest.mark.parametrize(("width", "angle"), [(COLUMN, 35), (SCREEN, 0)])
def test_names_of_layers_are_slanted_where_they_would_overlap(width: float, angle: float) -> None:
    with style(width):
        _, axes = panels((COLUMN, 1))
        name_layers(axes[0, 0], ["blocks.1.1.add"] * 6, 1.0)
        assert {label.get_rotation() for label in axes[0, 0].get_xticklabels()} == {angle}


@pytest.mark.parametrize("color", [look.color for look in (*looks(9), *shades(9))])
def test_colors_can_be_told_from_dark_paper(color: str) -> None:
    assert contrast(on_dark(color), PAPER) >= LEAST_CONTRAST


def test_gray_is_mirrored_and_bright_colors_stay() -> None:
    assert [on_dark(color) for color in ("#ffffff", "#000000", "#e69f00")] == [PAPER, "#ffffff", "#e69f00"]
    assert contrast("#ffffff", "#000000") == pytest.approx(21) and contrast("#777777", "#777777") == 1


def test_an_svg_has_no_color_that_does_not_follow_the_scheme() -> None:
    svg = follow_scheme(images(a_figure(), ["svg"])["svg"].decode())
    rules, drawing = svg.split("</style>", 1)
    assert "<pattern" in drawing and not re.search(r"""[\s:"]#[0-9a-f]{6}\b""", drawing)
    assert f"--cffffff:{PAPER}" in rules.split("prefers-color-scheme:dark")[1]
