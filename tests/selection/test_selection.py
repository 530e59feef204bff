"""What a selection is made of: held-out images, rounds, ranking, advice."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adbench.backbones.layers import block_ends, describe
from adbench.core.errors import DataError
from adbench.data.check import FileFacts
from adbench.metrics import components, evaluate
from adbench.metrics.support.labels import CategoryInputs
from adbench.selection.advice import advice
from adbench.selection.candidates import Candidate, spelt_out
from adbench.selection.halving import round_shares
from adbench.selection.ranking import SCORED, Limits, Ranked, rank, shrunk, split_excluded
from adbench.selection.select import Selection, train_command
from adbench.selection.validation import Holdout, Validation, make_validation
from adbench.selection.verification import Verification, judge
from adbench.statistics.bootstrap import draw_replicates, replicates
from adbench.sweep.results import ResultStore
from adbench.sweep.spec import Choice, Spec
from adbench.types import Category, Job, Result, Sample, Scores, Truth

LITE = "efficientnet_lite0"
JOB = Job("parts", "f", "nut", LITE, "imagenet", "s", ("blocks.2.1.add",), 256, 256, "patchcore",
          {"coreset_fraction": 0.1}, 1, 0)  # fmt: skip

COST: dict[str, float | None] = {"latency_ms": 10.0, "memory_mb": 5.0}


def result(strength: float, **changes: Any) -> Result:
    """A result on 12 good images and 24 defective ones that stand out by `strength`, with replicates of its metrics."""
    rng = np.random.default_rng(0)
    anomalous = np.arange(36) >= 12
    masks = np.zeros((36, 24, 24), bool)
    for mask in masks[12:]:
        y, x = rng.integers(0, 18, 2)
        mask[y : y + 5, x : x + 4] = True
    maps = rng.normal(size=masks.shape).astype(np.float32) + strength * masks.astype(np.float32)
    scores, truth, regions = Scores(maps.max(axis=(1, 2)), maps), Truth(anomalous, masks), components(masks)
    metrics = evaluate(scores, truth)
    found = replicates(scores, truth, regions, 0.3, draw_replicates("f", anomalous, sources=tuple(range(12)) * 3), metrics)
    return Result(replace(JOB, **changes), "done", None, metrics, COST, {}, {"receptive_field_px": 64}, found)


def ranked(folder: Path, *results: Result) -> list[Ranked]:
    store = ResultStore(folder)
    for one in results:
        store.write(one)
    return rank(split_excluded(results, Limits())[0], store)


def test_the_ranking_is_by_score_and_knows_ties(tmp_path: Path) -> None:
    results = [result(0.3, layers=("a",)), result(2.0, layers=("b",)), result(2.0, layers=("c",))]
    found = ranked(tmp_path, *results)
    assert [(one.job.layer in "bc", one.tied) for one in found] == [(True, True), (True, True), (False, False)]
    assert all(one.interval[0] <= one.score <= one.interval[1] for one in found)
    assert found == ranked(tmp_path, *results[::-1])


GRID = ([layer for layer in "ab" for _ in range(2)], [192, 256] * 2)  # a layer and a size for each of four scores


def test_a_score_is_drawn_to_what_layer_and_size_explain_as_far_as_noise_goes() -> None:
    scores = np.array([0.9, 0.5, 0.5, 0.5])  # additive: 0.8, 0.6, 0.6, 0.4, so the rest is 0.1 up and down
    swing = np.array([1, -1, -1, 1])[:, None] * np.array([0.05, -0.05])  # half of the rest: a quarter of its square
    found, replicates = shrunk(*GRID, scores, scores[:, None] + swing)
    np.testing.assert_allclose(found, [0.875, 0.525, 0.525, 0.475])
    np.testing.assert_allclose(replicates[:, 0] - found, [0.0375, -0.0375, -0.0375, 0.0375])
    np.testing.assert_allclose(shrunk(*GRID, scores, scores[:, None] + 9 * swing)[0], [0.8, 0.6, 0.6, 0.4])


@pytest.mark.parametrize(("columns", "spread"), [([256] * 4, 0.1), (GRID[1], 0.0)], ids=["one size", "replicates without noise"])
def test_scores_stay_as_they_are(columns: list[int], spread: float) -> None:
    scores, noise = np.array([0.9, 0.5, 0.4, 0.5]), spread * np.random.default_rng(0).normal(size=(4, 9))
    rows = list("abcd") if len(set(columns)) == 1 else GRID[0]
    found, replicates = shrunk(rows, columns, scores, scores[:, None] + noise)
    assert found.tolist() == scores.tolist()
    assert replicates.tolist() == (scores[:, None] + noise).tolist()


def test_neighbours_bring_noisy_scores_nearer_to_the_truth() -> None:
    rng = np.random.default_rng(0)
    rows, columns = zip(*[(layer, size) for layer in range(20) for size in range(3)], strict=True)
    truth = 0.6 + 0.1 * np.take(rng.normal(size=20), rows) + 0.03 * np.array(columns)
    scores = truth + rng.normal(0, 0.03, 60)
    found, _ = shrunk(rows, columns, scores, scores[:, None] + rng.normal(0, 0.03, (60, 200)))
    assert np.square(found - truth).sum() < 0.6 * np.square(scores - truth).sum()


def test_lost_replicates_are_named(tmp_path: Path) -> None:
    lost = replace(result(1.0), replicates=None)
    key = lost.job.key
    message = f"{tmp_path}/replicates/{key}.npy is missing; delete {key}.json too, and run select again"
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        ranked(tmp_path, lost)


def test_limits_and_failures_leave_candidates_out_with_their_reason() -> None:
    results = [result(1.0), Result(replace(JOB, seed=5), "failed", "diverged")]
    for limits, reason in (
        (Limits(latency_ms=9.5), "takes 10.0 ms per image, more than --max-latency 9.5"),
        (Limits(memory_mb=4), "takes 5.0 MB, more than --max-memory 4 MB"),
    ):
        kept, out = split_excluded(results, limits)
        assert (kept, [one.status for one in out]) == ([], ["over a limit", "failed"])
        assert [one.reason for one in out] == [reason, "diverged"]
    assert len(split_excluded(results, Limits(10, 5))[0]) == 1


def parts_of(count: int) -> CategoryInputs:
    samples = tuple(Sample(Path(f"{k}.png"), f"{k}.png") for k in range(count))
    facts = {sample.path: FileFacts(f"{k:064x}", 4, 4) for k, sample in enumerate(samples)}
    return CategoryInputs(Category("parts", "nut", samples, ()), facts)


def test_too_few_good_images_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^category 'nut' has 9 good training images; select needs 10 or more$"):
        make_validation(parts_of(9), Holdout(), 0, tmp_path)


def test_a_part_has_fewer_images_to_fit_on_and_all_to_score() -> None:
    whole = Validation(parts_of(40), (0.1,), seed=3)
    part = whole.part(0.25)
    names = [sample.name for sample in part.inputs.category.train]
    assert len(names) == 10
    assert set(names) < {sample.name for sample in whole.inputs.category.train}
    assert part == whole.part(0.25) != replace(whole, seed=4).part(0.25)
    assert part.inputs.category.test == whole.inputs.category.test


@pytest.mark.parametrize(
    ("images", "candidates", "shares"),
    [(95, 40, [1]), (96, 5, [1]), (96, 6, [0.25, 1]), (400, 40, [1 / 16, 0.25, 1]), (400, 6, [0.25, 1])],
)
def test_early_rounds_are_held_only_where_they_save_time(images: int, candidates: int, shares: list[float]) -> None:
    assert round_shares(images, candidates) == shares


def spelt(spec: Spec, pairs: bool = False) -> tuple[str, ...]:
    return spelt_out(spec, None, pairs).backbones[0].layers


def test_layers_are_spelt_out() -> None:
    stages = ("blocks.1.1.add", "blocks.2.1.add", "blocks.4.2.add", "blocks.6.0.bn3")
    assert spelt(Spec()) == stages
    assert spelt(Spec(layers=("blocks.4.2.add", "blocks.2.1", "blocks.2.1.add")), pairs=True) == (
        "blocks.4.2.add", "blocks.2.1.add", "blocks.2.1.add+blocks.4.2.add")  # fmt: skip
    assert spelt(Spec(layers=("all",))) == tuple(block_ends(describe(LITE).layers))
    assert len(spelt(Spec(layers=("all",)))) == 15
    assert spelt(Spec(backbones=(Choice(LITE, ("blocks.4.2.add+blocks.1.1.add",)),), layers=("all",))) == (
        "blocks.1.1.add+blocks.4.2.add",)  # fmt: skip


def test_one_seed_is_left() -> None:
    assert spelt_out(Spec(seeds=(3, 4)), None).seeds == (3,)
    assert spelt_out(Spec(seeds=(3, 4)), None, seed=7).seeds == (7,)


def test_a_candidate_is_the_same_on_other_data() -> None:
    assert Candidate.of(JOB) == Candidate.of(replace(JOB, fingerprint="g", category="bolt", dataset="d"))
    assert Candidate.of(JOB) != Candidate.of(replace(JOB, params={"coreset_fraction": 0.2}))


def test_the_advice_gives_its_reasons() -> None:
    best = Ranked(result(2.0), 0.9, (0.85, 0.94), tied=True)
    quick = replace(result(2.0, image_size=192), cost={"latency_ms": 4.0, "memory_mb": 5.0})
    ranking = [best, Ranked(quick, 0.89, (0.8, 0.9), tied=True), Ranked(result(1.0), 0.5, (0.4, 0.6), tied=False)]
    assert advice(ranking, (0.05, 0.1, 0.2)) == (
        "Use blocks.2.1.add of efficientnet_lite0 at 256 px with patchcore. It ranks first of 3 candidates on the synthetic "
        "defects (score 0.900, 95 % interval 0.850 to 0.940). It takes 10 ms per image and 5.0 MB. Its receptive field is 2.5 "
        "times as wide as the median defect. 1 other candidate ties with it; blocks.2.1.add of efficientnet_lite0 at 192 px "
        "with patchcore takes only 4 ms per image."
    )


def test_the_command_names_what_is_no_default() -> None:
    assert train_command(JOB, "demo", "nut") == (
        "adbench train patchcore efficientnet_lite0 blocks.2.1.add --data demo --category nut --model nut.safetensors"
    )
    job = replace(JOB, weights="random", image_size=320, params={"coreset_fraction": 0.01}, seed=2)
    assert train_command(job, "my parts", "nut") == (
        "adbench train patchcore efficientnet_lite0 blocks.2.1.add --data 'my parts' --category nut --weights random "
        "--image-size 320 --seed 2 --param coreset_fraction=0.01 --model nut.safetensors"
    )


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


def test_regrets_of_the_choice_the_best_fixed_and_a_lot() -> None:
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


def test_a_candidate_without_a_real_score_in_a_category_is_left_out_of_all() -> None:
    choices = [selection_of("nut", {"a": 0.9, "b": 0.8}), selection_of("bolt", {"a": 0.9, "b": 0.8})]
    verdicts = judge(choices, [*real("nut", a=0.9, b=0.6), *real("bolt", b=0.8)])
    assert [list(v.real.values()) for v in verdicts] == [[0.6], [0.8]]
    assert [v.spearman for v in verdicts] == [None, None]
    message = "select --verify: no candidate could be measured in every category; 'adbench report' says why"
    with pytest.raises(DataError, match=f"^{message}$"):
        judge(choices, real("nut", a=0.9))
