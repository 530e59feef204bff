"""Which layer is best, category by category (Figure 2 of the paper's supplement)?

A layer is best in a category if no other layer of the same backbone has a higher value there, as printed (three digits);
layers that tie are each best. A category counts once all layers of the backbone have a value in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from adbench.reports import study_data as data
from adbench.reports.comparison import DASH, ENTRY_KEYS, Comparison
from adbench.reports.formats import Figure, Section, Table
from adbench.reports.keys import KeyedJob, groups_by
from adbench.reports.plotting import fill, remark, row_panels, shades
from adbench.reports.studies import Study, register
from adbench.reports.study_data import AXIS_NAMES, MEASURES, by_layer, receptive_field, short_names
from adbench.reports.tables import analytic_note

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

_LABEL = 0.35  # inches: two lines below the panels


@dataclass(frozen=True)
class Winners:
    """The best layers of each category in which all layers have a value, out of `planned` categories."""

    best: dict[str, list[str]]
    planned: int

    @property
    def share(self) -> str:
        """ "n/N" categories, empty if all count."""
        return "" if len(self.best) == self.planned else f"{len(self.best)}/{self.planned}"

    def wins(self, layer: str) -> int:
        return sum(layer in names for names in self.best.values())

    def text(self, layer: str) -> str:
        """The number of categories in which a layer is best, with the share of an unfinished sweep."""
        if not self.best:
            return f"{DASH} ({self.share})"
        return f"{self.wins(layer)} ({self.share})" if self.share else str(self.wins(layer))


def winners(jobs: Sequence[KeyedJob], measure: str, planned: int) -> Winners:
    """Return which layers are best by a measure, in each category in which all layers have a value for the same seeds."""
    layers, best = by_layer(jobs), {}
    comparison = Comparison(jobs, (*ENTRY_KEYS, "category"))
    for category in data.categories_of(jobs):
        own = {name: [job for job in members if job.job.category == category] for name, members in layers.items()}
        means = {name: comparison.mean(members, measure) for name, members in own.items()}
        if all(mean.complete for mean in means.values()):
            highest = max(float(mean.number) for mean in means.values())
            best[category] = [name for name, mean in means.items() if float(mean.number) == highest]
    return Winners(best, planned)


@dataclass(frozen=True)
class Backbone:
    """One backbone under one detector: its layers, small receptive field to large, and the winners by each measure."""

    label: str
    layers: dict[str, list[KeyedJob]]
    winners: dict[str, Winners]

    @cached_property
    def short(self) -> dict[str, str]:
        """The short name of each layer."""
        return short_names(list(self.layers))


def section(jobs: Sequence[KeyedJob]) -> Section:
    """Return the counts as a table and a figure per detector, and the best layers of each category."""
    measures, keys, planned = data.measured(jobs), data.backbone_keys(jobs), len(data.categories_of(jobs))
    detectors: dict[str, list[Backbone]] = {}
    for detector in groups_by(jobs, data.figure_keys(jobs)):
        backbones = [
            Backbone(group.label, by_layer(group.jobs), {measure: winners(group.jobs, measure, planned) for measure in measures})
            for group in groups_by(detector.jobs, keys)
        ]
        if compared := [backbone for backbone in backbones if len(backbone.layers) > 1]:
            detectors[detector.label] = compared
    side_by_side = {name: {backbone.label: backbone for backbone in backbones} for name, backbones in detectors.items()}
    labels = {label for columns in side_by_side.values() for label in columns}
    if len(labels) == 1:  # a single backbone: all detectors in one table
        side_by_side = {labels.pop(): {name: backbones[0] for name, backbones in detectors.items()}}
    return Section(
        "Which layer is best?",
        tables=[
            *(_counts(detectors, measure) for measure in measures),
            *(_best(name, columns, measure) for name, columns in side_by_side.items() for measure in measures),
        ],
        figures=[_figure(name, backbones) for name, backbones in detectors.items() if measures],
        notes=_notes([backbone for backbones in detectors.values() for backbone in backbones]),
    )


def _counts(detectors: dict[str, list[Backbone]], measure: str) -> Table:
    """Return a table with a row per backbone and layer and a column per detector."""
    rows: dict[tuple[str, str], list[KeyedJob]] = {}
    for backbone in (backbone for backbones in detectors.values() for backbone in backbones):
        for layer, members in backbone.layers.items():
            rows.setdefault((backbone.label, layer), []).extend(members)
    columns = [{backbone.label: backbone for backbone in backbones} for backbones in detectors.values()]
    texts = [
        [label, layer, *data.field_texts(members)]
        + [b.winners[measure].text(layer) if (b := of.get(label)) and layer in b.layers else DASH for of in columns]
        for (label, layer), members in rows.items()
    ]
    caption = f"Number of categories in which a layer is best for {MEASURES[measure]} ({AXIS_NAMES[measure]})"
    return Table.of_texts(caption, ["backbone", "layer", "RF px", "RRF", *detectors], texts, num_labels=2)


def _best(name: str, columns: dict[str, Backbone], measure: str) -> Table:
    jobs = [job for backbone in columns.values() for members in backbone.layers.values() for job in members]
    texts = []
    for category in data.categories_of(jobs):
        best = [[b.short[layer] for layer in b.winners[measure].best.get(category, [])] for b in columns.values()]
        texts.append([category, *(", ".join(names) or DASH for names in best)])
    caption = f"Best layer of each category for {MEASURES[measure]} ({AXIS_NAMES[measure]}), {name}"
    return Table.of_texts(caption, ["category", *columns], texts, num_labels=1 + len(columns))


def _notes(backbones: Sequence[Backbone]) -> list[str]:
    notes = ["a layer is best in a category if none of the same backbone has a higher value as printed; ties count for each"]
    if any(won.share for backbone in backbones for won in backbone.winners.values()):
        notes.append("a number with (n/N) counts n of N planned categories: those in which all layers have a value")
    if known := [backbone for backbone in backbones if any(map(receptive_field, backbone.layers.values()))]:
        name = known[0].label.partition(",")[0]
        notes.append(
            "RF: receptive field, estimated from gradients; RRF: RF / image size; the fields as in the paper's Figure 1: "
            f"adbench rf {name} --figure FILE.png"
        )
        notes += analytic_note([job for backbone in known for members in backbone.layers.values() for job in members])
    return notes


def _figure(detector: str, backbones: Sequence[Backbone]) -> Figure:
    return Figure(
        name=f"layers-{data.slug(detector)}",
        caption=f"{detector}: number of categories in which a layer is best, layers by relative receptive field (in brackets)",
        description=f"Bars. {'; '.join(map(_description, backbones))}.",
        draw=lambda: _draw(backbones),
    )


def _description(backbone: Backbone) -> str:
    counts = (
        f"{MEASURES[measure]} of {won.planned} categories: "
        + ", ".join(f"{short} {won.text(layer)}" for layer, short in backbone.short.items())
        for measure, won in backbone.winners.items()
    )
    return f"{backbone.label}, {'; '.join(counts)}"


def _draw(backbones: Sequence[Backbone]) -> Drawing:
    measures = list(backbones[0].winners)
    names = [data.names_in_figure(list(b.layers)) for b in backbones]
    blocks = [
        (b.label, [f"{shown[name]} ({data.field_texts(of)[1]})" for name, of in b.layers.items()])
        for b, shown in zip(backbones, names, strict=True)
    ]
    drawing, axes, heights = row_panels(blocks, [data.title(measure) for measure in measures], _LABEL)
    for panel, measure in zip(axes, measures, strict=True):
        for backbone, block in zip(backbones, heights, strict=True):
            won, tones = backbone.winners[measure], shades(len(backbone.layers))
            for layer, y, look in zip(backbone.layers, block, tones, strict=True):
                style = fill(replace(look, hatch=""), complete=not won.share)  # the row's label identifies it
                panel.barh(y, won.wins(layer), height=0.75, **style)
                remark(panel, won.text(layer), (won.wins(layer), y), (2, 0), va="center")
        panel.set_xlim(0, 1.15 * max(backbone.winners[measure].planned for backbone in backbones))  # room for the numbers
        panel.locator_params(axis="x", integer=True, nbins=4)
    drawing.supxlabel(
        "number of categories in which the layer is best\n(in brackets: relative receptive field)", fontsize="medium"
    )
    return drawing


register("layers")(Study("layer", section, unless=("weights", "view", "shots", "rotations")))
