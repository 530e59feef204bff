"""The advice: one sentence that says what to use, and why."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from adbench.selection.ranking import Ranked
from adbench.types import Job

_CHEAPER = 1.25  # times faster, or a tie is not worth naming for its cost


def advice(ranking: Sequence[Ranked], sizes: Sequence[float]) -> str:
    """Return the sentence on the best of `ranking`; `sizes` are the defects' sizes as fractions of the image's side."""
    best, ties = ranking[0], [one for one in ranking[1:] if one.tied]
    low, high = best.interval
    score = f"score {best.score:.3f}, 95 % interval {low:.3f} to {high:.3f}"
    finds = f": of {len(ranking)} candidates it finds the synthetic defects best" if len(ranking) > 1 else ", the only candidate"
    clauses = [
        f"Use {named(best.job)}{finds} ({score})",
        _field(best, sizes),
        f"it takes {best.result.cost['latency_ms']:.0f} ms per image and {best.result.cost['memory_mb']:.1f} MB",
        _tied(best, ties) if len(ranking) > 1 else "",
    ]
    return "; ".join(clause for clause in clauses if clause) + "."


def named(job: Job) -> str:
    """Return what a user chooses of a job, in words."""
    weights = "" if job.weights == "imagenet" else f" ({job.weights} weights)"
    return f"{job.layer} of {job.backbone}{weights} at {job.image_size} px with {job.detector}"


def _field(best: Ranked, sizes: Sequence[float]) -> str:
    if best.relative_field is None:
        return ""
    median = float(np.median(sizes))
    return (
        f"its receptive field spans {best.relative_field:.2f} of the image's side, {best.relative_field / median:.1f} times "
        f"the {median:.2f} of the median defect (they run from {min(sizes):.2f} to {max(sizes):.2f})"
    )


def _tied(best: Ranked, ties: Sequence[Ranked]) -> str:
    if not ties:
        return "no other ties with it"
    cheapest = min(ties, key=_latency)
    several = len(ties) > 1
    who = f"{len(ties)} others tie with it" if several else "1 other ties with it"
    if _latency(best) < _CHEAPER * _latency(cheapest):
        return f"{who}, {'none of them' if several else 'not'} much faster"
    return f"{who}, {'the fastest of them ' if several else ''}{named(cheapest.job)} with {_latency(cheapest):.0f} ms"


def _latency(one: Ranked) -> float:
    return one.result.cost["latency_ms"] or 0.0
