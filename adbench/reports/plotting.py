"""The look of figures, and figures as files. Drawing functions use matplotlib's Figure, never pyplot.

Figures are drawn at the size at which they are printed, COLUMN or PAGE inches wide, with text of 7 to 8 points; for a screen they
are drawn again, SCREEN inches wide.
Series can be distinguished without color: by hatches of bars, markers of lines, and shades that differ in lightness for
ordered values. The palette is Okabe and Ito's ("Color Universal Design", 2008), safe for the color-blind.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from adbench.core.plots import load_matplotlib
from adbench.data.writing import MARK
from adbench.reports.formats import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

COLUMN, PAGE, SCREEN = 3.3, 7.0, 9.5  # inches: the widths of a paper's column, of its page, and of a screen
INK = "#222222"
_COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#000000", "#999999")
_HATCHES = ("", "////", "....", "xxxx", "----", "\\\\\\\\", "++++", "||||", "oooo")
_MARKERS = "osD^vPX<*"
_DOTS_PER_INCH = 200
_STYLE = Path(__file__).with_name("formats") / "assets" / "figure.mplstyle"


@dataclass(frozen=True)
class Look:
    """Color, hatch and marker of a series; any one of the three identifies it."""

    color: str
    hatch: str
    marker: str


def looks(count: int) -> list[Look]:
    """Return one look per series of an unordered kind; they repeat after nine."""
    known = [Look(*style) for style in zip(_COLORS, _HATCHES, _MARKERS, strict=True)]
    return [known[i % len(known)] for i in range(count)]


def shades(count: int) -> list[Look]:
    """Return one look per series of an ordered kind, from dark to light, so that they differ in gray too."""
    colormaps = load_matplotlib().colormaps
    from matplotlib.colors import to_hex

    lightness = [0.85 * i / max(count - 1, 1) for i in range(count)]  # the lightest shades would vanish on white
    tones = [to_hex(colormaps["viridis"](value)) for value in lightness]
    return [replace(look, color=tone) for tone, look in zip(tones, looks(count), strict=True)]


def images(figure: Figure, kinds: Sequence[str] = ("png", "svg"), width: float = COLUMN) -> dict[str, bytes]:
    """Return the figure as image files by kind, at least `width` inches wide; the same results give the same bytes.

    The files contain caption and description. The user's own matplotlib settings have no effect.
    """
    unstable: dict[str, dict[str, str | None]] = {"png": {"Software": MARK}, "svg": {"Date": None, "Creator": None}}
    files = {kind: io.BytesIO() for kind in kinds}
    with style(width):
        drawing = figure.draw()
        for kind, file in files.items():
            metadata = unstable.get(kind, {}) | {"Title": figure.caption, "Description": figure.description}
            drawing.savefig(file, format=kind, dpi=_DOTS_PER_INCH, metadata=metadata)
    return {kind: file.getvalue() for kind, file in files.items()}


@contextmanager
def style(width: float = COLUMN) -> Iterator[None]:
    """Apply the project's style inside the block, for figures of this width, and restore the user's settings after it."""
    matplotlib = load_matplotlib()
    with matplotlib.rc_context():
        matplotlib.rc_file(_STYLE)  # defaults included
        matplotlib.rcParams["figure.figsize"] = (width, width)
        yield


def wanted_width() -> float:
    """Return the least width, in inches, of the figures that are drawn now."""
    return float(load_matplotlib().rcParams["figure.figsize"][0])


SMALL = 6  # points: the text of remarks inside a panel
_ROW, _FRAME = 0.145, 0.55  # inches: a row's height, the height of titles and axis
LETTER = 0.057  # inches: the width of a letter of 7 points
_NAME = 20  # letters of a layer's name for which a column has room
_MARGIN = 0.6  # inches: what stands beside a panel


def panels(size: tuple[float, float], rows: int = 1, columns: int = 1, **shared: Any) -> tuple[Drawing, NDArray[Any]]:
    """Return a figure of (width, height) inches, wider if that is wanted, and its axes (rows, columns)."""
    load_matplotlib()
    from matplotlib.figure import Figure as Drawing

    drawing = Drawing(figsize=(max(size[0], wanted_width()), size[1]), layout="constrained")
    return drawing, drawing.subplots(rows, columns, squeeze=False, **shared)


def row_panels(
    blocks: Sequence[tuple[str, Sequence[str]]], titles: Sequence[str], below: float = 0
) -> tuple[Drawing, Sequence[Axes], list[list[int]]]:
    """Return a figure of panels side by side that share named rows, its axes, and the heights of each block's rows.

    Blocks have a heading and the labels of the rows below it. `below` inches stay free for a label of all panels.
    """
    lines = [line for heading, labels in blocks for line in [(heading, True), *((label, False) for label in labels)]]
    drawing, (axes,) = panels((COLUMN, _FRAME + below + _ROW * len(lines)), 1, len(titles), sharey=True)
    for panel, title in zip(axes, titles, strict=True):
        panel.set_title(title)
        panel.grid(axis="x")
        panel.tick_params(axis="y", length=0)
    axes[0].set_yticks(range(len(lines)), [text for text, _ in lines])
    axes[0].set_ylim(len(lines) - 0.4, -0.6)
    for label, (_, strong) in zip(axes[0].get_yticklabels(), lines, strict=True):
        label.set_fontweight("bold" if strong else "normal")
    plain = iter([i for i, (_, strong) in enumerate(lines) if not strong])
    return drawing, axes, [[next(plain) for _ in labels] for _, labels in blocks]


def letters_of_names() -> int:
    """Return how many letters the name of a layer may have in the figure that is drawn now."""
    return int(wanted_width() / COLUMN * _NAME)


def name_layers(panel: Axes, names: Sequence[str], inches: float) -> None:
    """Write the layers' names below a panel of at least this width, slanted where they would overlap."""
    panel.set_xticks(range(len(names)), list(names))
    grid = panel.get_gridspec()
    room = max(inches, panel.figure.get_window_extent().width / panel.figure.dpi / grid.ncols - _MARGIN) if grid else inches
    if max(len(line) + 1 for name in names for line in name.split("\n")) * len(names) * LETTER > room:
        panel.tick_params(axis="x", labelrotation=35)
        for label in panel.get_xticklabels():
            label.set(ha="right", rotation_mode="anchor")


def remark(panel: Axes, text: str, point: tuple[float, float], shift: tuple[float, float], **style: Any) -> None:
    """Write a small text at a point in data coordinates, shifted by so many typographic points."""
    panel.annotate(text, point, shift, textcoords="offset points", fontsize=SMALL, annotation_clip=False, **style)


def fill(look: Look, complete: bool) -> dict[str, Any]:
    """Return the style of a bar: filled if it is complete, else hollow with a broken edge."""
    edge = {"facecolor": look.color} if complete else {"facecolor": "white", "linestyle": (0, (2, 1.5))}
    return edge | {"edgecolor": INK, "hatch": look.hatch}
