"""Jobs, results and a small report that tests of reports share."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from adbench.reports.formats import Cell, Figure, Report, Section, Table
from adbench.reports.tables import main_table
from adbench.types import Job, Result

JOB = Job("demo", "f", "bolt", "resnet18", "random", "ab", ("layer2",), 256, 256, "knn", {"k": 5, "p": 0.1}, 1, 0)
OTHER = replace(JOB, layers=("layer10",))
CATEGORIES = ("axle", "bolt", "cable")


def build(results: Sequence[Result], planned: Sequence[Job] = (), **view: Any) -> Report:
    return main_table(results, planned, **view)[0]


def done(job: Job, auroc: float | None = 0.5, reason: str | None = None, **cost: float) -> Result:
    return Result(job, "done", reason, {"image_auroc": auroc, "aupro": 0.25}, cost)


def over_categories(job: Job, *values: float) -> list[Result]:
    return [done(replace(job, category=c), v) for c, v in zip(CATEGORIES, values, strict=False)]


def jobs(*job: Job) -> list[Job]:
    return [replace(j, category=c) for j in job for c in CATEGORIES]


def texts(report: Report) -> list[list[str]]:
    return [[f"{cell.text}!" if cell.best else cell.text for cell in row] for row in report.table.rows]


def auroc(report: Report) -> list[str]:
    return [row[list(report.table.headers).index("image_auroc")] for row in texts(report)]


def example() -> Report:
    results = [*over_categories(JOB, 0.9, 0.8, 0.71234), *over_categories(OTHER, 0.95, 0.96)]
    failed = Result(replace(OTHER, category="cable"), "failed", "50% of {x}_y | [z]\nlost")
    return build([*results, failed], jobs(JOB, OTHER))


def complete() -> Report:
    return build([*over_categories(JOB, 0.9, 0.8, 0.71234), *over_categories(OTHER, 0.5, 0.6, 0.7)])


def with_section() -> Report:
    def drawing() -> object:
        from matplotlib.figure import Figure as Drawing

        return Drawing(figsize=(1, 1))

    table = Table("wins by layer", ["layer", "wins"], [[Cell("layer3"), Cell("7", best=True)]], 1)
    section = Section("Which layer?", [table], [Figure("wins", "Wins", "bars", drawing)], ["layer3 wins in 7"])
    return replace(example(), sections=[section])
