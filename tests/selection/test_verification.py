"""Verification: regrets and rank correlations by hand."""

from dataclasses import replace
from pathlib import Path

import pytest

from adbench.core.errors import DataError
from adbench.metrics.support.labels import CategoryInputs
from adbench.selection.ranking import SCORED, Ranked
from adbench.selection.select import Selection
from adbench.selection.validation import Validation
from adbench.selection.verification import Verification, judge
from adbench.types import Category, Job, Result

JOB = Job("parts", "f", "nut", "efficientnet_lite0", "imagenet", "s", ("blocks.2.1.add",), 256, 256, "patchcore",
          {"coreset_fraction": 0.1}, 1, 0)  # fmt: skip
COST: dict[str, float | None] = {"latency_ms": 10.0, "memory_mb": 5.0}


def selection_of(name: str, scores: dict[str, float]) -> Selection:
    """A selection of one layer per score, the best first."""
    validation = Validation(CategoryInputs(Category("parts", name, (), ()), {}), (0.1,))
    jobs = {layer: replace(JOB, layers=(layer,)) for layer in scores}
    done = {layer: Result(job, "done", None, dict.fromkeys(SCORED, scores[layer]), COST) for layer, job in jobs.items()}
    ranking = [Ranked(done[layer], score, (0, 1), False) for layer, score in scores.items()]
    return Selection("parts", validation, tuple(ranking), (), Path("out"))


def real(name: str, **scores: float) -> list[Result]:
    return [
        Result(replace(JOB, category=name, layers=(layer,)), "done", None, {"image_auroc": score, "aupro": score})
        for layer, score in scores.items()
    ]


def test_regrets_of_each_way_to_choose() -> None:
    choices = [selection_of("nut", {"a": 0.9, "b": 0.8, "c": 0.7}), selection_of("bolt", {"c": 0.9, "b": 0.8, "a": 0.1})]
    measured = [*real("nut", a=0.9, b=0.6, c=0.3), *real("bolt", a=0.1, b=0.8, c=0.6)]
    nut, bolt = verdicts = judge(choices, measured)
    assert [(v.chosen.layer, v.best.layer, v.fixed.layer) for v in verdicts] == [("a", "a", "b"), ("c", "b", "b")]
    assert (nut.fixed_elsewhere.layer, bolt.fixed_elsewhere.layer) == ("b", "a")  # type: ignore[union-attr]
    assert nut.regrets == pytest.approx({"chosen": 0, "best_fixed": 0.3, "best_fixed_of_others": 0.3, "by_lot": 0.3})
    assert bolt.regrets == pytest.approx({"chosen": 0.2, "best_fixed": 0, "best_fixed_of_others": 0.7, "by_lot": 0.3})
    assert (nut.spearman, bolt.spearman) == (1.0, 0.5)
    found = Verification(verdicts, Path("out"))
    assert (found.wins, found.mean_spearman) == ((1, 0), 0.75)
    assert found.record()["mean"]["regret"]["chosen"] == pytest.approx(0.1)


def test_a_candidate_without_a_real_score_in_one_category_is_skipped_in_all() -> None:
    choices = [selection_of("nut", {"a": 0.9, "b": 0.8}), selection_of("bolt", {"a": 0.9, "b": 0.8})]
    verdicts = judge(choices, [*real("nut", a=0.9, b=0.6), *real("bolt", b=0.8)])
    assert [list(v.real.values()) for v in verdicts] == [[0.6], [0.8]]
    assert [v.spearman for v in verdicts] == [None, None]
    message = "select --verify: no candidate could be measured in every category; 'adbench report' says why"
    with pytest.raises(DataError, match=f"^{message}$"):
        judge(choices, real("nut", a=0.9))
