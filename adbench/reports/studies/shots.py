"""How many good images are enough?

A learning curve is a metric by the number of good images that a detector was fitted to (`shots`), over the cells that have a
value at every number: pairs of a category and a seed, where the seed draws the images. Every two numbers are compared by
Wilcoxon's signed-rank test over the cells, all p-values with Holm's correction. A number is enough if no comparison among it
and the larger ones finds a significant gain. So the answer is about other draws from these categories, not about other ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from adbench.reports import study_data as data
from adbench.reports.comparison import DASH, fraction
from adbench.reports.formats import Figure, Section, Table
from adbench.reports.keys import NEVER_MIXED, Group, KeyedJob, choose_rows, groups_by, natural, varying
from adbench.reports.plotting import COLUMN, Look, looks, panels
from adbench.reports.studies import Study, register
from adbench.reports.tables import counted
from adbench.statistics.ranks import ALPHA, holm, least_categories, wilcoxon
from adbench.types import ALL, Shots

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

KEY = "shots"
_LINES = 6  # of a figure; with more, each detector or backbone has its own
_SENTENCES = 4  # rows whose answers are sentences; with more, only the best row of a metric
_COLUMNS = 3  # panels side by side
_SHORT = 20  # letters of labels of which two fit side by side
_HEIGHT, _FRAME, _LEGEND = 1.05, 0.5, 0.15  # inches: a row of panels, names of axes, a line of the legend


@dataclass(frozen=True)
class Curve:
    """A metric over numbers of images. values: (levels, cells); cells: (category, seed), sorted; planned: how many there are."""

    label: str
    measure: str
    levels: Sequence[Shots]
    cells: Sequence[tuple[str, int]]
    values: NDArray[np.float64]
    planned: int

    @property
    def means(self) -> NDArray[np.float64]:
        """(levels,): means over seeds, then over categories."""
        names = self.categories
        return np.mean([self.band(name)[1] for name in names], axis=0) if names else np.full(len(self.levels), math.nan)

    @property
    def categories(self) -> list[str]:
        return list(dict.fromkeys(category for category, _ in self.cells))

    def band(self, category: str | None = None) -> NDArray[np.float64]:
        """Return (3, levels): the lowest, mean and highest value over seeds of a category, or of the mean over categories."""
        own = [i for i, cell in enumerate(self.cells) if category in (None, cell[0])]
        seeds = sorted({self.cells[i][1] for i in own})
        of_seeds = [self.values[:, [i for i in own if self.cells[i][1] == seed]].mean(axis=1) for seed in seeds]
        return np.array([np.min(of_seeds, axis=0), np.mean(of_seeds, axis=0), np.max(of_seeds, axis=0)])

    @property
    def testable(self) -> bool:
        """Whether there are enough cells for a test over them to be significant."""
        return len(self.cells) >= self.needed

    @property
    def needed(self) -> int:
        return least_categories(math.comb(len(self.levels), 2))

    @property
    def share(self) -> str:
        """ "n/N" cells, empty if none is missing."""
        return f"{len(self.cells)}/{self.planned}" if len(self.cells) < self.planned else ""

    @cached_property
    def p_values(self) -> dict[tuple[int, int], float]:
        """The corrected p-value of each two levels, the smaller one first."""
        pairs = list(combinations(range(len(self.levels)), 2))
        tests = [wilcoxon(self.values[b], self.values[a]) for a, b in pairs]
        return dict(zip(pairs, holm(np.array(tests)).tolist(), strict=True))

    def gains(self, first: int) -> list[tuple[int, int]]:
        """Return the pairs of levels, from the level `first` on, whose larger one is significantly better."""
        better = self.values.mean(axis=1)
        return [(a, b) for (a, b), p in self.p_values.items() if a >= first and p < ALPHA and better[b] > better[a]]

    @cached_property
    def enough(self) -> int:
        """The lowest level from which on no gain is significant."""
        return next(level for level in range(len(self.levels)) if not self.gains(level))

    @property
    def largest(self) -> tuple[float, str]:
        """The largest gain of a category from `enough` to the last level, and the category."""
        return max((self.band(name)[1, -1] - self.band(name)[1, self.enough], name) for name in self.categories)


def curve(label: str, jobs: Sequence[KeyedJob], measure: str) -> Curve:
    """Return the learning curve of the jobs of a row, over the cells that have a value at every level that has any."""
    found: dict[Shots, dict[tuple[str, int], list[float]]] = {}
    for job in jobs:
        if job.done and (value := job.done.metrics.get(measure)) is not None:
            found.setdefault(job.job.shots, {}).setdefault((job.job.category, job.job.seed), []).append(value)
    levels = sorted(found, key=natural)
    cells = (
        sorted(set.intersection(*map(set, found.values())), key=lambda cell: [natural(part) for part in cell]) if found else []
    )
    values = np.array([[fmean(found[level][cell]) for cell in cells] for level in levels], dtype=np.float64)
    return Curve(label, measure, levels, cells, values, len({(job.job.category, job.job.seed) for job in jobs}))


def section(jobs: Sequence[KeyedJob]) -> Section:
    """Return a table per metric with a column per number of images, the answers, and the learning curves."""
    measures = data.measured(jobs)
    tables, notes = data.pivot_tables(jobs, KEY, measures)
    rows = groups_by(jobs, choose_rows(jobs, (), KEY))
    curves = {measure: [c for row in rows if len((c := curve(row.label, row.jobs, measure)).levels) > 1] for measure in measures}
    curves = {measure: found for measure, found in curves.items() if found}
    answers = [answer(one) for found in curves.values() for one in _worth_a_sentence(found)]
    tested = [_answers(measure, found) for measure, found in curves.items() if any(one.testable for one in found)]
    return Section(
        "How many good images are enough?",
        [*tables, *tested],
        [figure for group in _figure_groups(jobs) for measure in curves if (figure := _figure(group, measure))],
        [*answers, *notes, *([_EXPLAINED] if tested else []), _METHOD],
    )


_EXPLAINED = (
    "enough: the number of images from which on no gain is significant; most: the largest number; gain: from enough to most; "
    "largest gain, in: that of the category that gains most; p: of that mean gain; cells: pairs of category and seed"
)
_METHOD = (
    "a gain is significant if Wilcoxon's test of two numbers of images, paired over categories and seeds, says so after Holm's "
    f"correction for every two numbers (at {ALPHA:.0%}); that is about other draws of images from these categories"
)


def _worth_a_sentence(curves: Sequence[Curve]) -> Sequence[Curve]:
    known = [one for one in curves if one.cells]
    return known if len(known) <= _SENTENCES else [max(known, key=lambda one: one.means[-1])]


def answer(one: Curve) -> str:
    """Return how many images are enough, in a sentence."""
    name = f"{data.AXIS_NAMES[one.measure]}, {one.label}"
    if not one.testable:
        pairs = f"{counted(len(one.cells), 'pair')} of category and seed {'has' if len(one.cells) == 1 else 'have'} every number"
        return f"{name}: whether more images help cannot be tested: {pairs}, and the test needs {one.needed}"
    first, last, means = one.levels[one.enough], one.levels[-1], one.means
    over = f"over {one.share} pairs of category and seed, " if one.share else ""
    if first == last:
        before = one.levels[-2]
        return (
            f"{name}: {over}the gain is significant up to {_images(last)}, {means[-1] - means[-2]:+.3f} from {before} to {last}: "
            "more images may help further"
        )
    gap, category = one.largest
    where = f", {gap:+.3f} in {category}" if len(one.categories) > 1 else ""
    return (
        f"{name}: {over}from {_images(first)} on, no significant gain: {means[one.enough]:.3f} with {first} and "
        f"{means[-1]:.3f} with {last} ({means[-1] - means[one.enough]:+.3f}{where})"
    )


def _images(level: Shots) -> str:
    return "all good images" if level == ALL else counted(level, "good image")


def _answers(measure: str, curves: Sequence[Curve]) -> Table:
    """Return what `answer` says of every row, as a table."""
    headers = ["configuration", "enough", "value", "most", "value of most", "gain", "largest gain", "in", "p", "cells"]
    caption = f"{measure}: from how many images on no gain is significant"
    return Table.of_texts(caption, headers, [[one.label, *_texts(one)] for one in curves], 2)


def _texts(one: Curve) -> list[str]:
    count, share = one.share or str(len(one.cells)), f" ({one.share})" if one.share else ""
    if not one.testable:
        return [*([DASH] * 8), count]
    means, first, last = one.means, one.enough, len(one.levels) - 1
    values = [text for i in (first, last) for text in (str(one.levels[i]), fraction(means[i], 3) + share)]
    if first == last:
        return [*values, *([DASH] * 4), count]
    gap, category = one.largest
    return [*values, f"{means[last] - means[first]:+.3f}", f"{gap:+.3f}", category, f"{one.p_values[first, last]:.2g}", count]


def _figure_groups(jobs: Sequence[KeyedJob]) -> list[tuple[Group, list[Group]]]:
    """Return the jobs of each figure, and the rows that are its lines: a few, so that they can be told apart."""
    rows = [key for key in choose_rows(jobs, (), KEY) if varying(jobs, [key])]
    split = [key for key in rows if key in NEVER_MIXED]
    for key in ("detector", "params", "backbone", "weights"):
        found = [(group, groups_by(group.jobs, [key for key in rows if key not in split])) for group in groups_by(jobs, split)]
        if max((len(lines) for _, lines in found), default=0) <= _LINES:
            break
        split += [key] if key in rows and key not in split else []
    return found


def _figure(group: tuple[Group, list[Group]], measure: str) -> Figure | None:
    own, lines = group
    curves = [one for line in lines if (one := curve(line.label, line.jobs, measure)).cells and len(one.levels) > 1]
    if not curves:
        return None
    words = [
        f"{one.label or 'mean'}: {', '.join(f'{k} {v:.3f}' for k, v in zip(one.levels, one.means, strict=True))}"
        for one in curves
    ]
    what = f"{own.label}: " if own.label else ""
    return Figure(
        name="-".join(filter(None, ("shots", data.slug(own.label), data.slug(measure)))),
        caption=f"{what}{data.AXIS_NAMES[measure]} by number of good images: means over seeds, bands from the lowest seed to the "
        "highest",
        description=f"Learning curves. {'. '.join(words)}.",
        draw=lambda: _draw(curves),
    )


def _draw(curves: Sequence[Curve]) -> Drawing:
    names: list[str | None] = sorted({name for one in curves for name in one.categories}, key=natural)
    names = [None, *names] if len(names) > 1 else names
    labels = [one.label for one in curves if one.label]
    rows, columns = math.ceil(len(names) / _COLUMNS), min(_COLUMNS, len(names))
    abreast = 2 if max(map(len, labels), default=0) <= _SHORT else 1
    size = (COLUMN, _FRAME + _HEIGHT * rows + _LEGEND * math.ceil(len(labels) / abreast))
    drawing, axes = panels(size, rows, columns, sharex=True, sharey=True)
    places = _places({level for one in curves for level in one.levels})
    for panel in axes.flat[len(names) :]:
        panel.remove()
    for number, (panel, name) in enumerate(zip(axes.flat, names, strict=False)):
        panel.set_title(name or "mean", fontweight="bold" if name is None else "normal")
        for one, look in zip(curves, looks(len(curves)), strict=True):
            if name is None or name in one.categories:
                _draw_curve(panel, one, one.band(name), places, look)
        panel.grid(axis="y")
        panel.set_xticks(list(places.values()), [str(level) for level in places])
        panel.tick_params(labelbottom=number + columns >= len(names))
    drawing.supxlabel("good images", fontsize="medium")
    drawing.supylabel(data.AXIS_NAMES[curves[0].measure], fontsize="medium")
    if labels:
        drawing.legend(*axes.flat[0].get_legend_handles_labels(), loc="outside upper center", ncols=abreast)
    return drawing


def _places(levels: set[Shots]) -> dict[Shots, float]:
    """Return the place of each level on the axis: logarithmic, and behind them all images."""
    numbers = sorted(level for level in levels if level != ALL)
    places: dict[Shots, float] = {number: math.log2(number) for number in numbers}
    return places | ({ALL: max(places.values(), default=0.0) + 1} if ALL in levels else {})


def _draw_curve(panel: Axes, one: Curve, band: NDArray[np.float64], places: dict[Shots, float], look: Look) -> None:
    at: Any = [places[level] for level in one.levels]
    panel.fill_between(at, band[0], band[2], color=look.color, alpha=0.2, linewidth=0)
    panel.plot(at, band[1], color=look.color, marker=look.marker, markersize=2.5, label=one.label)


register("shots")(Study(KEY, section))
