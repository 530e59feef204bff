"""Thresholds by rules: the same numbers in sweep, train, eval and predict, and equal to counting by hand."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Run, make_category, one_line

from adbench.core.errors import UsageError
from adbench.metrics import AT_THRESHOLD, components
from adbench.statistics.bootstrap import draw_replicates
from adbench.statistics.decisions import decide
from adbench.statistics.rules import GoodScores, Limits, limits_of, parse_rule
from adbench.sweep.results import ResultStore
from adbench.types import Scores, Truth

SPEC = (
    "backbones: [efficientnet_lite0]\nlayers: [blocks.1.1.add]\nimage_sizes: [64]\neval_size: 64\ndetectors: [patchcore]\n"
    "categories: [alpha]\n"
)
RULES = ("conformal:0.6", "sigma:1")


def good(count: int, seed: int = 0) -> GoodScores:
    rng = np.random.default_rng(seed)
    pixels = rng.gamma(2, size=(count, 30)).astype(np.float32)
    return GoodScores(rng.gamma(9, size=count).astype(np.float32), pixels.max(axis=1), np.median(pixels, axis=1), pixels)


@pytest.mark.parametrize(("text", "canonical"), [
    ("conformal", "conformal:0.01"), ("Conformal: 0.05", "conformal:0.05"), ("sigma", "sigma:3"), ("sigma:2.5", "sigma:2.5"),
    ("quantile", "quantile:0.95*1.421"), ("quantile:.9", "quantile:0.9"), ("quantile:0.9 * 1.0", "quantile:0.9"),
])  # fmt: skip
def test_rules_have_one_form(text: str, canonical: str) -> None:
    assert parse_rule(text).text == parse_rule(canonical).text == canonical


@pytest.mark.parametrize("text", ["", "conformal:1", "conformal:0.1*2", "sigma:0", "quantile:1.2", "median", "sigma:x"])
def test_what_is_no_rule(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_rule(text)
    assert str(caught.value) == f"threshold rule '{text}': write conformal:0.01, sigma:3 or quantile:0.95*1.421"


def test_values_by_hand() -> None:
    scores = good(20)
    assert scores.pixels is not None
    conformal, sigma, quantile = (limits_of(parse_rule(rule), scores) for rule in ("conformal:0.1", "sigma:3", "quantile:0.95*2"))
    assert (conformal.image, conformal.pixel) == (np.sort(scores.image)[18], np.sort(scores.highest)[18])
    assert (conformal.promised, sigma.promised) == (2 / 21, None)
    assert sigma.image == pytest.approx(scores.image.mean() + 3 * scores.image.std())
    assert sigma.pixel == pytest.approx(scores.pixels.mean() + 3 * scores.pixels.std())
    assert quantile.pixel == pytest.approx(2 * np.quantile(scores.pixels, 0.95))


def test_a_rate_that_too_few_images_can_promise_has_no_threshold() -> None:
    found = limits_of(parse_rule("conformal:0.01"), good(98))
    assert (found.image, found.pixel) == (None, None)
    assert found.reason == "conformal:0.01 needs 99 held-out good images to promise its rate, and has 98 held-out good images"
    assert limits_of(parse_rule("conformal:0.01"), good(99)).image is not None
    below = GoodScores(*(np.full(9, -1, np.float32),) * 4)
    assert "is not above 0; use quantile:0.95" in str(limits_of(parse_rule("quantile:0.95*1.421"), below).reason)


def test_metrics_equal_counting_one_by_one() -> None:
    rng = np.random.default_rng(1)
    truth = Truth(np.array([0, 1, 0, 1, 1, 0, 1], bool), rng.random((7, 9, 9)) < 0.2)
    truth.masks[~truth.anomalous] = False  # type: ignore[index]
    scores = Scores(np.round(rng.random(7) + 0.3 * truth.anomalous, 1).astype(np.float32), rng.random((7, 9, 9), np.float32))
    draws, limits = draw_replicates("x", truth.anomalous, 30), Limits("sigma:3", float(scores.image[1]), 0.7, 9)
    found = decide([limits, Limits("sigma:4", None, None, 1, reason="few")], scores, truth, draws)

    def counted(images: list[int]) -> list[float]:
        sides: dict[str, list[tuple[bool, bool]]] = {
            "image": [(scores.image[i] > limits.image, truth.anomalous[i]) for i in images],
            "pixel": [
                (scores.maps[i][y, x] > 0.7, truth.masks[i][y, x])  # type: ignore[index]
                for i in images for y in range(9) for x in range(9)
            ],
        }  # fmt: skip
        n = {(side, a, b): sum((bool(f), bool(t)) == (a, b) for f, t in pairs)
             for side, pairs in sides.items() for a in (True, False) for b in (True, False)}  # fmt: skip

        def f1(side: str) -> float:
            return 2 * n[side, True, True] / (2 * n[side, True, True] + n[side, True, False] + n[side, False, True])

        recall, rate = (n["image", True, t] / (n["image", True, t] + n["image", False, t]) for t in (True, False))
        return [f1("image"), recall, rate, f1("pixel")]

    assert list(found.metrics) == list(AT_THRESHOLD) and [*found.metrics.values()] == pytest.approx(counted([*range(7)]))
    again = [counted(np.repeat(np.arange(7), times.astype(int)).tolist()) for times in draws.times[:5]]
    np.testing.assert_allclose(found.replicates[:, :5], np.array(again).T)
    assert found.influence.shape == (4, 7) and components(truth.masks).weights.size  # type: ignore[arg-type]
    assert set(found.details[1]["metrics"].values()) == {None} and found.details[1]["reason"] == "few"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A category of which two good images are held out."""
    root = tmp_path_factory.mktemp("many")
    make_category(root / "alpha", 4, train=8)
    return root


@pytest.fixture
def sweep(run: Run, data: Path) -> Any:
    """Run a sweep with some more keys; return its records."""

    def call(more: str, out: str = "out") -> list[dict[str, Any]]:
        Path("spec.yaml").write_text(SPEC + more)
        assert run("sweep", "--spec", "spec.yaml", "--data", data, "--out", out, "--json").json["failed"] == 0
        return run("report", out, "--json").json  # type: ignore[no-any-return]

    return call


def test_predict_decides_as_the_metric_counted(sweep: Any, run: Run, data: Path) -> None:
    (record,) = sweep(f"thresholds: [{', '.join(RULES)}]\nseeds: 3\n")
    assert record["details"]["good_images"] == 6 and record["thresholds"] == list(RULES)
    own = ("--data", data, "--category", "alpha", "--image-size", 64, "--eval-size", 64, "--seed", 3, "--json")
    for rule, known in zip(RULES, record["details"]["thresholds"], strict=True):
        run("train", "patchcore", "efficientnet_lite0", "blocks.1.1.add", *own, "--rule", rule, "--model", "m.safetensors")
        measured = run("eval", "m.safetensors", "--data", data, "--json").json
        (of_eval,) = measured["details"]["thresholds"]
        assert of_eval == known
        assert {name: round(measured["metrics"][name], 6) for name in AT_THRESHOLD} == known["metrics"]
        rows = run("predict", "m.safetensors", data / "alpha/test", "--out", "seen", "--json").json["predictions"]
        called = {"good": [], "spot": []}
        for row in rows:
            called[Path(row["path"]).parent.name].append(row["decision"] == "anomalous")
        rates = [round(sum(called[kind]) / len(called[kind]), 6) for kind in ("spot", "good")]
        assert rates == [known["metrics"]["image_recall"], known["metrics"]["image_fpr"]]
    assert record["metrics"]["image_fpr"] == pytest.approx(record["details"]["thresholds"][0]["metrics"]["image_fpr"], abs=1e-6)


def test_without_the_keys_nothing_changes(sweep: Any) -> None:
    usual, both = sweep("", "a"), sweep("thresholds: conformal\n", "b")
    assert not set(AT_THRESHOLD) & set(usual[0]["metrics"]) and "thresholds" not in usual[0]["details"]
    assert usual[0]["key"] != both[0]["key"] and "thresholds" not in usual[0] and "shift" not in usual[0]
    assert "needs 99 held-out good images" in both[0]["reason"] and both[0]["metrics"]["image_f1"] is None
    rows = ResultStore(Path("b")).influence(both[0]["key"])
    assert rows is not None and len(rows) == len(both[0]["metrics"]) + 1


def test_calibrate_on_another_folder(run: Run, parts: Path) -> None:
    train = ("train", "mahalanobis", "efficientnet_lite0", "blocks.1.1.add", "--data", parts, "--category", "alpha",
             "--image-size", 64, "--model", "m.safetensors")  # fmt: skip
    other = parts / "beta/train/good"
    found = run(*train, "--rule", "conformal:0.3", "--calibrate-on", other, "--json").json
    assert (found["fitted_images"], found["threshold"]["count"], found["threshold"]["rule"]) == (5, 5, "conformal:0.3")
    seen = run(*train, "--fpr", 0.3, "--calibrate-on", parts / "alpha")
    assert "the detector is fitted to 5 of these" in one_line(seen, 2)
    assert one_line(run(*train, "--fpr", 0.3, "--rule", "sigma"), 2).startswith("--fpr and --rule exclude each other")


def test_mistakes_about_thresholds_are_refused_or_said(run: Run, parts: Path) -> None:
    train = ("train", "mahalanobis", "efficientnet_lite0", "blocks.1.1.add", "--data", parts, "--category", "alpha",
             "--image-size", 64, "--model", "m.safetensors")  # fmt: skip
    mixed = one_line(run(*train, "--fpr", 0.3, "--calibrate-on", parts / "beta/test"), 2)
    assert "lies in no folder of good images" in mixed and str(parts / "beta/test/good") in mixed
    assert not Path("m.safetensors").exists()
    short = one_line(run(*train, "--fpr", 0.3, "--shots", 5), 2)
    assert "has 4 training images besides 1 held out for the threshold; take at most 4" in short
    assert "--cross-fit" not in run(*train, "--rule", "sigma", "--holdout", 0.4).err  # which takes no such rule
    assert run(*train, "--fpr", 0.3, "--calibrate-on", parts / "alpha/test/good").code == 0
    count = len(list((parts / "alpha/test/good").iterdir()))
    assert f"{count} of the test images set its threshold" in run("eval", "m.safetensors", "--data", parts).err


def test_validation_images_set_the_threshold_of_a_fit_to_all_training_images(run: Run, data: Path, tmp_path: Path) -> None:
    shutil.copytree(data, tmp_path / "own")
    (tmp_path / "own/alpha/train/good").rename(tmp_path / "own/alpha/validation")
    make_category(tmp_path / "own/alpha", 9, train=3)
    own = tmp_path / "own/alpha/validation"
    own.rename(tmp_path / "good")
    own.mkdir()
    (tmp_path / "good").rename(own / "good")
    spec = SPEC.replace("patchcore", "mahalanobis") + "thresholds: conformal:0.2\nshifts: blur:3\n"
    Path("spec.yaml").write_text(spec)
    assert run("sweep", "--spec", "spec.yaml", "--data", "own", "--out", "out", "--json").json["done"] == 2
    for record in run("report", "out", "--json").json:
        (facts,) = record["details"]["thresholds"]
        assert (record["details"]["good_images"], facts["count"], facts["promised"]) == (3, 8, 1 / 9)
    shown = run("report", "out", "--columns", "category", "--metric", "image_fpr").out
    assert "1 job on shifted test images not in this table" in shown
