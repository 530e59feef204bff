"""The maps that a sweep kept, on the HTML page: for each category those of its best job."""

from __future__ import annotations

import base64
from collections import defaultdict
from html import escape
from pathlib import Path
from statistics import fmean

from adbench.kept_maps import KeptMap, read_kept
from adbench.reports import Report
from adbench.reports.html_tables import element
from adbench.results import ResultStore
from adbench.types import Result

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
    figures = [_figure(job.category, kept, path) for kept, path in read_kept(store.maps(job.key))]
    return element("h3", escape(what)) + element("div", "".join(figures), class_="maps")


def _figure(category: str, kept: KeptMap, path: Path) -> str:
    source = f"data:image/webp;base64,{base64.b64encode(path.read_bytes()).decode()}"
    told = _told(kept)
    alternative = f"{category} {kept.image}: the image, its mask's outline and its anomaly map side by side. {told}"
    image = f'<img src="{source}" alt="{escape(alternative)}">'
    return element("figure", image + element("figcaption", escape(f"{kept.image}: {told}")))


def _told(kept: KeptMap) -> str:
    if kept.separation is None:
        return f"good, but of high score: {kept.score:.3g}"
    return f"{kept.role} map, {kept.defect}, pixel AUROC within the image {kept.separation:.3f}, score {kept.score:.3g}"
