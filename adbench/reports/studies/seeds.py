"""How far do numbers scatter if only the seed changes?

A cell is the mean over seeds and their sample standard deviation (n - 1): of the mean over categories, or of one category.
It has no deviation while a job is missing, nor over fewer than three seeds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from adbench.metrics import ON_REQUEST, in_order
from adbench.reports import study_data as data
from adbench.reports.comparison import DASH, ENTRY_KEYS, Comparison
from adbench.reports.formats import Figure, Section, Table
from adbench.reports.keys import Group, KeyedJob, choose_rows, grouped, groups_by
from adbench.reports.plotting import INK, looks, remark, row_panels
from adbench.reports.studies import Study, register

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing


def section(jobs: Sequence[KeyedJob]) -> Section:
    """Return mean and deviation of every row and of every category, and a figure per detector with a dot per seed."""
    measures, keys, categories = data.measured(jobs), choose_rows(jobs), data.categories_of(jobs)
    found = (item for job in jobs if job.done for item in job.done.metrics.items())
    names = in_order(name for name, value in found if value is not None and name not in ON_REQUEST)
    rows, comparison = grouped(jobs, keys), data.compared(jobs)
    within = Comparison(jobs, (*ENTRY_KEYS, "category"))
    means = [
        [*map(str, values), _count_seeds(comparison, row), *(data.seed_scatter(comparison, row, name).text for name in names)]
        for values, row in rows.items()
    ]
    caption = "Mean and standard deviation over seeds of the mean over categories"
    tables = [Table.of_texts(caption, [*keys, "seeds", *names], means, len(keys))]
    for measure in measures:
        texts = [
            [
                *map(str, values),
                *(data.seed_scatter(within, [j for j in row if j.job.category == name], measure).text for name in categories),
            ]
            for values, row in rows.items()
        ]
        caption = f"{measure} by category: mean and standard deviation over seeds"
        tables.append(Table.of_texts(caption, [*keys, *categories], texts, len(keys)))
    figures = [_figure(group, measures) for group in groups_by(jobs, data.figure_keys(jobs)) if measures]
    return Section("How much do the seeds matter?", tables, figures, _notes(jobs, rows.values()))


def _count_seeds(comparison: Comparison, jobs: Sequence[KeyedJob]) -> str:
    """Return "n/N": the seeds with a result in all categories, of all seeds."""
    expected = comparison.expected(jobs)
    missing = expected - {comparison.cell(job) for job in jobs if job.done}
    seeds, incomplete = ({seed for _, seed in cells} for cells in (expected, missing))
    return f"{len(seeds - incomplete)}/{len(seeds)}"


def _notes(jobs: Sequence[KeyedJob], rows: Iterable[Sequence[KeyedJob]]) -> list[str]:
    notes = ["±: sample standard deviation over seeds; it shows how training scatters, not how test images do"]
    if few := sum(len({job.job.seed for job in row}) < data.FEWEST_SEEDS for row in rows):
        notes.append(f"too few seeds for a standard deviation in {few} rows: {data.FEWEST_SEEDS} are the least, five are better")
    if any(not job.done for job in jobs):
        notes.append("no standard deviation is given while a job is missing; a number with (n/N) is over n of N")
    return notes


def _figure(detector: Group, measures: Sequence[str]) -> Figure:
    comparison = data.compared(detector.jobs)

    def values(jobs: Sequence[KeyedJob]) -> str:
        return ", ".join(f"{data.AXIS_NAMES[m]} {data.seed_scatter(comparison, jobs, m).text}" for m in measures)

    words = data.in_words(detector.jobs, data.backbone_keys(detector.jobs), values)
    return Figure(
        name=f"seeds-{data.slug(detector.label)}",
        caption=f"{detector.label}: each seed's mean over categories (dots), mean and standard deviation over seeds (bars)",
        description=f"Dots with error bars. {'; '.join(words)}.",
        draw=lambda: _draw(comparison, detector.jobs, measures),
    )


def _draw(comparison: Comparison, jobs: Sequence[KeyedJob], measures: Sequence[str]) -> Drawing:
    groups = [(group.label, data.by_layer(group.jobs)) for group in groups_by(jobs, data.backbone_keys(jobs))]
    blocks = [(label, list(data.names_in_figure(list(layers)).values())) for label, layers in groups]
    drawing, axes, heights = row_panels(blocks, [data.title(measure) for measure in measures])
    for panel, measure in zip(axes, measures, strict=True):
        for (_, layers), block in zip(groups, heights, strict=True):
            for members, y in zip(layers.values(), block, strict=True):
                _draw_row(panel, data.seed_scatter(comparison, members, measure), y)
        panel.locator_params(axis="x", nbins=3)
    return drawing


def _draw_row(panel: Axes, scatter: data.SeedScatter, y: int) -> None:
    """Draw a dot per seed, and below them the mean with its deviation; a partial mean is hollow and shows its share."""
    panel.scatter(scatter.values, [y - 0.2] * len(scatter.values), s=5, color=looks(1)[0].color, linewidths=0, zorder=3)
    if scatter.mean.number == DASH:
        return
    face = INK if scatter.mean.complete else "white"
    center = float(scatter.mean.number)
    panel.errorbar(center, y + 0.15, xerr=scatter.deviation, fmt="D", ms=2.5, color=INK, markerfacecolor=face)
    if not scatter.mean.complete:
        remark(panel, scatter.mean.share, (center, y + 0.15), (4, 0), va="center")


register("seeds")(Study("seed", section, unless=("shots",)))
