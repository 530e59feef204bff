"""One self-contained HTML page: it opens from disk, asks for nothing over a network, and keeps no more than it shows."""

from __future__ import annotations

import base64
import hashlib
import re
from collections import defaultdict
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from statistics import fmean
from typing import Any

from adbench.metrics import in_order
from adbench.pictures.kept_maps import KeptMap, read_kept
from adbench.reports.formats import Cell, Figure, Report, Section, Table, register
from adbench.reports.keys import entries, varies
from adbench.reports.plotting import images
from adbench.sweep.results import ResultStore
from adbench.types import Result

MOST_JOBS = 5000  # rows that a browser still sorts at once
KEYS = ("dataset", "category", "backbone", "weights", "layer", "image_size", "eval_size", "detector", "params", "seed")
ALWAYS = ("category", "layer")  # of the keys, the others where they vary
COSTS = {"fit_s": "fit s", "images_per_second": "images/s", "state_mb": "state MB", "peak_memory_mb": "peak MB"}
_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?(?= |$)")


def element(name: str, content: str, **attributes: str) -> str:
    """Return one element; `content` is markup already, attributes (a trailing underscore dropped) are text."""
    given = "".join(f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"' for key, value in attributes.items())
    return f"<{name}{given}>{content}</{name}>"


def listing(lines: Sequence[str]) -> str:
    """Return lines of text as a list, nothing if there are none."""
    return element("ul", "".join(element("li", escape(line)) for line in lines)) if lines else ""


def table(given: Table, choose: Sequence[str] = ()) -> str:
    """Return a table in a box that scrolls; columns whose header is in `choose` get a menu of their values."""
    head = "".join(_header(header, i >= given.num_labels, header in choose) for i, header in enumerate(given.headers))
    body = "".join(element("tr", _row(row, given.num_labels)) for row in given.rows)
    caption = element("caption", escape(given.caption))
    content = caption + element("thead", element("tr", head)) + element("tbody", body)
    markup = element("table", content, class_="sortable")
    return element("div", markup, class_="scroll", role="region", tabindex="0", aria_label=given.caption)


def _header(header: str, number: bool, choose: bool) -> str:
    chosen = {"data_choose": ""} if choose else {}
    return element("th", escape(header), scope="col", class_="number" if number else "text", **chosen)


def _row(row: Sequence[Cell], num_labels: int) -> str:
    labels = [element("th" if i == 0 else "td", escape(c.text), **_scope(i)) for i, c in enumerate(row[:num_labels])]
    return "".join([*labels, *(_value(cell) for cell in row[num_labels:])])


def _scope(index: int) -> dict[str, str]:
    return {"scope": "row"} if index == 0 else {}


def _value(cell: Cell) -> str:
    """A cell that starts with a number is sorted by it: "0.850 (2/3)" by 0.85."""
    found = _NUMBER.match(cell.text)
    value = {"data_value": found.group()} if found else {}
    return element("td", escape(cell.text), class_="number best" if cell.best else "number", **value)


def jobs_table(results: Sequence[Result]) -> str:
    """Return one row per job with its metrics and costs; the first 5,000 if there are more, which the caption says."""
    found = entries([(result.job, result) for result in results])
    labels = [key for key in KEYS if key in ALWAYS or varies(found, key)]
    names = in_order(name for result in results for name in result.metrics)
    rows = [[*(Cell(str(e.values[key])) for key in labels), *_outcome(e.result, names)] for e in found[:MOST_JOBS]]
    cut = len(results) > MOST_JOBS
    more = f", the first {MOST_JOBS} of {len(results)}; the formats csv and json have all" if cut else ""
    headers = [*labels, "status", *names, *COSTS.values(), "reason"]
    return table(Table(f"Every job{more}", headers, rows, len(labels) + 1), choose=[*KEYS, "status"])


def _outcome(result: Result | None, names: Sequence[str]) -> list[Cell]:
    if result is None:
        return [Cell("not run"), *(Cell("-") for _ in (*names, *COSTS, "reason"))]
    metrics = [_number(result.metrics.get(name), 3) for name in names]
    costs = [_number(result.cost.get(name), 1) for name in COSTS]
    return [Cell(result.status), *metrics, *costs, Cell(result.reason or "-")]


def _number(value: float | None, digits: int) -> Cell:
    return Cell("-" if value is None else f"{value:.{digits}f}")


def environment_table(results: Sequence[Result]) -> str:
    """Return what the results were made with; several values where they differ."""
    values: dict[str, dict[str, None]] = {}
    for result in results:
        for key, value in result.environment.items():
            values.setdefault(key, {})[_plain(value)] = None
    rows = [[Cell(key), Cell(", ".join(found))] for key, found in values.items()]
    return table(Table("Versions and machine of the results", ["what", "value"], rows, 2)) if rows else ""


def _plain(value: Any) -> str:
    return "none" if value is None else str(value)


JUDGED_BY = ("image_auroc", "aupro")


def kept_pictures(report: Report) -> str:
    """Return the kept pictures of each category's best job (mean of image AUROC and AU-PRO), or nothing."""
    if report.folder is None:
        return ""
    store = ResultStore(report.folder)
    kept: dict[tuple[str, str], list[Result]] = defaultdict(list)
    for result in report.results:
        if result.status == "done" and store.maps(result.job.key).is_dir():
            kept[result.job.dataset, result.job.category].append(result)
    return "".join(_category(max(results, key=_quality), store) for _, results in sorted(kept.items()))


def _quality(result: Result) -> float:
    return fmean(result.metrics.get(name) or 0.0 for name in JUDGED_BY)


def _category(result: Result, store: ResultStore) -> str:
    job = result.job
    what = f"{job.category}: {job.detector} on {job.backbone} {job.layer}, {job.weights}, {job.image_size} px"
    figures = [_picture(job.category, kept, path) for kept, path in read_kept(store.maps(job.key))]
    return element("h3", escape(what)) + element("div", "".join(figures), class_="maps")


def _picture(category: str, kept: KeptMap, path: Path) -> str:
    source = f"data:image/webp;base64,{base64.b64encode(path.read_bytes()).decode()}"
    told = _told(kept)
    alternative = f"{category} {kept.image}: the image, its mask's outline and its anomaly map side by side. {told}"
    image = f'<img src="{source}" alt="{escape(alternative)}">'
    return element("figure", image + element("figcaption", escape(f"{kept.image}: {told}")))


def _told(kept: KeptMap) -> str:
    if kept.separation is None:
        return f"good, but of high score: {kept.score:.3g}"
    return f"{kept.role} map, {kept.defect}, pixel AUROC within the image {kept.separation:.3f}, score {kept.score:.3g}"


PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src '{style_hash}'; script-src '{script_hash}'">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<a class="skip" href="#content">Skip to the results</a>
<header>
<h1>{title}</h1>
<p class="soft">{caption}</p>
<nav aria-label="Sections"><ul>{links}</ul></nav>
</header>
<main id="content">
{body}
</main>
<footer><p class="soft">Written by adbench. Metrics are fractions of 1; higher is better.</p></footer>
<script>{script}</script>
</body>
</html>
"""


@register("html")
def html(report: Report) -> str:
    """Return the page: all tables, figures as SVG, every job, kept maps, the environment and the commands behind it."""
    parts = [(title, text) for title, text in _parts(report) if text]
    style, script = _asset("page.css"), _asset("page.js")
    return PAGE.format(
        title="Anomaly detection benchmark",
        caption=escape(_counts(report)),
        links="".join(f'<li><a href="#part-{i}">{escape(title)}</a></li>' for i, (title, _) in enumerate(parts)),
        body="\n".join(_part(f"part-{i}", title, text) for i, (title, text) in enumerate(parts)),
        style=style,
        script=script,
        style_hash=_hash(style),
        script_hash=_hash(script),
    )


def _parts(report: Report) -> list[tuple[str, str]]:
    return [
        ("Results", table(report.table) + listing(report.notes)),
        *((section.title, _section(section)) for section in report.sections),
        ("Best and worst maps", kept_pictures(report)),
        ("All jobs", jobs_table(report.results) if report.results else ""),
        ("Made with", environment_table(report.results)),
        ("How to make it again", "".join(element("pre", element("code", escape(c))) for c in report.commands)),
    ]


def _section(section: Section) -> str:
    tables, figures = map(table, section.tables), map(_figure, section.figures)
    return "".join([*figures, *tables, listing(section.notes)])


def _part(anchor: str, title: str, text: str) -> str:
    return f'<section aria-labelledby="{anchor}"><h2 id="{anchor}">{escape(title)}</h2>\n{text}</section>'


def _figure(figure: Figure) -> str:
    source = f"data:image/svg+xml;base64,{base64.b64encode(images(figure, ['svg'])['svg']).decode()}"
    image = f'<img src="{source}" alt="{escape(figure.description)}">'
    return f"<figure>{image}<figcaption>{escape(figure.caption)}</figcaption></figure>"


def _counts(report: Report) -> str:
    counts = {status: sum(r.status == status for r in report.results) for status in ("done", "failed", "skipped")}
    return ", ".join(f"{count} jobs {status}" for status, count in counts.items() if count)


def _asset(name: str) -> str:
    return files(__package__).joinpath("assets", name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
