"""Does the pretraining matter, and to which layer (Table 1, Figures 4 and 5 of the paper's supplement)?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from adbench.backbones.pretraining import PRETRAININGS
from adbench.reports import study_data as data
from adbench.reports.comparison import DASH, Comparison
from adbench.reports.formats import Figure, Section, Table
from adbench.reports.keys import VIEW_KEYS, Group, KeyedJob, groups_by, natural, varies
from adbench.reports.plotting import COLUMN, INK, Look, fill, looks, name_layers, panels, remark
from adbench.reports.studies import Study, register

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

KEY = "weights"
FLOORS = {"image_auroc": 0.5}  # where bars start: at chance, of other metrics at 0
_HEIGHT, _BAR, _FRAME = 1.35, 0.08, 0.75  # inches: a panel, a bar's width, legend and names of layers


def section(jobs: Sequence[KeyedJob]) -> Section:
    """Return a table per metric with a column per pretraining, the sources of the weights, and a figure per detector."""
    measures = data.measured(jobs)
    tables, notes = data.pivot_tables(jobs, KEY, measures)
    keys = [*data.figure_keys(jobs), *(key for key in data.backbone_keys(jobs, VIEW_KEYS) if varies(jobs, key))]
    figures = [_figure(group, measures) for group in groups_by(jobs, keys) if measures]
    return Section("Does the pretraining matter?", [*tables, _sources(jobs)], figures, notes)


def _sources(jobs: Sequence[KeyedJob]) -> Table:
    """Return Table 1 of the supplement: where each set of weights comes from, and which file was used."""
    used = {(job.job.weights, job.job.backbone): job.job.weights_sha256 for job in jobs}
    rows = [(*key, *_source(*key, used[key])) for key in sorted(used, key=lambda key: natural(key[0]))]
    return Table.of_texts("Where the weights come from", ["weights", "backbone", "source", "file", "SHA-256"], rows, 5)


def _source(weights: str, backbone: str, sha256: str) -> tuple[str, str, str]:
    if weights == "random":
        return "initialization, drawn by the job's seed", DASH, DASH
    published = PRETRAININGS.items().get(weights)
    digits = sha256[:8] if sha256 != "missing" else "missing: its jobs are skipped"
    if published is None or published.backbone != backbone:
        return "the backbone's library", DASH, digits
    return published.source, published.file, digits


def _figure(group: Group, measures: Sequence[str]) -> Figure:
    comparison = data.compared(group.jobs)
    words = data.in_words(group.jobs, [], lambda members: data.by_value(comparison, members, KEY, "{} {}", measures))
    floors = ", ".join(f"{data.AXIS_NAMES[m]} from {FLOORS.get(m, 0):g}" for m in measures)
    return Figure(
        name=f"pretraining-{data.slug(group.label)}",
        caption=f"{group.label}: metrics by layer and pretraining; layers by receptive field, bars start at {floors}",
        description=f"Grouped bars, one per pretraining. {'. '.join(words)}.",
        draw=lambda: _draw(comparison, group.jobs, measures),
    )


def _draw(comparison: Comparison, jobs: Sequence[KeyedJob], measures: Sequence[str]) -> Drawing:
    layers, labels = (
        list(data.names_in_figure(list(data.by_layer(jobs)), True).values()),
        [group.label for group in groups_by(jobs, [KEY])],
    )
    width = max(COLUMN, _BAR * len(layers) * (len(labels) + 1))
    drawing, axes = panels((width, _FRAME + _HEIGHT * len(measures)), len(measures), sharex=True)
    series = dict(zip(labels, looks(len(labels)), strict=True))
    for panel, measure in zip(axes[:, 0], measures, strict=True):
        _draw_panel(comparison, panel, jobs, measure, series)
    name_layers(axes[-1, 0], layers, width - 0.5)
    drawing.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3, columnspacing=1)
    return drawing


def _draw_panel(comparison: Comparison, panel: Axes, jobs: Sequence[KeyedJob], measure: str, series: dict[str, Look]) -> None:
    """Draw a group of bars per layer with a bar per pretraining; a value below chance hangs down."""
    cells = {(group, weights): [job for job in members if job.job.weights == weights]
             for group, members in enumerate(data.by_layer(jobs).values()) for weights in series}  # fmt: skip
    means = {cell: comparison.mean(members, measure) for cell, members in cells.items() if members}
    width, floor = 0.84 / len(series), FLOORS.get(measure, 0.0)
    for index, (weights, look) in enumerate(series.items()):
        shift = (index - (len(series) - 1) / 2) * width
        panel.bar(0, 0, bottom=floor, label=weights, **fill(look, complete=True))  # for the legend, complete or not
        for group, mean in ((group, mean) for (group, name), mean in means.items() if name == weights):
            height = floor if mean.number == DASH else float(mean.number)
            panel.bar(group + shift, height - floor, width, bottom=floor, **fill(look, mean.complete))
            if not mean.complete:
                point = group + shift, max(height, floor)
                remark(panel, mean.share, point, (0, 2), rotation=90, ha="center", va="bottom")
    lowest = min([floor, *(float(mean.number) - 0.02 for mean in means.values() if mean.number != DASH)])
    panel.set_ylim(lowest, 1.02 if all(mean.complete for mean in means.values()) else 1.15)  # room for n/N
    panel.axhline(floor, color=INK, linewidth=0.6)
    panel.grid(axis="y")
    panel.set_ylabel(data.title(measure))


register("pretraining")(Study(KEY, section))
