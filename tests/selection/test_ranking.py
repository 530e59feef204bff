"""The ranking: order, ties, shrinkage, and the reasons why candidates are excluded."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adbench.core.errors import DataError
from adbench.metrics import components, evaluate
from adbench.selection.ranking import Limits, Ranked, rank, shrunk, split_excluded
from adbench.statistics.bootstrap import draw_replicates, resample
from adbench.sweep.results import ResultStore
from adbench.types import Job, Result, Scores, Truth

JOB = Job("parts", "f", "nut", "efficientnet_lite0", "imagenet", "s", ("blocks.2.1.add",), 256, 256, "patchcore",
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
    arrays = resample(scores, truth, regions, 0.3, draw_replicates("f", anomalous, sources=tuple(range(12)) * 3), metrics)
    return Result(replace(JOB, **changes), "done", None, metrics, COST, {}, {"receptive_field_px": 64}, *arrays)


def ranked(folder: Path, *results: Result) -> list[Ranked]:
    store = ResultStore(folder)
    for one in results:
        store.write(one)
    return rank(split_excluded(results, Limits())[0], store)


def test_candidates_are_ranked_by_score_with_ties(tmp_path: Path) -> None:
    results = [result(0.3, layers=("a",)), result(2.0, layers=("b",)), result(2.0, layers=("c",))]
    found = ranked(tmp_path, *results)
    assert [(one.job.layer in "bc", one.tied) for one in found] == [(True, True), (True, True), (False, False)]
    assert all(one.interval[0] <= one.score <= one.interval[1] for one in found)
    assert found == ranked(tmp_path, *results[::-1])


def test_results_of_earlier_versions_are_ranked_by_their_replicates(tmp_path: Path) -> None:
    results = [result(0.3, layers=("a",)), replace(result(2.0, layers=("b",)), influence=None)]
    assert [(one.job.layer, one.tied) for one in ranked(tmp_path, *results)] == [("b", True), ("a", False)]


GRID = ([layer for layer in "ab" for _ in range(2)], [192, 256] * 2)  # a layer and a size for each of four scores


def test_residuals_from_layer_and_size_shrink_by_their_share_of_noise() -> None:
    scores = np.array([0.9, 0.5, 0.5, 0.5])  # additive: 0.8, 0.6, 0.6, 0.4, so the rest is 0.1 up and down
    swing = np.array([1, -1, -1, 1])[:, None] * np.array([0.03, -0.04])  # half of the rest: a quarter of its square
    found, influence = shrunk(*GRID, scores, swing)
    np.testing.assert_allclose(found, [0.875, 0.525, 0.525, 0.475])
    np.testing.assert_allclose(influence[:, 0], [0.0225, -0.0225, -0.0225, 0.0225])
    np.testing.assert_allclose(shrunk(*GRID, scores, 9 * swing)[0], [0.8, 0.6, 0.6, 0.4])


@pytest.mark.parametrize(("columns", "spread"), [([256] * 4, 0.1), (GRID[1], 0.0)], ids=["one size", "no noise"])
def test_scores_are_not_shrunk(columns: list[int], spread: float) -> None:
    scores, noise = np.array([0.9, 0.5, 0.4, 0.5]), spread * np.random.default_rng(0).normal(size=(4, 9))
    rows = list("abcd") if len(set(columns)) == 1 else GRID[0]
    found, influence = shrunk(rows, columns, scores, noise)
    assert found.tolist() == scores.tolist() and influence.tolist() == noise.tolist()


def test_shrinkage_brings_noisy_scores_closer_to_the_truth() -> None:
    rng = np.random.default_rng(0)
    rows, columns = zip(*[(layer, size) for layer in range(20) for size in range(3)], strict=True)
    truth = 0.6 + 0.1 * np.take(rng.normal(size=20), rows) + 0.03 * np.array(columns)
    scores = truth + rng.normal(0, 0.03, 60)
    found, _ = shrunk(rows, columns, scores, rng.normal(0, 0.03, (60, 200)) / np.sqrt(200))
    assert np.square(found - truth).sum() < 0.6 * np.square(scores - truth).sum()


def test_lost_replicates_are_named(tmp_path: Path) -> None:
    lost = replace(result(1.0), replicates=None, influence=None)
    key = lost.job.key
    message = f"{tmp_path}/replicates/{key}.npy is missing; delete {key}.json too, and run select again"
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        ranked(tmp_path, lost)


def test_limits_and_failures_exclude_candidates_with_a_reason() -> None:
    results = [result(1.0), Result(replace(JOB, seed=5), "failed", "diverged")]
    for limits, reason in (
        (Limits(latency_ms=9.5), "takes 10.0 ms per image, more than --max-latency 9.5"),
        (Limits(memory_mb=4), "takes 5.0 MB, more than --max-memory 4 MB"),
    ):
        kept, out = split_excluded(results, limits)
        assert (kept, [one.status for one in out]) == ([], ["over a limit", "failed"])
        assert [one.reason for one in out] == [reason, "diverged"]
    assert len(split_excluded(results, Limits(10, 5))[0]) == 1
