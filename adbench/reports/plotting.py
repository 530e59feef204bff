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

from adbench.reports.formats import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
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


SMALL = 6  # points, of remarks inside a panel
_ROW, _FRAME = 0.145, 0.55  # inches: a row's height, what titles and the axis take
LETTER = 0.057  # inches: the width of a letter of 7 points


@dataclass(frozen=True)
class Block:
    """A heading and the labels of the rows below it."""

    heading: str
    labels: Sequence[str]


def rows(blocks: Sequence[Block], titles: Sequence[str], below: float = 0) -> tuple[Drawing, list[Axes], list[list[int]]]:
    """Return a figure of panels side by side that share named rows, its axes, and each block's heights in them.

    Rows run from top to bottom, a heading above each block; `below` inches stay free for a label of all panels.
    """
    from matplotlib.figure import Figure as Drawing

    lines = [(text, strong) for block in blocks for text, strong in [(block.heading, True), *((t, False) for t in block.labels)]]
    drawing = Drawing(figsize=(COLUMN, _FRAME + below + _ROW * len(lines)), layout="constrained")
    axes = list(drawing.subplots(1, len(titles), sharey=True, squeeze=False)[0])
    for panel, title in zip(axes, titles, strict=True):
        panel.set_title(title)
        panel.grid(axis="x")
        panel.tick_params(axis="y", length=0)
    axes[0].set_yticks(range(len(lines)), [text for text, _ in lines])
    axes[0].set_ylim(len(lines) - 0.4, -0.6)
    for label, (_, strong) in zip(axes[0].get_yticklabels(), lines, strict=True):
        label.set_fontweight("bold" if strong else "normal")
    plain = [i for i, (_, strong) in enumerate(lines) if not strong]
    starts = [sum(len(block.labels) for block in blocks[:i]) for i in range(len(blocks))]
    return drawing, axes, [plain[s : s + len(b.labels)] for s, b in zip(starts, blocks, strict=True)]


def name_layers(panel: Axes, names: Sequence[str], inches: float) -> None:
    """Write the layers' names below a panel of this width, slanted if they would touch."""
    panel.set_xticks(range(len(names)), list(names))
    if sum(len(name) + 1 for name in names) * LETTER > inches:
        panel.tick_params(axis="x", labelrotation=35)
        for label in panel.get_xticklabels():
            label.set(ha="right", rotation_mode="anchor")


def remark(panel: Axes, text: str, place: tuple[float, float], shift: tuple[float, float], **style: Any) -> None:
    """Write a small text at a place in data coordinates, moved by so many points."""
    panel.annotate(text, place, shift, textcoords="offset points", fontsize=SMALL, annotation_clip=False, **style)


def fill(look: Look, complete: bool) -> dict[str, Any]:
    """Return how a bar or a marker's face is drawn: filled, or hollow with a broken edge."""
    if complete:
        return {"facecolor": look.colour, "edgecolor": INK, "hatch": look.hatch}
    return {"facecolor": "white", "edgecolor": INK, "hatch": look.hatch, "linestyle": (0, (2, 1.5))}
