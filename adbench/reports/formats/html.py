"""One self-contained HTML page: it opens from disk, requests nothing over a network, and contains only what it shows.

The page is the template assets/page.html with its style and script; this module collects the data.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone
from importlib.resources import files
from typing import Any

from adbench.metrics import ORDER, in_order
from adbench.pictures.kept_maps import read_kept
from adbench.reports.comparison import DASH, fraction
from adbench.reports.dark_mode import follow_scheme
from adbench.reports.formats import ANSWER, Figure, Report, Section, Table, register
from adbench.reports.keys import keyed_jobs, natural, varies
from adbench.reports.plotting import COLUMN, PAGE, SCREEN, images
from adbench.reports.study_data import MEASURES
from adbench.sweep.results import ResultStore
from adbench.types import Result

MOST_JOBS = 5000  # rows that a browser still sorts at once
KEYS = (
    "dataset", "category", "backbone", "weights", "layer", "image_size", "tile", "overlap", "eval_size", "detector", "params",
    "shots", "rotations", "thresholds", "shift", "seed",
)  # fmt: skip
ALWAYS = ("category", "layer")  # the other keys are shown where they vary
COSTS = {"fit_s": "fit s", "images_per_second": "images/s", "state_mb": "state MB", "peak_memory_mb": "peak MB"}
TITLE = "Anomaly detection benchmark"
_NAMED = 8  # categories that the first screen names
_POINTS = re.compile(r' width="([\d.]+)pt"')
_BREAK = re.compile(r"(?<=[.+_/])(?=\w)")
_COMMAND = re.compile(r"(.*): (adbench [a-z].*)", re.DOTALL)  # a note that ends in a command
_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?(?= |$)")


@register("html")
def html(report: Report) -> str:
    """Return the page: all tables, figures as SVG, every job, kept maps, the environment and the commands behind it."""
    from jinja2 import Environment, PackageLoader

    page = Environment(loader=PackageLoader(__package__, "assets"), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    page.filters |= {"hash": _hash, "sort_value": _sort_value, "command": _command, "breakable": _breakable, "words": _words}
    answers, shown = _answers(report)
    datasets = ", ".join(sorted({result.job.dataset for result in report.results}))
    return page.get_template("page.html").render(
        title=f"Anomaly detection on {datasets}" if datasets else TITLE,
        facts=_facts(report),
        answer_title=ANSWER,
        answers=answers,
        parts=_parts(shown),
        style=files(__package__).joinpath("assets", "page.css").read_text(encoding="utf-8"),
        script=files(__package__).joinpath("assets", "page.js").read_text(encoding="utf-8"),
    )


def _hash(text: str) -> str:
    """Return the hash of a style or script by which the page's content security policy allows it."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _sort_value(text: str) -> str:
    """Return an attribute with the number at the start of a cell, by which the cell is sorted: 0.85 of "0.850 (2/3)"."""
    from markupsafe import Markup

    found = _NUMBER.match(text)
    return Markup(' data-value="{}"').format(found.group()) if found else ""


def _command(note: str) -> str:
    """Return a note, with the command at its end marked as one."""
    from markupsafe import Markup

    found = _COMMAND.fullmatch(note)
    return Markup('{}: <code class="command">{}</code>').format(found[1], _words(found[2])) if found else note


def _words(command: str) -> str:
    """Return a command as words, each of which stays on one line."""
    from markupsafe import Markup

    return Markup(" ").join(Markup('<span class="word">{}</span>').format(word) for word in command.split(" "))


def _answers(report: Report) -> tuple[list[str], Report]:
    """Return the sentences that say which row is best, and the report without them."""
    first = len(report.notes) - report.answers
    sections = [section for section in report.sections if section.title != ANSWER]
    answers = [note for section in report.sections if section.title == ANSWER for note in section.notes]
    rest = [note for note in report.notes[:first] if note]  # an empty one separates lines in a terminal
    return [*answers, *report.notes[first:]], replace(report, notes=rest, sections=sections)


def _breakable(text: str) -> str:
    """Return a text that may be broken after the signs within names, where a phone has no room for them."""
    from markupsafe import Markup

    return Markup("<wbr>").join(_BREAK.split(text))


def _facts(report: Report) -> dict[str, str]:
    """Return what the page is about: which data, when the results were written, how many jobs."""
    categories: dict[str, set[str]] = defaultdict(set)
    for result in report.results:
        categories[result.job.dataset].add(result.job.category)
    data = [
        f"{dataset}: {', '.join(sorted(names, key=natural)) if len(names) <= _NAMED else f'{len(names)} categories'}"
        for dataset, names in sorted(categories.items())
    ]
    counts = Counter(result.status for result in report.results)
    jobs = [f"{counts[status]} {status}" for status in ("done", "failed", "skipped") if counts[status]]
    jobs += [f"{report.waiting} not run yet"] * bool(report.waiting)
    facts = {"Data": "; ".join(data), "Results": _written(report), "Jobs": ", ".join(jobs)}
    return {name: text for name, text in facts.items() if text}


def _written(report: Report) -> str:
    """Return when the files of the results were written, the first to the last; empty if there are none."""
    times = ResultStore(report.folder).times(report.results) if report.folder else []
    if not times:
        return ""
    first, last = (f"{datetime.fromtimestamp(time, timezone.utc):%Y-%m-%d %H:%M}" for time in (times[0], times[-1]))
    until = "" if first == last else f" to {last[11:] if first[:10] == last[:10] else last}"
    return f"{first}{until} UTC"


def _parts(report: Report) -> list[dict[str, Any]]:
    """Return the sections of the page as the template takes them; those without content are omitted."""
    results = report.results
    parts: list[dict[str, Any]] = [
        *(
            {"title": s.title, "images": [*map(_image, s.figures)], "tables": s.tables, "notes": s.notes}
            for s in (Section("Results", [_metrics_first(report.table)], notes=report.notes), *report.sections)
        ),
        {"title": "Best and worst maps", "albums": _albums(report)},
        {"title": "All jobs", "tables": [_metrics_first(_jobs_table(results))] if results else [], "choices": [*KEYS, "status"]},
        {"title": "Made with", "tables": _environment_tables(results), "plain": True},
        {"title": "How to make it again", "commands": report.commands},
    ]
    return [part for part in parts if any(part.get(name) for name in ("images", "tables", "notes", "albums", "commands"))]


def _metrics_first(table: Table) -> Table:
    """Return a table with its metrics next to its labels, the two main ones first: a phone shows no more than two columns."""
    labels, values = range(table.num_labels), range(table.num_labels, len(table.headers))
    places = {name: place for place, name in enumerate(dict.fromkeys([*MEASURES, *ORDER]))}
    order = [*labels, *sorted(values, key=lambda column: places.get(table.headers[column], len(places)))]
    rows = [[row[column] for column in order] for row in table.rows]
    return replace(table, headers=[table.headers[column] for column in order], rows=rows)


def _image(figure: Figure) -> dict[str, Any]:
    """Return a figure as drawn for a screen and, if that is another drawing, for a phone."""
    wide, narrow = (images(figure, ["svg"], width)["svg"].decode() for width in (SCREEN, COLUMN))
    found = {"source": _drawing(wide), "alternative": figure.description, "caption": figure.caption}
    found |= {"narrow": _drawing(narrow)} if narrow != wide else {}
    return found | {"long": _inches(narrow) > (COLUMN + PAGE) / 2}  # too wide for a phone


def _drawing(svg: str) -> str:
    return _data_uri("svg+xml", follow_scheme(svg).encode())


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _inches(svg: str) -> float:
    """Return the width of an SVG of matplotlib's in inches."""
    found = _POINTS.search(svg)
    if not found:
        raise ValueError("this version of matplotlib writes no width into its SVGs")
    return float(found[1]) / 72


def _jobs_table(results: Sequence[Result]) -> Table:
    """Return one row per job with its metrics and costs; the first 5,000 if there are more, which the caption says."""
    jobs = keyed_jobs([(result.job, result) for result in results])
    labels = [key for key in KEYS if key in ALWAYS or varies(jobs, key)]
    metrics = in_order(name for result in results for name in result.metrics)
    rows = [
        [
            *(str(job.values[key]) for key in labels),
            result.status,
            *(fraction(result.metrics.get(name), 3) for name in metrics),
            *(fraction(result.cost.get(name), 1) for name in COSTS),
            result.reason or DASH,
        ]
        for job, result in zip(jobs[:MOST_JOBS], results, strict=False)
    ]
    cut = len(results) > MOST_JOBS
    more = f", the first {MOST_JOBS} of {len(results)}; the formats csv and json have all" if cut else ""
    return Table.of_texts(f"Every job{more}", [*labels, "status", *metrics, *COSTS.values(), "reason"], rows, len(labels) + 1)


def _environment_tables(results: Sequence[Result]) -> list[Table]:
    """Return a table of the versions and machines of the results, with several values where they differ, if any is known."""
    values: dict[str, dict[str, None]] = defaultdict(dict)
    for result in results:
        for key, value in result.environment.items():
            values[key]["none" if value is None else str(value)] = None
    rows = [[key, ", ".join(found)] for key, found in values.items()]
    return [Table.of_texts("Versions and machine of the results", ["what", "value"], rows, 2)] if rows else []


def _albums(report: Report) -> list[dict[str, Any]]:
    """Return the kept pictures of each category's best job (mean of image AUROC and AU-PRO)."""
    if report.folder is None:
        return []
    store = ResultStore(report.folder)
    kept: dict[tuple[str, str], list[Result]] = defaultdict(list)
    for result in report.results:
        if result.status == "done" and store.maps(result.job.key).is_dir():
            kept[result.job.dataset, result.job.category].append(result)
    return [_album(_best(found), store) for _, found in sorted(kept.items())]


def _best(found: Sequence[Result]) -> Result:
    """Return the result with the best mean of the metrics of the album, among those that have most of these metrics."""
    values = [[value for name in MEASURES if (value := result.metrics.get(name)) is not None] for result in found]
    return max(zip(found, values, strict=True), key=lambda pair: (len(pair[1]), sum(pair[1])))[0]


def _album(result: Result, store: ResultStore) -> dict[str, Any]:
    job, pictures = result.job, []
    for kept, path in read_kept(store.maps(job.key)):
        if kept.separation is None:
            reason = f"good, but of high score: {kept.score:.4g}"
        else:
            within = f"pixel AUROC within the image {kept.separation:.3f}"
            reason = f"{kept.role} map, {kept.defect}, {within}, score {kept.score:.4g}"
        shown = f"{job.category} {kept.image}: image, mask's outline, anomaly map, and its highest place enlarged. {reason}"
        source = _data_uri("webp", path.read_bytes())
        pictures.append({"source": source, "alternative": shown, "caption": f"{kept.image}: {reason}"})
    title = f"{job.category}: {job.detector} on {job.backbone} {job.layer}, {job.weights}, {job.view}"
    return {"title": title, "images": pictures}
