"""Does the pretraining matter, and to which layer (Table 1, Figures 4 and 5 of the paper's supplement)?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from adbench.backbones.pretraining import PRETRAININGS
from adbench.reports.formats import Cell, Figure, Section, Table
from adbench.reports.grid import AXIS_NAMES, MEASURES, blocks, cut, figure_keys, layers, mean, measured, short_names, slug
from adbench.reports.keys import Entry, choose_rows, natural, varies
from adbench.reports.plotting import COLUMN, INK, Look, fill, looks, name_layers, remark
from adbench.reports.studies import Study, register
from adbench.reports.tables import DASH, Mean, partial_note, tabulated

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

KEY = "weights"
FLOORS = {"image_auroc": 0.5}  # where bars start: chance; else 0
_HEIGHT, _BAR, _FRAME = 1.35, 0.08, 0.75  # inches: a panel, a bar's width, legend and names of layers


def section(found: Sequence[Entry]) -> Section:
    """Return a table per metric with a column per pretraining, where the weights come from, and a figure per detector."""
    shown = measured(found)
    made = [tabulated(found, choose_rows(found, (), KEY), KEY, [measure]) for measure in shown]
    keys = [*figure_keys(found), *(key for key in blocks(found, ["image_size"]) if varies(found, key))]
    return Section(
        "Does the pretraining matter?",
        tables=[*(table for table, _ in made), _sources(found)],
        figures=[_figure(part.label, part.entries, shown) for part in cut(found, keys) if shown],
        notes=partial_note([row for _, means in made for row in means]),
    )


def _sources(found: Sequence[Entry]) -> Table:
    """Table 1: where each set of weights comes from, and which file was used."""
    used = {(entry.job.weights, entry.job.backbone): entry.job.weights_sha256 for entry in found}
    rows = [(*key, *_source(key[0], used[key])) for key in sorted(used, key=lambda key: natural(KEY, key[0]))]
    return Table(
        "Where the weights come from",
        ["weights", "backbone", "source", "file", "SHA-256"],
        [[Cell(text) for text in row] for row in rows],
        num_labels=5,
    )


def _source(label: str, sha256: str) -> tuple[str, str, str]:
    made = PRETRAININGS.items().get(label)
    if label == "random":
        return "initialisation with a fixed seed", DASH, DASH
    digits = sha256[:8] if sha256 != "missing" else "missing: its jobs are skipped"
    return (made.source, made.file, digits) if made else ("the backbone's library", DASH, digits)


def _figure(name: str, found: Sequence[Entry], shown: Sequence[str]) -> Figure:
    said = (
        f"{layer}: " + "; ".join(f"{AXIS_NAMES[m]} {_by_weights(entries, m)}" for m in shown)
        for layer, entries in layers(found).items()
    )
    floor = ", ".join(f"{AXIS_NAMES[m]} from {FLOORS.get(m, 0):g}" for m in shown)
    return Figure(
        name=f"pretraining-{slug(name)}",
        caption=f"{name}: metrics by layer and pretraining; layers by receptive field, bars start at {floor}",
        description=f"Grouped bars, one per pretraining. {'. '.join(said)}.",
        draw=lambda: _drawn(found, shown),
    )


def _by_weights(entries: Sequence[Entry], measure: str) -> str:
    return ", ".join(f"{part.label} {mean(part.entries, measure).text}" for part in cut(entries, [KEY]))


def _drawn(found: Sequence[Entry], shown: Sequence[str]) -> Drawing:
    from matplotlib.figure import Figure as Drawing

    names, labels = list(short_names(list(layers(found))).values()), [part.label for part in cut(found, [KEY])]
    width = max(COLUMN, _BAR * len(names) * (len(labels) + 1))
    drawing = Drawing(figsize=(width, _FRAME + _HEIGHT * len(shown)), layout="constrained")
    panels = drawing.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0]
    series = dict(zip(labels, looks(len(labels)), strict=True))
    for panel, measure in zip(panels, shown, strict=True):
        _panel(panel, found, measure, series)
    name_layers(panels[-1], names, width - 0.5)
    drawing.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, columnspacing=1)
    return drawing


def _panel(panel: Axes, found: Sequence[Entry], measure: str, series: dict[str, Look]) -> None:
    """Groups of bars, one group per layer, one bar per pretraining; what is worse than chance hangs down."""
    cells = {(part, label): [entry for entry in entries if entry.job.weights == label]
             for part, entries in enumerate(layers(found).values()) for label in series}  # fmt: skip
    means = {place: mean(entries, measure) for place, entries in cells.items() if entries}
    width, floor = 0.84 / len(series), FLOORS.get(measure, 0.0)
    for index, (label, look) in enumerate(series.items()):
        shift = (index - (len(series) - 1) / 2) * width
        panel.bar(0, 0, bottom=floor, label=label, **fill(look, complete=True))  # for the legend, complete or not
        for group in (part for part, name in means if name == label):
            _bar(panel, group + shift, means[group, label], (width, floor), look)
    lowest = min([floor, *(float(value.number) - 0.02 for value in means.values() if value.number != DASH)])
    panel.set_ylim(lowest, 1.02 if all(value.complete for value in means.values()) else 1.15)  # room for n/N
    panel.axhline(floor, color=INK, linewidth=0.6)
    panel.grid(axis="y")
    panel.set_ylabel(f"{MEASURES[measure]}\n({AXIS_NAMES[measure]})")


def _bar(panel: Axes, place: float, value: Mean, shape: tuple[float, float], look: Look) -> None:
    width, floor = shape
    height = floor if value.number == DASH else float(value.number)
    panel.bar(place, height - floor, width, bottom=floor, **fill(look, value.complete))
    if not value.complete:
        remark(panel, value.share, (place, max(height, floor)), (0, 2), rotation=90, ha="center", va="bottom")


register("pretraining")(Study(KEY, section))
