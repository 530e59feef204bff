"""What is left on another day: how far each metric changes when light, lens or mount of the test images change.

The changes are those of `adbench.data.shifts`; fit and threshold stay as they were. A change is the metric on the shifted
images minus that on the same images as they are, as a mean over categories and seeds. Its interval is that of a paired
difference, from the influence of each test image on both values; seeds are averaged, and say nothing about other ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np

from adbench.data.shifts import AMOUNTS, STRENGTHS
from adbench.metrics import AT_THRESHOLD
from adbench.reports.analyses import Question, register
from adbench.reports.comparison import DASH
from adbench.reports.formats import Figure, Section, Table
from adbench.reports.keys import NONE, Group, KeyedJob, grouped, groups_by, natural
from adbench.reports.plotting import PAGE, looks, panels
from adbench.reports.study_data import AXIS_NAMES, influence_of
from adbench.statistics.influence import Influence
from adbench.types import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

    from adbench.reports.plotting import Look

_AXES = AXIS_NAMES | {"image_fpr": "image FPR", "image_recall": "image recall", "image_f1": "image F1", "seg_f1": "seg F1"}
_HEIGHT, _FRAME, _LEGEND = 0.85, 0.5, 0.16  # inches: a row of panels, what is around them, a line of the legend
_LINES = 6  # of the figure: more configurations could not be told apart


@dataclass(frozen=True)
class Change:
    """A metric's mean over cells on shifted images and as they are, and the half width of the interval of their difference."""

    value: float
    before: float
    margin: float | None

    @property
    def text(self) -> str:
        change = self.value - self.before
        return f"{change:+.3f}" if self.margin is None else f"{change:+.3f} ± {self.margin:.3f}"


@register("robustness")
def section(jobs: Sequence[KeyedJob], question: Question) -> Section:
    """Return a table of the mean change over all shifts, one of each shift, and a figure."""
    title = "What is left on another day?"
    every = [job for job in question.every if job.done]
    found = dict.fromkeys(s for job in sorted(every, key=lambda j: natural(j.job.shift)) if (s := job.job.shift))
    if not found:
        return Section(
            title, notes=["no result has shifted test images; run a sweep with --set shifts=brightness,blur,noise,shift"]
        )
    asked = dict.fromkeys((*question.metrics, *AT_THRESHOLD))
    measures = [m for m in asked if any(j.done and j.done.metrics.get(m) is not None for j in every)]
    groups = groups_by(every, [key for key in question.rows if key not in ("shift", "category")])
    order = [shift for kind in AMOUNTS for shift in found if shift.startswith(f"{kind}:")]
    whole = [[group.label, *(_text(group, order, m, question) for m in measures)] for group in groups]
    single = [
        [group.label, shift, *(_text(group, [shift], m, question) for m in measures)] for group in groups for shift in order
    ]
    over = f"mean over {len(order)} shifts" if len(order) > 1 else order[0]
    tables = [
        Table.of_texts(f"Change of each metric on shifted test images, {over}", ["configuration", *measures], whole, 1),
        Table.of_texts("Change on each shift", ["configuration", "shift", *measures], single, 2),
    ]
    return Section(title, tables, [_figure(groups, order, measures, question)], _notes(every, measures, groups))


def _text(group: Group, shifts: Sequence[str], measure: str, question: Question) -> str:
    change = change_of(group.jobs, shifts, measure, question)
    return change.text if change else DASH


def change_of(jobs: Sequence[KeyedJob], shifts: Sequence[str], measure: str, question: Question) -> Change | None:
    """Return the change of a metric, its mean over some shifts, over the cells (category, seed) that have all of them."""
    cells = grouped(jobs, ["category", "seed"])
    values: dict[str, list[tuple[float, float, Influence | None]]] = {}
    for (category, _), members in cells.items():
        by_shift = {job.job.shift: job.done for job in members if job.done and job.done.metrics.get(measure) is not None}
        if {"", *shifts} <= by_shift.keys():
            values.setdefault(str(category), []).append(_cell(by_shift, shifts, measure, question))
    if not values:
        return None
    after = fmean(fmean(cell[0] for cell in own) for own in values.values())
    before = fmean(fmean(cell[1] for cell in own) for own in values.values())
    parts = [_over_seeds([cell[2] for cell in own]) for own in values.values()]
    known = [part for part in parts if part is not None]
    margin = float(Influence.mean(known).margins()[0]) if len(known) == len(parts) else np.nan
    return Change(after, before, None if np.isnan(margin) else margin)


def _cell(
    results: dict[str, Result], shifts: Sequence[str], measure: str, question: Question
) -> tuple[float, float, Influence | None]:
    """Return the value after and before the shifts, and the influence of the test images on the difference."""
    base = influence_of([measure], [results[""]], question.influence)
    moved = influence_of([measure], [results[shift] for shift in shifts], question.influence)
    both = base is not None and moved is not None and np.array_equal(base.strata, moved.strata)
    difference = replace(base, values=moved.values - base.values) if both and base and moved else None
    after = fmean(float(results[shift].metrics[measure] or 0) for shift in shifts)
    return after, float(results[""].metrics[measure] or 0), difference


def _over_seeds(parts: Sequence[Influence | None]) -> Influence | None:
    """Return the influence on the mean over seeds, which share their test images."""
    known = [part for part in parts if part is not None]
    if len(known) < len(parts) or any(not np.array_equal(part.strata, known[0].strata) for part in known):
        return None
    return replace(known[0], values=np.mean([part.values for part in known], axis=0))


def _notes(jobs: Sequence[KeyedJob], measures: Sequence[str], groups: Sequence[Group]) -> list[str]:
    notes = [
        "a change is the value on shifted images minus that on the images as they are, ± its 95 % interval over test images "
        "(jackknife, paired); no interval where leaving out an image changes nothing"
    ]
    rules = {job.job.thresholds[0] for job in jobs if job.job.thresholds}
    if rules and set(AT_THRESHOLD) & set(measures):
        names = ", ".join(m for m in measures if m in AT_THRESHOLD)
        notes.append(f"{names}: at the threshold of {', '.join(sorted(rules))}, set on held-out good images as they are")
    if len(groups) > _LINES:
        notes.append(f"the figure shows the first {_LINES} of {len(groups)} configurations; --rows chooses")
    return notes


def _figure(groups: Sequence[Group], shifts: Sequence[str], measures: Sequence[str], question: Question) -> Figure:
    kinds = [kind for kind in AMOUNTS if any(shift.startswith(f"{kind}:") for shift in shifts)]
    words = [
        f"{group.label} {_AXES.get(m, m)}: {_text(group, shifts, m, question)}" for group in groups[:_LINES] for m in measures
    ]
    return Figure(
        name="robustness",
        caption="Metrics by strength of a shift of the test images, with 95 % intervals of the change; 0 = as they are",
        description=f"Lines over strengths 0 to 3 of {', '.join(kinds)}. Mean changes: {'; '.join(words)}.",
        draw=lambda: _draw(groups[:_LINES], kinds, measures, question),
    )


def _draw(groups: Sequence[Group], kinds: Sequence[str], measures: Sequence[str], question: Question) -> Drawing:
    size = (PAGE, _FRAME + _LEGEND * len(groups) + _HEIGHT * len(measures))
    drawing, axes = panels(size, len(measures), len(kinds), sharex=True, sharey="row")
    for row, measure in zip(axes, measures, strict=True):
        row[0].set_ylabel(_AXES.get(measure, measure))
        for panel, kind in zip(row, kinds, strict=True):
            panel.grid(axis="y")
            panel.set_xticks([0, *STRENGTHS])
            for number, (group, look) in enumerate(zip(groups, looks(len(groups)), strict=True)):
                _draw_line(panel, group, kind, measure, question, look, 0.06 * (number - (len(groups) - 1) / 2))
    for panel, kind in zip(axes[0], kinds, strict=True):
        panel.set_title(kind)
    drawing.supxlabel("strength of the shift", fontsize="medium")
    drawing.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=1 if len(groups) < 3 else 2)
    return drawing


def _draw_line(panel: Axes, group: Group, kind: str, measure: str, question: Question, look: Look, beside: float) -> None:
    """Draw a configuration's values at each strength; lines are set a little apart, so that their intervals can be seen."""
    found = [(number, change_of(group.jobs, [f"{kind}:{number}"], measure, question)) for number in STRENGTHS]
    known = [(number, change) for number, change in found if change]
    if not known:
        return
    points = [(0, known[0][1].before, 0.0), *((number, one.value, one.margin or 0.0) for number, one in known)]
    at, values, margins = (np.array(column) for column in zip(*points, strict=True))
    ends = np.minimum(margins, values), np.minimum(margins, 1 - values)  # a fraction stays between 0 and 1
    panel.errorbar(
        at + beside, values, yerr=ends, color=look.color, marker=look.marker, markersize=2.5, linewidth=1,
        elinewidth=0.6, label=group.label or NONE,
    )  # fmt: skip
