"""A selection as a report, for every format that reports have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from adbench.reports.formats import Cell, Figure, Report, Section, Table
from adbench.reports.keys import keyed_jobs, varies
from adbench.selection.candidates import Candidate
from adbench.selection.ranking import Excluded, Ranked, score_of
from adbench.selection.select import Selection
from adbench.selection.verification import Verdict, Verification

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

_NAMES = ("backbone", "weights", "layer", "image_size", "detector", "params")
_STEADIED = (
    "a score is the mean of image AUROC and AU-PRO, drawn towards what its layer reaches at other image sizes as far as "
    "the difference may be chance"
)
_HEADERS = ("RRF", "score", "95 % interval", "image_auroc", "aupro", "ms/image", "MB", "")


def selection_report(selection: Selection) -> Report:
    """Return the ranking as a table, the advice and what was left out as notes."""
    ranking = selection.ranking
    cells = keyed_jobs([(one.job, one.result) for one in ranking])
    names = [name for name in _NAMES if name == "layer" or varies(cells, name)]
    rows = [
        [Cell(str(number)), *(Cell(str(cell.values[name])) for name in names), *_values(one, number == 1)]
        for number, (one, cell) in enumerate(zip(ranking, cells, strict=True), 1)
    ]
    table = Table(_caption(selection, names), ["rank", *names, *_HEADERS], rows, 1 + len(names))
    steadied = [_STEADIED] * any(one.score != score_of(one.result.metrics) for one in ranking)
    train = f"train it on all good images: {selection.command}"
    notes = [selection.advice, train, *steadied, *_left_out(selection.excluded)]
    results = [one.result for one in ranking]
    return Report(table, notes, results=results, folder=selection.folder, commands=[selection.command])


def _caption(selection: Selection, names: Sequence[str]) -> str:
    category, job = selection.validation.inputs.category, selection.best.job
    shared = ", ".join(str(getattr(job, name)) for name in _NAMES if name not in names and name != "params")
    return (
        f"{selection.category}: {len(selection.ranking)} candidates ({shared}) fitted to {len(category.train)} good images, "
        f"scored on {selection.validation.held_out} others and {len(selection.validation.sizes)} synthetic defects on those"
    )


def _values(one: Ranked, best: bool) -> list[Cell]:
    field, cost = one.relative_field, one.result.cost
    metrics = [f"{one.result.metrics[name]:.3f}" for name in ("image_auroc", "aupro")]
    numbers = ["-" if field is None else f"{field:.2f}", f"{one.score:.3f}", "{:.3f} to {:.3f}".format(*one.interval)]
    texts = [*numbers, *metrics, f"{cost['latency_ms']:.1f}", f"{cost['memory_mb']:.1f}", "ties" if one.tied else ""]
    return [Cell(text, best and header == "score") for text, header in zip(texts, _HEADERS, strict=True)]


def _left_out(excluded: Sequence[Excluded]) -> list[str]:
    dropped = Counter(one.reason.split(" on ")[-1] for one in excluded if one.status == "dropped")
    notes = [f"{count} candidates were dropped early, on {where}" for where, count in dropped.items()]
    rest = [one for one in excluded if one.status != "dropped"]
    return notes + [f"{one.status}: {one.job.layer} at {one.job.image_size} px: {one.reason}" for one in rest]


_WAYS = {"chosen": "regret", "best_fixed": "of best fixed", "best_fixed_of_others": "of others' best", "by_lot": "by lot"}
_VERIFICATION_HEADERS = ("category", "chosen", "really best", "Spearman", "real score", "best", *_WAYS.values())


def verification_report(found: Verification) -> Report:
    """Return one row per category and the means, what they come to, and each category's scores against each other."""
    rows = [_row(verdict) for verdict in found.verdicts]
    if len(rows) > 1:
        rows.append([Cell(t) for t in ("mean", "", "", _number(found.mean_spearman), "", "")] + _means(found))
    caption = (
        f"The choice among {len(found.verdicts[0].reals)} candidates by synthetic defects, measured on labelled test images; "
        "scores are the mean of image AUROC and AU-PRO, a regret is the best one's real score less the choice's"
    )
    results = [one.result for verdict in found.verdicts for one in verdict.selection.ranking]
    section = Section("Synthetic and real scores", figures=[_figure(found.verdicts)])
    return Report(Table(caption, _VERIFICATION_HEADERS, rows, 3), _notes(found), [section], results, found.folder)


def _row(verdict: Verdict) -> list[Cell]:
    real, best = verdict.reals[verdict.chosen], verdict.reals[verdict.best]
    names = [verdict.selection.category, *map(_named, (verdict.chosen, verdict.best))]
    values = [verdict.spearman, real, best, *verdict.regrets.values()]
    return [Cell(text) for text in [*names, *map(_number, values)]]


def _means(found: Verification) -> list[Cell]:
    return [Cell(_number(found.mean_regret(way))) for way in _WAYS]


def _named(one: Candidate) -> str:
    return f"{one.layer} {one.image_size}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _notes(found: Verification) -> list[str]:
    count, (better, equal), fixed = len(found.verdicts), found.wins, _named(found.fixed)
    left_out = [f"{found.left_out} candidates were not measured in every category and are left out"] * bool(found.left_out)
    if count == 1:
        return ["of one category, the best fixed candidate is the best one; verify more to compare with it", *left_out]
    return [
        f"the choice is better than the best fixed candidate ({fixed}, best mean over these categories) in {better} of "
        f"{count} categories, as good in {equal}",
        "others' best: the candidate with the best mean over the other categories, all that could be known beforehand",
        *left_out,
    ]


def _figure(verdicts: Sequence[Verdict]) -> Figure:
    told = "; ".join(f"{v.selection.category}: Spearman {_number(v.spearman)}" for v in verdicts)
    caption = "Synthetic against real score of each candidate; the chosen one is the filled square, the best one the ring."
    return Figure("select-verify", caption, f"One scatter plot per category. {told}.", lambda: _draw(verdicts))


def _draw(verdicts: Sequence[Verdict]) -> Drawing:
    from matplotlib.figure import Figure as Drawing

    from adbench.reports.plotting import PAGE, looks

    columns = min(3, len(verdicts))
    lines = -(-len(verdicts) // columns)
    drawing = Drawing(figsize=(PAGE * columns / 3, 2.2 * lines), layout="constrained")
    look = looks(2)
    for number, verdict in enumerate(verdicts, 1):
        axes = drawing.add_subplot(lines, columns, number)
        pairs = [(one.score, verdict.reals[Candidate.of(one.job)]) for one in verdict.selection.ranking]
        best = next(p for p, one in zip(pairs, verdict.selection.ranking, strict=True) if Candidate.of(one.job) == verdict.best)
        axes.plot(*zip(*pairs, strict=True), ".", color=look[0].color)
        axes.plot(*pairs[0], "s", color=look[1].color)
        axes.plot(*best, "o", color=look[1].color, fillstyle="none", markersize=9)
        axes.set_title(f"{verdict.selection.category}: Spearman {_number(verdict.spearman)}")
        axes.set_xlabel("score on synthetic defects")
        axes.set_ylabel("score on real ones")
    return drawing
