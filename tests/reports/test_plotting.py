"""Figures as files: the same bytes for the same results, words inside, looks that need no color."""

import io
from itertools import pairwise

import matplotlib
import pytest
from matplotlib.figure import Figure as Drawing
from PIL import Image

from adbench.reports.formats import Figure
from adbench.reports.plotting import COLUMN, images, looks, shades


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
