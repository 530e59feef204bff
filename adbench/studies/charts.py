"""Charts that more than one study draws. Whatever is over a part of the planned categories is hollow and says n/N. No study."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adbench.reports.plotting import COLUMN, INK, Look

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

SMALL = 6  # points, of remarks inside a panel
_ROW, _FRAME = 0.145, 0.55  # inches: a row's height, what titles and the axis take
LETTER = 0.057  # inches: the width of a letter of 7 points


@dataclass(frozen=True)
class Block:
    """A heading and the labels of the rows below it."""

    heading: str
    labels: Sequence[str]


def rows(
    blocks: Sequence[Block], titles: Sequence[str], below: float = 0
) -> tuple[Drawing, list[Axes], list[list[int]]]:
    """Return a figure of panels side by side that share named rows, its axes, and each block's heights in them.

    Rows run from top to bottom, a heading above each block; `below` inches stay free for a label of all panels.
    """
    from matplotlib.figure import Figure as Drawing

    lines = [
        (text, strong)
        for block in blocks
        for text, strong in [(block.heading, True), *((t, False) for t in block.labels)]
    ]
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
