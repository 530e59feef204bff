"""What to use and why, in sentences."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from adbench.backbones.licenses import is_noncommercial, terms
from adbench.backbones.weights import license_of
from adbench.selection.ranking import Ranked
from adbench.types import ALL, Job

_CHEAPER = 1.25  # times faster; a tied candidate that gains less is not named


def advice(ranking: Sequence[Ranked], sizes: Sequence[float]) -> str:
    """Return what to use and why, in sentences; `sizes` are the defects' sizes as fractions of the image's side."""
    best = ranking[0]
    place = f"ranks first of {len(ranking)} candidates on the synthetic defects" if len(ranking) > 1 else "is the only candidate"
    memory = best.result.cost["memory_mb"]
    sentences = [
        f"Use {named(best.job)}",
        "It {} (score {:.3f}, 95 % interval {:.3f} to {:.3f})".format(place, best.score, *best.interval),
        f"It takes {_latency(best):.0f} ms per image and {memory:.1f} MB",
    ]
    if (field := best.result.relative_field) is not None:
        sentences.append(f"Its receptive field is {field / median(sizes):.1f} times as wide as the median defect")
    license = license_of(best.job.backbone, best.job.weights)
    if terms(license):
        limit = "forbids commercial use" if is_noncommercial(license) else "has terms of its own: read them before commercial use"
        sentences.append(f"The license of its weights ({license}) {limit}")
    if len(ranking) > 1:
        sentences.append(_on_ties(best, [one for one in ranking[1:] if one.tied]))
    return ". ".join(sentences) + "."


def named(job: Job) -> str:
    """Return the job's candidate in words."""
    weights = "" if job.weights == "imagenet" else f" ({job.weights} weights)"
    shots = "" if job.shots == ALL else f", fitted to {job.shots} good image{'s' * (job.shots != 1)}"
    return f"{job.layer} of {job.backbone}{weights} at {job.view} with {job.detector}{shots}"


def _on_ties(best: Ranked, ties: Sequence[Ranked]) -> str:
    if not ties:
        return "All other candidates are significantly worse"
    fastest = min(ties, key=_latency)
    count = f"{len(ties)} other candidates are" if len(ties) > 1 else "1 other candidate is"
    if _latency(best) < _CHEAPER * _latency(fastest):
        return f"{count} not significantly worse, {'none of them' if len(ties) > 1 else 'but not'} much faster"
    costs = f"takes only {_latency(fastest):.0f} ms per image, with a score of {fastest.score:.3f}"
    return f"{count} not significantly worse; {named(fastest.job)} {costs}"


def _latency(one: Ranked) -> float:
    return one.result.cost["latency_ms"] or 0.0
