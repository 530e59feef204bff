"""Selections and verifications as reports, for every report format."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from adbench.reports.formats import Cell, Figure, Report, Section, Table
from adbench.reports.keys import keyed_jobs, varies
from adbench.reports.plotting import PAGE, looks, panels
from adbench.reports.tables import APPROXIMATE, fraction
from adbench.selection.ranking import SCORED, Candidate, Excluded, Ranked, score_of
from adbench.selection.select import Selection, advice
from adbench.selection.verification import Verdict, Verification

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

_NAMES = ("backbone", "weights", "layer", "image_size", "detector", "params")
_HEADERS = ("RRF", "score", "95 % interval", *SCORED, "ms/image", "MB", "")
_SHRUNK = (
    "a score is the mean of image AUROC and AU-PRO, shrunk toward what the same layer reaches at other image sizes, "
    "by the share of the difference that may be noise"
)


def selection_report(selection: Selection) -> Report:
    """Return the ranking as a table; its notes are the advice, the command to train, and the excluded candidates."""
    ranking = selection.ranking
    cells = keyed_jobs([(one.job, one.result) for one in ranking])
    names = [name for name in _NAMES if name == "layer" or varies(cells, name)]
    rows = [
        [Cell(str(number)), *(Cell(str(cell.values[name])) for name in names), *_values(one, number == 1)]
        for number, (one, cell) in enumerate(zip(ranking, cells, strict=True), 1)
    ]
    table = Table(_caption(selection, names), ["rank", *names, *_HEADERS], rows, 1 + len(names))
    notes = [advice(ranking, selection.validation.sizes), f"train it on all good images: {selection.command}"]
    notes += [_SHRUNK] * any(one.score != score_of(one.result.metrics) for one in ranking) + _exclusions(selection.excluded)
    results = [one.result for one in ranking]
    return Report(table, notes, results=results, folder=selection.folder, commands=[selection.command])


def _caption(selection: Selection, names: Sequence[str]) -> str:
    validation, job = selection.validation, selection.best.job
    shared = ", ".join(str(getattr(job, name)) for name in _NAMES if name not in names and name != "params")
    return (
        f"{selection.category}: {len(selection.ranking)} candidates ({shared}), fitted to "
        f"{len(validation.inputs.category.train)} good images, scored on {validation.held_out} held-out good images and "
        f"{len(validation.sizes)} copies of these with a synthetic defect"
    )


def _values(one: Ranked, best: bool) -> list[Cell]:
    cost = one.result.cost
    metrics = [f"{one.result.metrics[name]:.3f}" for name in SCORED]
    mark = APPROXIMATE * one.result.field_is_estimated
    numbers = [mark + fraction(one.result.relative_field), f"{one.score:.3f}", "{:.3f} to {:.3f}".format(*one.interval)]
    texts = [*numbers, *metrics, f"{cost['latency_ms']:.1f}", f"{cost['memory_mb']:.1f}", "ties" if one.tied else ""]
    return [Cell(text, best and header == "score") for text, header in zip(texts, _HEADERS, strict=True)]


def _exclusions(excluded: Sequence[Excluded]) -> list[str]:
    dropped = Counter(one.reason.split(" on ")[-1] for one in excluded if one.status == "dropped")
    others = [one for one in excluded if one.status != "dropped"]
    return [
        *(f"{count} candidates were dropped after a round on {share}" for share, count in dropped.items()),
        *(f"{one.status}: {one.job.layer} at {one.job.image_size} px: {one.reason}" for one in others),
    ]


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
    return f"{one.layer} {one.image_size}"


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
