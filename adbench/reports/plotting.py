"""How figures look and how they become files; drawing functions need only matplotlib's Figure, never pyplot.

Figures are made at the size they are printed at: COLUMN or PAGE inches wide, so that their text is 7 to 8 points there.
What tells series apart works without colour: hatches for bars, markers for lines, shades that differ in lightness for
ordered values. The palette is Okabe and Ito's ("Color Universal Design", 2008), safe for the colour-blind.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adbench.reports import Figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

COLUMN, PAGE = 3.3, 7.0  # inches: a column of a paper, its whole width
INK, GRID = "#222222", "#d9d9d9"
_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#000000", "#999999")
_HATCHES = ("", "////", "....", "xxxx", "----", "\\\\\\\\", "++++", "||||", "oooo")
_MARKERS = "osD^vPX<*"
_DOTS_PER_INCH = 200
_STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial", "sans-serif"],  # the first comes with matplotlib
    "font.size": 7.5,
    "axes.titlesize": 8,
    "axes.labelsize": 7.5,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.5,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "hatch.linewidth": 0.5,
    "patch.linewidth": 0.6,
    "text.parse_math": False,  # a dollar sign in a name is one
    "svg.fonttype": "none",  # text stays text: to be searched, read aloud and edited
    "svg.hashsalt": "adbench",  # or the names inside an SVG would be random
}


@dataclass(frozen=True)
class Look:
    """What a series is recognised by: any one of the three is enough."""

    colour: str
    hatch: str
    marker: str


def looks(count: int) -> list[Look]:
    """Return one look per series of a kind without order; after nine they begin again."""
    styles = zip(_COLOURS, _HATCHES, _MARKERS, strict=True)
    known = [Look(*style) for style in styles]
    return [known[i % len(known)] for i in range(count)]


def shades(count: int) -> list[Look]:
    """Return one look per series of an ordered kind, from dark to light, as lightness is all that grey keeps."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    places = [0.85 * i / max(count - 1, 1) for i in range(count)]  # the lightest would vanish on white
    return [Look(to_hex(colormaps["viridis"](p)), look.hatch, look.marker)
            for p, look in zip(places, looks(count), strict=True)]  # fmt: skip


def images(figure: Figure, kinds: Sequence[str] = ("png", "svg")) -> dict[str, bytes]:
    """Return the figure as image files by kind; the same results give the same bytes.

    Caption and description travel inside the file. Settings of the user's own matplotlib do not count.
    """
    with style():
        drawing = figure.draw()
        return {kind: _encoded(drawing, kind, figure) for kind in kinds}


def _encoded(drawing: Drawing, kind: str, figure: Figure) -> bytes:
    unstable = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}
    metadata = unstable.get(kind, {}) | {"Title": figure.caption, "Description": figure.description}
    out = io.BytesIO()
    drawing.savefig(out, format=kind, dpi=_DOTS_PER_INCH, metadata=metadata)
    return out.getvalue()


@contextmanager
def style() -> Iterator[None]:
    """Draw and save in the project's style inside; the user's own settings are as before afterwards."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield
