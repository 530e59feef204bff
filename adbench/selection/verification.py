"""Does the ranking on synthetic defects tell which candidate is good on real ones? Asked of data with labels.

Real scores are the mean of image AUROC and AU-PRO on the labelled test images, of candidates fitted to all good ones.
The regret of a choice is the real score of the best candidate less its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from scipy.stats import spearmanr

from adbench.core.errors import DataError
from adbench.metrics import reason
from adbench.metrics.support.labels import CategoryInputs
from adbench.selection.candidates import Candidate
from adbench.selection.halving import OnResult, ignore_result
from adbench.selection.ranking import score_of
from adbench.selection.select import FOLDER, Request, Selection, select
from adbench.sweep.run import plan_sweep
from adbench.sweep.workspace import Workspace
from adbench.types import Result, Size

Reals = Mapping[Candidate, float]


@dataclass(frozen=True)
class Verdict:
    """What the choice by synthetic defects was worth for one category.

    reals: the real score of each ranked candidate. fixed: the candidate with the best mean over all categories;
    elsewhere: over the other categories, None if there are none.
    """

    selection: Selection
    reals: Reals
    fixed: Candidate
    elsewhere: Candidate | None

    @property
    def chosen(self) -> Candidate:
        return Candidate.of(self.selection.best.job)

    @property
    def best(self) -> Candidate:
        """The candidate that is really the best."""
        return max(self.reals, key=self.reals.__getitem__)

    @property
    def spearman(self) -> float | None:
        """Rank correlation of synthetic and real scores over the candidates; None where it is not defined."""
        pairs = [(one.score, self.reals[Candidate.of(one.job)]) for one in self.selection.ranking]
        synthetic, real = zip(*pairs, strict=True)
        return float(spearmanr(synthetic, real).statistic) if len(set(synthetic)) > 1 < len(set(real)) else None

    def regret(self, one: Candidate) -> float:
        """Return by how much the real score of a candidate is below that of the best."""
        return self.reals[self.best] - self.reals[one]

    @property
    def regrets(self) -> dict[str, float | None]:
        """The regrets of all ways to choose; "by lot" is the mean over the candidates."""
        elsewhere = None if self.elsewhere is None else self.regret(self.elsewhere)
        by_lot = fmean(self.regret(one) for one in self.reals)
        return {"chosen": self.regret(self.chosen), "best_fixed": self.regret(self.fixed),
                "best_fixed_of_others": elsewhere, "by_lot": by_lot}  # fmt: skip

    def record(self) -> dict[str, Any]:
        """Return the JSON form: that of the selection, each candidate with its real score, and the comparison."""
        ranking = [one.record() | {"real": self.reals[Candidate.of(one.job)]} for one in self.selection.ranking]
        facts = {"spearman": self.spearman, "regret": self.regrets, "best": self.best.record()}
        return self.selection.record() | {"ranking": ranking} | facts


@dataclass(frozen=True)
class Verification:
    """The verdicts on all categories, and what they come to; `left_out`: candidates that were not measured in all of them."""

    verdicts: Sequence[Verdict]
    folder: Path
    left_out: int = 0

    @property
    def fixed(self) -> Candidate:
        """The candidate with the best mean over all categories."""
        return self.verdicts[0].fixed

    def mean_regret(self, way: str) -> float | None:
        """Return the mean regret over the categories of one way to choose, None where it is not defined."""
        found = [value for verdict in self.verdicts if (value := verdict.regrets[way]) is not None]
        return fmean(found) if found else None

    @property
    def mean_spearman(self) -> float | None:
        found = [value for verdict in self.verdicts if (value := verdict.spearman) is not None]
        return fmean(found) if found else None

    @property
    def wins(self) -> tuple[int, int]:
        """In how many categories the choice is better than the best fixed candidate, and in how many it is as good."""
        gains = [verdict.regret(verdict.fixed) - verdict.regret(verdict.chosen) for verdict in self.verdicts]
        return sum(gain > 0 for gain in gains), sum(gain == 0 for gain in gains)

    @property
    def incomplete(self) -> bool:
        """Whether a candidate failed or was skipped."""
        return self.left_out > 0 or any(verdict.selection.incomplete for verdict in self.verdicts)

    def record(self) -> dict[str, Any]:
        """Return the JSON form."""
        regrets = {way: self.mean_regret(way) for way in self.verdicts[0].regrets}
        better, equal = self.wins
        mean = {"spearman": self.mean_spearman, "regret": regrets, "better_than_fixed": better, "equal_to_fixed": equal}
        return {
            "categories": [verdict.record() for verdict in self.verdicts],
            "mean": mean,
            "best_fixed": self.fixed.record(),
            "left_out": self.left_out,
            "out": str(self.folder),
        }


def verify(workspace: Workspace, request: Request, out: Path, on_result: OnResult = ignore_result) -> Verification:
    """Return what the selection of each category of the setting is worth on its labelled test images.

    No candidate is dropped early, for each must have both scores. The real ones are a sweep into `out`, like any other.
    Raises DataError for a category without labels, and if no candidate could be measured in every category.
    """
    names = [_labelled(item, request.spec.eval_size) for item in workspace.inputs()]
    settings = [replace(workspace, categories=(name,)) for name in names]
    whole = replace(request, halving=False)
    selections = [select(one, whole, one.single(training_only=True), out / FOLDER, on_result) for one in settings]
    sweep = plan_sweep(workspace, request.spec, out)
    for number, result in enumerate(sweep.run(), 1):
        on_result(result, number, sweep.todo.runnable + len(sweep.plan.skipped))
    found = [sweep.results.read(job.key) for job in sweep.plan.jobs]
    verdicts = judge(selections, [result for result in found if result])
    tried = {Candidate.of(one.job) for selection in selections for one in selection.ranking}
    return Verification(verdicts, out, len(tried) - len(verdicts[0].reals))


def _labelled(inputs: CategoryInputs, size: Size) -> str:
    """Return the category's name; raise DataError if its test images cannot tell a real score."""
    name = inputs.category.name
    missing = reason(inputs.labels(size).truth) if inputs.category.test else "no labelled test images"
    if missing:
        raise DataError(f"select --verify: category '{name}': {missing}; name labelled ones with --category")
    return name


def judge(selections: Sequence[Selection], results: Sequence[Result]) -> list[Verdict]:
    """Return the verdict on each selection; `results` are those of the same candidates on labelled test images.

    Candidates that lack a real score in a category are left out of all. Raises DataError if none is left.
    """
    reals = [_real_scores(selection.category, results) for selection in selections]
    ranked = [{Candidate.of(one.job) for one in selection.ranking} for selection in selections]
    common = set.intersection(*ranked, *(set(scores) for scores in reals))
    if not common:
        raise DataError("select --verify: no candidate could be measured in every category; 'adbench report' says why")
    reals = [{one: score for one, score in scores.items() if one in common} for scores in reals]
    verdicts = []
    for number, selection in enumerate(selections):
        others = [*reals[:number], *reals[number + 1 :]]
        elsewhere = _best(others) if others else None
        verdicts.append(Verdict(_only(selection, common), reals[number], _best(reals), elsewhere))
    return verdicts


def _real_scores(category: str, results: Sequence[Result]) -> dict[Candidate, float]:
    own = [result for result in results if result.job.category == category]
    return {Candidate.of(one.job): score for one in own if (score := score_of(one.metrics)) is not None}


def _only(selection: Selection, common: set[Candidate]) -> Selection:
    return replace(selection, ranking=tuple(one for one in selection.ranking if Candidate.of(one.job) in common))


def _best(reals: Sequence[Reals]) -> Candidate:
    """Return the candidate with the best mean over the categories."""
    return max(reals[0], key=lambda one: fmean(scores[one] for scores in reals))
