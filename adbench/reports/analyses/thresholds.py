"""What a threshold promises and what it does: the promised and the attained false-positive rate, and what is found.

The thresholds come from good images that were held out from the fit (`adbench.statistics.rules`); the test images have no part
in them. A promise holds on average over draws of these images, and for good images of the same production only.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from adbench.metrics import AT_THRESHOLD
from adbench.reports.analyses import Question, register
from adbench.reports.comparison import DASH, fraction
from adbench.reports.formats import Section, Table
from adbench.reports.keys import KeyedJob, grouped, groups_by

_TITLE = "Does the threshold hold?"
_METRICS = [name for name in AT_THRESHOLD if name != "image_fpr"]


@register("thresholds")
def section(jobs: Sequence[KeyedJob], question: Question) -> Section:
    """Return a table of means over categories and seeds, and one of each category with the intervals of both rates."""
    known = [job for job in jobs if job.done and job.done.details.get("thresholds")]
    keys = [key for key in question.rows if key != "category"]
    if not known:
        return Section(_TITLE, notes=["no result has thresholds; run a sweep with --set thresholds=conformal:0.01"])
    labels = ["configuration", "rule"]
    means = Table.of_texts(
        "Means over categories and seeds at thresholds from held-out good images",
        [*labels, "set", "promised", "attained", *_METRICS],
        [[group.label, rule, *_means(found)] for group in groups_by(known, keys) for rule, found in _by_rule(group.jobs).items()],
        2,
    )
    rows = [
        [group.label, category, rule, *_rates(found)]
        for group in groups_by(known, keys)
        for (category,), members in grouped(group.jobs, ["category"]).items()
        for rule, found in _by_rule(members).items()
    ]
    headers = ["configuration", "category", "rule", "held out", "promised", "95 % interval", "attained", "95 % interval "]
    return Section(_TITLE, [means, Table.of_texts("Promised and attained rate", headers, rows, 3)],
                   notes=_notes(known))  # fmt: skip


def _by_rule(jobs: Sequence[KeyedJob]) -> dict[str, list[dict[str, Any]]]:
    """Return the recorded facts of each rule, one of each job."""
    found: dict[str, list[dict[str, Any]]] = {}
    for job in jobs:
        for facts in job.done.details["thresholds"] if job.done else ():
            found.setdefault(facts["rule"], []).append(facts)
    return found


def _means(found: Sequence[dict[str, Any]]) -> list[str]:
    """Return how many jobs have a threshold, and their mean rates and metrics, as printed."""
    measured = [facts for facts in found if facts["image"] is not None]
    count = f"{len(measured)}/{len(found)}" if len(measured) < len(found) else str(len(found))
    promised = [facts["promised"] for facts in measured]
    columns = [promised, *([facts["metrics"][name] for facts in measured] for name in ("image_fpr", *_METRICS))]
    return [count, *(_mean(values) for values in columns)]


def _mean(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return fraction(fmean(known) if known else None, 3)


def _rates(found: Sequence[dict[str, Any]]) -> list[str]:
    """Return the rates of a category, means over seeds; intervals of a single seed, since seeds share their test images."""
    first, alone = found[0], len(found) == 1
    own = [facts["metrics"]["image_fpr"] for facts in found]
    intervals = [_interval(first[name]) if alone else DASH for name in ("promised_interval", "image_fpr_interval")]
    promised = _mean([facts["promised"] for facts in found])
    return [str(first["count"]), promised, intervals[0], _mean(own), intervals[1]]


def _interval(ends: Sequence[float] | None) -> str:
    return f"{ends[0]:.3f} to {ends[1]:.3f}" if ends else DASH


def _notes(jobs: Sequence[KeyedJob]) -> list[str]:
    every = [facts for job in jobs for facts in (job.done.details["thresholds"] if job.done else ())]
    reasons = dict.fromkeys(facts["reason"] for facts in every if facts["reason"])
    notes = [
        "promised: the rate on new good images, on average over draws of the held-out ones, and where it lies given those at "
        "hand; only the conformal rule promises one",
        "attained: the share of good test images above the threshold, with the interval of Clopper and Pearson",
        "seg_f1: F1 of pixels, pooled over all images of a category, at a pixel threshold from the same held-out images",
    ]
    if any(facts["promised"] is None and facts["image"] is not None for facts in every):
        notes.append("sigma and quantile rules promise nothing: what they attain is a property of these scores")
    return [*notes, *reasons]
