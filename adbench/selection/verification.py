"""Verify a selection on labeled data: does the ranking on synthetic defects find the candidate that is best on real ones?

The real score of a candidate, fitted to all good images, is the mean of image AUROC and AU-PRO on the labeled test images.
The regret of a choice is the real score of the best candidate minus that of the choice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from scipy.stats import spearmanr

from adbench.core.errors import DataError
from adbench.metrics import reason
from adbench.selection.ranking import Candidate, score_of
from adbench.selection.select import FOLDER, OnResult, Selection, SelectionRequest, select
from adbench.sweep.run import plan_sweep
from adbench.sweep.workspace import Workspace
from adbench.types import Result

RealScores = Mapping[Candidate, float]


@dataclass(frozen=True)
class Verdict:
    """How good the selected candidate of one category is on real defects.

    real: the real score of each ranked candidate. fixed: the candidate with the best mean real score over all categories;
    fixed_elsewhere: over the other categories, None if there are none.
    """

    selection: Selection
    real: RealScores
    fixed: Candidate
    fixed_elsewhere: Candidate | None

    @property
    def chosen(self) -> Candidate:
        """The candidate with the best score on synthetic defects."""
        return self.selection.best.candidate

    @property
    def best(self) -> Candidate:
        """The candidate with the best real score."""
        return max(self.real, key=self.real.__getitem__)

    @property
    def scores(self) -> list[tuple[float, float]]:
        """The (synthetic, real) score of each candidate, in the order of the ranking."""
        return [(one.score, self.real[one.candidate]) for one in self.selection.ranking]

    @property
    def spearman(self) -> float | None:
        """Rank correlation of synthetic and real scores over the candidates; None where it is not defined."""
        synthetic, real = zip(*self.scores, strict=True)
        return float(spearmanr(synthetic, real).statistic) if len(set(synthetic)) > 1 < len(set(real)) else None

    def regret(self, choice: Candidate) -> float:
        """Return how far the real score of `choice` is below the best."""
        return self.real[self.best] - self.real[choice]

    @property
    def regrets(self) -> dict[str, float | None]:
        """The regret of each way to choose; "by_lot" is a random candidate's on average."""
        return {
            "chosen": self.regret(self.chosen),
            "best_fixed": self.regret(self.fixed),
            "best_fixed_of_others": None if self.fixed_elsewhere is None else self.regret(self.fixed_elsewhere),
            "by_lot": fmean(self.regret(one) for one in self.real),
        }

    def record(self) -> dict[str, Any]:
        """Return the JSON form: the selection's, with the real scores and the comparison added."""
        ranking = [one.record() | {"real": self.real[one.candidate]} for one in self.selection.ranking]
        comparison = {"spearman": self.spearman, "regret": self.regrets, "best": self.best.record()}
        return self.selection.record() | {"ranking": ranking} | comparison


@dataclass(frozen=True)
class Verification:
    """The verdicts on all categories. unmeasured: how many candidates were skipped because a category lacks their score."""

    verdicts: Sequence[Verdict]
    folder: Path
    unmeasured: int = 0

    @property
    def fixed(self) -> Candidate:
        """The candidate with the best mean real score over all categories."""
        return self.verdicts[0].fixed

    @property
    def mean_regrets(self) -> dict[str, float | None]:
        """The mean regret of each way to choose; None where it is not defined."""
        return {way: _mean(verdict.regrets[way] for verdict in self.verdicts) for way in self.verdicts[0].regrets}

    @property
    def mean_spearman(self) -> float | None:
        return _mean(verdict.spearman for verdict in self.verdicts)

    @property
    def wins(self) -> tuple[int, int]:
        """In how many categories the choice is better than the best fixed candidate, and in how many it is as good."""
        gains = [verdict.regret(verdict.fixed) - verdict.regret(verdict.chosen) for verdict in self.verdicts]
        return sum(gain > 0 for gain in gains), sum(gain == 0 for gain in gains)

    @property
    def incomplete(self) -> bool:
        """Whether a candidate failed or was skipped."""
        return self.unmeasured > 0 or any(verdict.selection.incomplete for verdict in self.verdicts)

    def record(self) -> dict[str, Any]:
        """Return the JSON form."""
        better, equal = self.wins
        mean = {"spearman": self.mean_spearman, "regret": self.mean_regrets}
        return {
            "categories": [verdict.record() for verdict in self.verdicts],
            "mean": mean | {"better_than_fixed": better, "equal_to_fixed": equal},
            "best_fixed": self.fixed.record(),
            "left_out": self.unmeasured,
            "out": str(self.folder),
        }


def _mean(values: Iterable[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return fmean(defined) if defined else None


def verify(workspace: Workspace, request: SelectionRequest, out: Path, on_result: OnResult) -> Verification:
    """Return how good the selection in each category of the workspace is on its labeled test images.

    No candidate is dropped early, since each needs both scores. The real scores are a normal sweep into `out`. Raise DataError
    for a category without labels, and if no candidate could be measured in every category.
    """
    names = []
    for inputs in workspace.inputs():
        names.append(inputs.category.name)
        missing = reason(inputs.labels(request.spec.eval_size).truth) if inputs.category.test else "no labeled test images"
        if missing:
            raise DataError(f"select --verify: category '{names[-1]}': {missing}; choose labeled categories with --category")
    whole, workspace = replace(request, halving=False), replace(workspace, verify_data=False)  # they are verified by now
    single = [replace(workspace, categories=(name,)) for name in names]
    selections = [select(one, whole, one.single(training_only=True), out / FOLDER, on_result) for one in single]
    sweep = plan_sweep(workspace, request.spec, out)
    for number, new in enumerate(sweep.run(), 1):
        on_result(new, number, sweep.todo.runnable + len(sweep.plan.skipped), None)
    verdicts = judge(selections, [result for job in sweep.plan.jobs if (result := sweep.results.read(job.key))])
    tried = {one.candidate for selection in selections for one in selection.ranking}
    return Verification(verdicts, out, len(tried) - len(verdicts[0].real))


def judge(selections: Sequence[Selection], results: Sequence[Result]) -> list[Verdict]:
    """Return the verdict on each selection; `results` are those of the candidates on labeled test images.

    Candidates without a real score in one of the categories are skipped in all. Raise DataError if none is left.
    """
    real: list[dict[Candidate, float]] = []
    for selection in selections:
        own = [result for result in results if result.job.category == selection.category]
        real.append({Candidate.of(one.job): score for one in own if (score := score_of(one.metrics)) is not None})
    common = set.intersection(*({one.candidate for one in selection.ranking} for selection in selections), *map(set, real))
    if not common:
        raise DataError("select --verify: no candidate could be measured in every category; 'adbench report' says why")
    real = [{one: score for one, score in scores.items() if one in common} for scores in real]
    verdicts = []
    for number, selection in enumerate(selections):
        others = [*real[:number], *real[number + 1 :]]
        ranking = tuple(one for one in selection.ranking if one.candidate in common)
        elsewhere = _best_mean(others) if others else None
        verdicts.append(Verdict(replace(selection, ranking=ranking), real[number], _best_mean(real), elsewhere))
    return verdicts


def _best_mean(real: Sequence[RealScores]) -> Candidate:
    return max(real[0], key=lambda one: fmean(scores[one] for scores in real))
