"""Which layer is best, category by category (Figure 2 of the paper's supplement)?

A layer is best in a category if no other layer of the same backbone has a higher value there, as printed (three digits);
layers that tie are each best. A category counts once all layers of the backbone have a value in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from adbench.reports.formats import Cell, Figure, Section, Table
from adbench.reports.grid import (
    AXIS_NAMES,
    MEASURES,
    blocks,
    cut,
    field_of,
    figure_keys,
    fraction,
    layers,
    mean,
    measured,
    relative_field,
    short_names,
    slug,
)
from adbench.reports.keys import Entry, natural
from adbench.reports.plotting import Block, fill, remark, rows, shades
from adbench.reports.studies import Study, register
from adbench.reports.tables import DASH

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

_LABEL = 0.35  # inches: two lines below the panels


@dataclass(frozen=True)
class Winners:
    """The best layers of each category that counts, out of `planned` ones."""

    best: dict[str, list[str]]
    planned: int

    @property
    def share(self) -> str:
        """ "n/N" categories, empty if all count."""
        return "" if len(self.best) == self.planned else f"{len(self.best)}/{self.planned}"

    def wins(self, layer: str) -> int:
        return sum(layer in names for names in self.best.values())

    def text(self, layer: str) -> str:
        """The number of categories in which a layer is best; of an unfinished sweep only with its share."""
        if not self.best:
            return f"{DASH} ({self.share})"
        return f"{self.wins(layer)} ({self.share})" if self.share else str(self.wins(layer))


def winners(entries: Sequence[Entry], measure: str) -> Winners:
    """Return which layers are best by a measure, in each category in which all layers have a value."""
    by_layer = layers(entries)
    categories = sorted({entry.job.category for entry in entries}, key=lambda name: natural("category", name))
    best = {}
    for category in categories:
        means = {name: mean([e for e in found if e.job.category == category], measure) for name, found in by_layer.items()}
        if all(value.complete for value in means.values()):
            highest = max(float(value.number) for value in means.values())
            best[category] = [name for name, value in means.items() if float(value.number) == highest]
    return Winners(best, len(categories))


@dataclass(frozen=True)
class Backbone:
    """One backbone as one detector saw it: its layers, small receptive field to large, and who wins by each measure."""

    label: str
    layers: dict[str, list[Entry]]
    winners: dict[str, Winners]


def section(found: Sequence[Entry]) -> Section:
    """Return the counts as a table and a figure per detector, and the best layers of each category."""
    shown, keys = measured(found), blocks(found)
    detectors = {
        part.label: seen
        for part in cut(found, figure_keys(found))
        if (seen := [b for b in _backbones(part.entries, keys, shown) if len(b.layers) > 1])
    }
    return Section(
        "Which layer is best?",
        tables=[
            *(_counts(detectors, measure) for measure in shown),
            *(_best(of, columns, measure) for of, columns in _side_by_side(detectors).items() for measure in shown),
        ],
        figures=[_figure(name, seen) for name, seen in detectors.items() if shown],
        notes=_notes(detectors),
    )


def _backbones(entries: Sequence[Entry], keys: Sequence[str], shown: Sequence[str]) -> list[Backbone]:
    return [
        Backbone(part.label, layers(part.entries), {measure: winners(part.entries, measure) for measure in shown})
        for part in cut(entries, keys)
    ]


def _counts(detectors: dict[str, list[Backbone]], measure: str) -> Table:
    """One row per backbone and layer, one column per detector."""
    rows: dict[tuple[str, str], list[Entry]] = {}
    for backbone in (b for seen in detectors.values() for b in seen):
        for layer, entries in backbone.layers.items():
            rows.setdefault((backbone.label, layer), []).extend(entries)
    columns = [{b.label: b for b in seen} for seen in detectors.values()]
    return Table(
        f"Number of categories in which a layer is best for {MEASURES[measure]} ({AXIS_NAMES[measure]})",
        ["backbone", "layer", "RF px", "RRF", *detectors],
        [
            [
                *map(Cell, (label, layer, fraction(field_of(entries), 0), fraction(relative_field(entries)))),
                *(Cell(_count(seen.get(label), layer, measure)) for seen in columns),
            ]
            for (label, layer), entries in rows.items()
        ],
        num_labels=2,
    )


def _count(backbone: Backbone | None, layer: str, measure: str) -> str:
    return backbone.winners[measure].text(layer) if backbone and layer in backbone.layers else DASH


def _side_by_side(detectors: dict[str, list[Backbone]]) -> dict[str, dict[str, Backbone]]:
    """Return the columns of each table of best layers: detectors of the one backbone, else backbones of each detector."""
    labels = {backbone.label for seen in detectors.values() for backbone in seen}
    if len(labels) == 1:
        return {labels.pop(): {name: seen[0] for name, seen in detectors.items()}}
    return {name: {backbone.label: backbone for backbone in seen} for name, seen in detectors.items()}


def _best(of: str, columns: dict[str, Backbone], measure: str) -> Table:
    """One row per category, the names of the best layers in it."""
    categories = {e.job.category for b in columns.values() for entries in b.layers.values() for e in entries}
    return Table(
        f"Best layer of each category for {MEASURES[measure]} ({AXIS_NAMES[measure]}), {of}",
        ["category", *columns],
        [
            [Cell(category), *(Cell(_names(b, measure, category)) for b in columns.values())]
            for category in sorted(categories, key=lambda name: natural("category", name))
        ],
        num_labels=1 + len(columns),
    )


def _names(backbone: Backbone, measure: str, category: str) -> str:
    best, short = backbone.winners[measure].best.get(category, []), short_names(list(backbone.layers))
    return ", ".join(short[layer] for layer in best) or DASH


def _notes(detectors: dict[str, list[Backbone]]) -> list[str]:
    everyone = [(won, b.layers) for seen in detectors.values() for b in seen for won in b.winners.values()]
    notes = ["a layer is best in a category if none of the same backbone has a higher value as printed; ties count for each"]
    if any(won.share for won, _ in everyone):
        notes.append("a number with (n/N) counts n of N planned categories: those in which all layers have a value")
    if known := [b for seen in detectors.values() for b in seen if any(field_of(of) for of in b.layers.values())]:
        backbone = known[0].label.partition(",")[0]
        notes.append(
            "RF: analytic receptive field; RRF: RF / image size; the estimated fields of the paper's Figure 1: "
            f"adbench rf {backbone} --figure FILE.png"
        )
    return notes


def _figure(name: str, seen: Sequence[Backbone]) -> Figure:
    return Figure(
        name=f"layers-{slug(name)}",
        caption=f"{name}: number of categories in which a layer is best, layers by relative receptive field (in brackets)",
        description=f"Bars. {'; '.join(_described(b) for b in seen)}.",
        draw=lambda: _drawn(seen),
    )


def _described(backbone: Backbone) -> str:
    short = short_names(list(backbone.layers))
    counts = (
        f"{MEASURES[measure]} of {won.planned} categories: "
        + ", ".join(f"{short[layer]} {won.text(layer)}" for layer in backbone.layers)
        for measure, won in backbone.winners.items()
    )
    return f"{backbone.label}, {'; '.join(counts)}"


def _drawn(seen: Sequence[Backbone]) -> Drawing:
    measures = list(seen[0].winners)
    titles = [f"{MEASURES[measure]}\n({AXIS_NAMES[measure]})" for measure in measures]
    drawing, axes, heights = rows([Block(b.label, _row_labels(b)) for b in seen], titles, _LABEL)
    for panel, measure in zip(axes, measures, strict=True):
        for backbone, block in zip(seen, heights, strict=True):
            _bars(panel, backbone, measure, block)
        panel.set_xlim(0, 1.15 * max(b.winners[measure].planned for b in seen))  # room for the numbers
        panel.locator_params(axis="x", integer=True, nbins=4)
    label = "number of categories in which the layer is best\n(in brackets: relative receptive field)"
    drawing.supxlabel(label, fontsize="medium")
    return drawing


def _row_labels(backbone: Backbone) -> list[str]:
    short = short_names(list(backbone.layers))
    return [f"{short[name]} ({fraction(relative_field(found))})" for name, found in backbone.layers.items()]


def _bars(panel: Axes, backbone: Backbone, measure: str, heights: Sequence[int]) -> None:
    won, tones = backbone.winners[measure], shades(len(backbone.layers))
    for layer, y, look in zip(backbone.layers, heights, tones, strict=True):
        style = fill(replace(look, hatch=""), complete=not won.share)  # a row's label tells it apart
        panel.barh(y, won.wins(layer), height=0.75, **style)
        remark(panel, won.text(layer), (won.wins(layer), y), (2, 0), va="center")


register("layers")(Study("layer", section, unless=("weights", "image_size")))
