"""One self-contained HTML page: it opens from disk, asks for nothing over a network, and keeps no more than it shows."""

from __future__ import annotations

import base64
import hashlib
from html import escape
from importlib.resources import files

from adbench.reports import Figure, Report, Section, register
from adbench.reports.html_pictures import kept_pictures
from adbench.reports.html_tables import element, environment_table, jobs_table, listing, table
from adbench.reports.plotting import images

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
