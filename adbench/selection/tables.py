"""Selections and verifications as reports, for every report format."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from adbench.models.command import FPR, attainable_rate
from adbench.reports.comparison import APPROXIMATE, fraction
from adbench.reports.formats import Cell, Figure, Report, Section, Table
from adbench.reports.keys import keyed_jobs, natural, params_labels, varies
from adbench.reports.plotting import PAGE, looks, panels
from adbench.selection.advice import advice
from adbench.selection.ranking import SCORED, Candidate, Excluded, Ranked, score_of
from adbench.selection.select import Selecting, Selection
from adbench.selection.verification import Verdict, Verification
from adbench.statistics.rules import images_needed
from adbench.types import ALL, Job

_NAMED = 3  # candidates that a note names

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

_NAMES = {"backbone": "backbone", "weights": "weights", "layer": "layer", "image_size": "px", "tile": "tile",
          "overlap": "overlap", "detector": "detector", "params": "params", "shots": "shots",
          "rotations": "rotations"}  # fmt: skip
_UNUSED = {"tile": Job.tile, "overlap": Job.overlap, "rotations": Job.rotations}  # named only where they are used
_HEADERS = ("RRF", "score", "95 % interval", "AUROC", "AU-PRO", "ms", "MB", "")
_SPARED = ("AUROC", "AU-PRO", "RRF", "MB", "ms")  # left out in this order where a line is too short
_LEGEND = {
    "AUROC": "AUROC: image AUROC",
    "RRF": "RRF: receptive field / image size",
    "ms": "ms: of one image",
    "MB": "MB: network and detector",
}
_SCORE = "score: the mean of image AUROC and AU-PRO"
_TIES = "ties: not significantly worse than the best at 5 %, all pairs compared"
_SHRUNK = (
    ", pulled toward the mean of its layer plus what its image size gains on average, as far as the rest may be noise; two sizes "
    "of one layer move apart if these sizes differ more for the other layers"
)
_BOUNDED = (
    "memory banks have at most {:,} patches, which hardly moves the ranking; without a bound: "
    "--set 'detectors=[{{name: patchcore, params: {{coreset_max: 0}}}}]'"
)


def selection_report(selection: Selection, top: int | None = None, width: int | None = None) -> Report:
    """Return the ranking as a table; its notes are the advice, the command to train, and the excluded candidates.

    top: how many rows, the best ones; width: most characters of a line, for which columns are left out. None: all.
    """
    ranking = selection.ranking
    cells = keyed_jobs([(one.job, one.result) for one in ranking])
    names = [name for name in _NAMES if name == "layer" or varies(cells, name)]
    alone = sum(one.tied for one in ranking) == 1  # the best ties with itself
    rows = [
        [Cell(str(number)), *(Cell(str(cell.values[name])) for name in names), *_values(one, number == 1, alone)]
        for number, (one, cell) in enumerate(zip(ranking, cells, strict=True), 1)
    ]
    headers = ["", *(_NAMES[name] for name in names), *_HEADERS]
    table = _narrowed(Table(_caption(selection, names), headers, rows[:top], 1 + len(names)), width)
    notes = list(_below(selection, table, len(rows)))
    results = [one.result for one in ranking]
    return Report(table, notes, results=results, folder=selection.folder, commands=[selection.command], answers=2)


def _narrowed(table: Table, width: int | None) -> Table:
    """Return the table without as many columns as needed for lines of `width` characters."""
    for spared in _SPARED:
        columns = zip(table.headers, *([cell.text for cell in row] for row in table.rows), strict=True)
        marked = sum(max(map(len, column)) + 2 for column in columns)  # the mark of the best takes two characters, the gap two
        if width is None or marked <= width:
            break
        kept = [i for i, header in enumerate(table.headers) if header != spared]
        rows = [[row[i] for i in kept] for row in table.rows]
        table = replace(table, headers=[table.headers[i] for i in kept], rows=rows)
    return table


def _below(selection: Selection, table: Table, candidates: int) -> Iterator[str]:
    """Yield the notes under the table."""
    if len(table.rows) < candidates:
        yield f"{candidates - len(table.rows)} more candidates; --top 0 shows all"
    moved = any(one.score != score_of(one.result.metrics) for one in selection.ranking)
    yield _SCORE + _SHRUNK * moved
    if any(row[-1].text for row in table.rows):
        yield _TIES
    yield ". ".join(text for header, text in _LEGEND.items() if header in table.headers)
    bounds = {bound for one in selection.ranking if (bound := one.job.params.get("coreset_max"))}
    yield from map(_BOUNDED.format, sorted(bounds))
    yield from _exclusions(selection.excluded)
    yield ""
    yield advice(selection.ranking, selection.validation.sizes)
    yield f"{_training(selection)}: {selection.command}"


def _training(selection: Selection) -> str:
    """Return which images the command fits to and which set its threshold, in words."""
    images = selection.validation.images
    fitted, fresh = len(images["fit"]) + len(images["validation"]), len(images["reserved"])
    shots = selection.best.job.shots
    few = "" if shots == ALL else f"{shots} of "
    if not fresh:
        return f"train it on {few or 'all '}{fitted} good images; all took part in the selection, so a threshold needs new ones"
    rate = attainable_rate(fresh)
    least = "" if rate == FPR else f"; a rate of {FPR:g} would need {images_needed(FPR)}"
    return f"train it on {few}{fitted} good images; the other {fresh} took no part in the selection and set its threshold{least}"


def forecast_table(ready: Selecting, words: Callable[[float], str]) -> tuple[list[str], list[list[str]]]:
    """Return headings and rows of the candidates to run: a column per view, seconds in `words`."""
    sizes = sorted({one.view for one in ready.estimates}, key=natural)
    rows: dict[Candidate, dict[str, float]] = {}
    for one, cost in ready.estimates.items():
        rows.setdefault(one.without_view, {})[one.view] = cost.seconds()
    names = [name for name in Candidate._fields if len({getattr(one, name) for one in rows}) > 1]
    names = names if "layer" in names else [*names, "layer"]
    headings, labels = [*names, *sizes], params_labels({(one.detector, one.params) for one in rows})
    shown = (one._replace(params=labels[one.detector, one.params]) for one in rows)
    times = ([words(costs[size]) if size in costs else "-" for size in sizes] for costs in rows.values())
    return headings, [[*(str(getattr(one, name)) for name in names), *row] for one, row in zip(shown, times, strict=True)]


def _caption(selection: Selection, names: Sequence[str]) -> str:
    validation, job = selection.validation, selection.best.job
    usual = {"params", "shots", *(name for name, default in _UNUSED.items() if getattr(job, name) == default)}
    constant = [name for name in _NAMES if name not in (*names, *usual)]
    shared = ", ".join(f"{name} {getattr(job, name)}" if name in _UNUSED else str(getattr(job, name)) for name in constant)
    fitted = f"{len(validation.inputs.category.train)} good images"
    if any(one.job.shots != ALL for one in selection.ranking):
        fitted = f"{'some or all' if 'shots' in names else job.shots} of {fitted}"
    count = len(selection.ranking)
    return (
        f"{selection.category}: {count} candidate{'s' * (count != 1)} ({shared}), fitted to {fitted},\n"
        f"scored on {validation.held_out} held-out good images and "
        f"{len(validation.sizes)} copies of these with a synthetic defect"
    )


def _values(one: Ranked, best: bool, alone: bool) -> list[Cell]:
    cost = one.result.cost
    metrics = [f"{one.result.metrics[name]:.3f}" for name in SCORED]
    mark = APPROXIMATE * one.result.field_is_analytic
    numbers = [mark + fraction(one.result.relative_field), f"{one.score:.3f}", "{:.3f} to {:.3f}".format(*one.interval)]
    costs = [f"{cost['latency_ms']:.1f}", f"{cost['memory_mb']:.1f}"]
    texts = [*numbers, *metrics, *costs, "ties" if one.tied and not alone else ""]
    return [Cell(text, best and header == "score") for text, header in zip(texts, _HEADERS, strict=True)]


def _exclusions(excluded: Sequence[Excluded]) -> Iterator[str]:
    """Yield a line per reason, with the candidates that it excludes; those dropped in a round are counted."""
    dropped = Counter(one.reason.split(" on ")[-1] for one in excluded if one.status == "dropped")
    yield from (f"{count} candidates were dropped after a round on {share}" for share, count in dropped.items())
    others: dict[tuple[str, str], list[str]] = {}
    for one in excluded:
        if one.status != "dropped":
            what = "forecast to take too long for the budget" if one.status == "cut" and "forecast" in one.reason else one.reason
            others.setdefault((one.status, what), []).append(f"{one.job.layer} at {one.job.view}")
    for (status, what), names in others.items():
        more = f" and {len(names) - _NAMED} more" * (len(names) > _NAMED)
        yield f"{status}: {', '.join(names[:_NAMED])}{more}: {what}"


_REGRETS = ("regret", "of best fixed", "of others' best", "of random")  # in the order of `Verdict.regrets`
_VERIFICATION_HEADERS = ("category", "chosen", "best", "Spearman", "score", "best score", *_REGRETS)


def verification_report(found: Verification) -> Report:
    """Return a table of one row per category and the means, notes on them, and a plot of synthetic against real scores."""
    rows: list[tuple[list[str], list[float | None]]] = []
    for verdict in found.verdicts:
        names = [verdict.selection.category, _short(verdict.chosen), _short(verdict.best)]
        scores = [verdict.real[verdict.chosen], verdict.real[verdict.best]]
        rows.append((names, [verdict.spearman, *scores, *verdict.regrets.values()]))
    if len(rows) > 1:
        rows.append((["mean", "", ""], [found.mean_spearman, None, None, *found.mean_regrets.values()]))
    texts = [[*names, *(fraction(value, 3) for value in values)] for names, values in rows]
    caption = (
        f"The choice among {len(found.verdicts[0].real)} candidates by synthetic defects, measured on labeled test images. "
        "A score is the mean of image AUROC and AU-PRO. A regret is the score of the best candidate minus that of the choice."
    )
    results = [one.result for verdict in found.verdicts for one in verdict.selection.ranking]
    figure = Figure(
        name="select-verify",
        caption="Synthetic against real score of each candidate. Filled square: the chosen one. Ring: the best one.",
        description=f"One scatter plot per category. {'; '.join(map(_title, found.verdicts))}.",
        draw=lambda: _draw(found.verdicts),
    )
    section = Section("Synthetic and real scores", figures=[figure])
    return Report(Table.of_texts(caption, _VERIFICATION_HEADERS, texts, 3), _notes(found), [section], results, found.folder)


def _short(one: Candidate) -> str:
    return f"{one.layer} {one.view.removesuffix(' px')}"


def _notes(found: Verification) -> list[str]:
    count, (better, equal) = len(found.verdicts), found.wins
    skipped = f"{found.unmeasured} candidates were skipped, since they have no score in at least one category"
    notes = [skipped] if found.unmeasured else []
    if count == 1:
        return ["with one category, the best fixed candidate is the best candidate; verify more categories to compare", *notes]
    return [
        f"the choice is better than the best fixed candidate in {better} of {count} categories and as good in {equal}",
        f"best fixed: {_short(found.fixed)}, the candidate with the best mean score over these categories",
        "others' best: the candidate with the best mean score over the other categories, as known without this one's labels",
        *notes,
    ]


def _title(verdict: Verdict) -> str:
    return f"{verdict.selection.category}: Spearman {fraction(verdict.spearman, 3)}"


def _draw(verdicts: Sequence[Verdict]) -> Drawing:
    columns = min(3, len(verdicts))
    lines = -(-len(verdicts) // columns)
    drawing, grid = panels((PAGE * columns / 3, 2.2 * lines), lines, columns)
    usual, special = looks(2)
    for axes in grid.flat[len(verdicts) :]:
        axes.remove()
    for axes, verdict in zip(grid.flat, verdicts, strict=False):
        chosen, best = verdict.scores[0], max(verdict.scores, key=lambda pair: pair[1])
        axes.plot(*zip(*verdict.scores, strict=True), ".", color=usual.color)
        axes.plot(*chosen, "s", color=special.color)
        axes.plot(*best, "o", color=special.color, fillstyle="none", markersize=9)
        axes.set_title(_title(verdict))
        axes.set_xlabel("score on synthetic defects")
        axes.set_ylabel("score on real defects")
    return drawing
