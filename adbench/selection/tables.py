"""A selection as a report, for every format that reports have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from adbench.reports import Cell, Report, Table
from adbench.reports.keys import entries, varies
from adbench.selection.ranking import Excluded, Ranked, score_of
from adbench.selection.select import Selection

_NAMES = ("backbone", "weights", "layer", "image_size", "detector", "params")
_STEADIED = (
    "a score is the mean of image AUROC and AU-PRO, drawn towards what its layer reaches at other image sizes as far as "
    "the difference may be chance"
)
_HEADERS = ("RRF", "score", "95 % interval", "image_auroc", "aupro", "ms/image", "MB", "")


def report(selection: Selection) -> Report:
    """Return the ranking as a table, the advice and what was left out as notes."""
    ranking = selection.ranking
    cells = entries([(one.job, one.result) for one in ranking])
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
