"""Bootstrap replicates: equal to metrics of images truly drawn again, the same for all detectors, never undefined."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import Run

from adbench.metrics import METRICS, ORDER, Regions, components, evaluate, register
from adbench.statistics.bootstrap import curves_metrics, draw_replicates, image_histograms, intervals, pixel_histograms, resample
from adbench.sweep.results import ResultStore
from adbench.types import Job, Result, Scores, Truth

SIDE = 48
DEFINED = [*ORDER, "aupro_05", "aupro_anomalous"]  # without saturation areas, and with few pixels


def case(good: int = 12, bad: int = 8, side: int = SIDE, seed: int = 0) -> tuple[Scores, Truth, Regions]:
    """Images with one or two square defects that score somewhat higher; image scores with ties."""
    rng = np.random.default_rng(seed)
    maps = rng.gamma(2, size=(good + bad, side, side)).astype(np.float32)
    masks = np.zeros(maps.shape, bool)
    for mask in masks[good:]:
        for _ in range(rng.integers(1, 3)):
            y, x = rng.integers(0, side - 9, 2)
            mask[y : y + rng.integers(2, 9), x : x + rng.integers(2, 9)] = True
    maps[masks] *= 2
    return Scores(maps.max((1, 2)).round(0), maps), Truth(np.arange(good + bad) >= good, masks), components(masks)


def drawn_again(scores: Scores, truth: Truth, times: np.ndarray) -> list[float | None]:
    """The exact metrics of a test set that holds image i `times[i]` times."""
    chosen = np.repeat(np.arange(len(times)), times.astype(int))
    again = Truth(truth.anomalous[chosen], np.asarray(truth.masks)[chosen])
    metrics = evaluate(Scores(scores.image[chosen], np.asarray(scores.maps)[chosen]), again)
    return [metrics[name] for name in ORDER]


def test_replicates_equal_the_metrics_of_images_drawn_again() -> None:
    scores, truth, regions = case()
    draws = draw_replicates("parts", truth.anomalous, 6)
    found, _ = resample(scores, truth, regions, 0.3, draws, evaluate(scores, truth))
    expected = np.array([drawn_again(scores, truth, times) for times in draws.times], dtype=float).T
    np.testing.assert_allclose(found[:3], expected[:3], atol=1e-7)
    np.testing.assert_allclose(found[3:7], expected[3:], atol=2e-3)


def test_histograms_are_exact_where_every_score_has_its_bin() -> None:
    scores, truth, regions = case(side=16)
    levels = replace(scores, maps=np.floor(np.asarray(scores.maps) * 2))
    histograms = pixel_histograms(levels.maps, np.asarray(truth.masks), regions.weights, 1 << 14)
    found = curves_metrics(histograms, np.ones((1, len(truth.anomalous))), 0.3)
    metrics = evaluate(levels, truth)
    np.testing.assert_allclose(found[:, 0], [metrics[name] for name in ORDER[3:]], rtol=1e-12)


def test_image_histograms_are_exact() -> None:
    scores, truth, _ = case()
    assert np.unique(scores.image).size < scores.image.size
    found = curves_metrics(image_histograms(scores.image, truth.anomalous), np.ones((1, 20)), 0.3)
    metrics = evaluate(scores, truth)
    np.testing.assert_allclose(found[:3, 0], [metrics[name] for name in ORDER[:3]], rtol=1e-12)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_the_whole_is_met_at_any_scale_of_scores(scale: float) -> None:
    scores, truth, regions = case()
    maps = (np.asarray(scores.maps) * scale).astype(np.float32)
    found = curves_metrics(pixel_histograms(maps, np.asarray(truth.masks), regions.weights), np.ones((1, 20)), 0.3)
    metrics = evaluate(replace(scores, maps=maps), truth)
    np.testing.assert_allclose(found[:, 0], [metrics[name] for name in ORDER[3:]], atol=2e-3)


def test_draws_keep_the_number_of_each_kind_and_follow_the_test_images() -> None:
    labels = np.arange(30) % 3 == 0
    first, again, other = (
        draw_replicates("parts", labels, 50),
        draw_replicates("parts", labels, 50),
        draw_replicates("other", labels, 50),
    )
    assert (first.times[:, labels].sum(axis=1) == 10).all() and (first.times[:, ~labels].sum(axis=1) == 20).all()
    np.testing.assert_array_equal(first.times, again.times)
    assert first.name == again.name != other.name


def test_an_interval_holds_the_metric_and_shrinks_with_more_images() -> None:
    widths = []
    for good, bad in ((12, 8), (120, 80)):
        scores, truth, regions = case(good, bad, 24)
        metrics = evaluate(scores, truth)
        draws = draw_replicates("parts", truth.anomalous)
        found = intervals(metrics, resample(scores, truth, regions, 0.3, draws, metrics)[1])
        assert list(found) == DEFINED
        assert all(low <= metrics[name] <= high for name, (low, high) in found.items())  # type: ignore[operator]
        widths.append([high - low for low, high in found.values()])
    assert (np.array(widths[1]) < np.array(widths[0])).all()


def test_what_is_not_defined_has_no_interval() -> None:
    scores, truth, _ = case()
    for without in (Truth(truth.anomalous, None), Truth(np.zeros(20, bool), np.zeros((20, SIDE, SIDE), bool))):
        metrics, draws = evaluate(scores, without), draw_replicates("parts", without.anomalous, 20)
        found = intervals(metrics, resample(scores, without, None, 0.3, draws, metrics)[1])
        assert list(found) == [name for name in ORDER if metrics[name] is not None]


def test_a_replicate_without_a_defective_pixel_does_not_count() -> None:
    scores, truth, _ = case(good=3, bad=2)
    masks = np.asarray(truth.masks).copy()
    masks[3] = False  # lost at this grid: a replicate that draws this image twice has nothing to find
    alone, metrics = Truth(truth.anomalous, masks), evaluate(scores, Truth(truth.anomalous, masks))
    draws = draw_replicates("parts", truth.anomalous, 200)
    found, influence = resample(scores, alone, components(masks), 0.3, draws, metrics)
    np.testing.assert_array_equal(np.isnan(found[3:7]).all(axis=0), draws.times[:, 4] == 0)
    assert not np.isnan(found[:3]).any() and np.isnan(influence[3:7]).any(axis=1).all()
    ends = intervals(metrics, influence)
    assert list(ends) == DEFINED and all(low < high for low, high in ends.values())


def test_maps_of_differing_sizes_are_taken() -> None:
    scores, truth, _ = case(good=2, bad=2)
    maps = [m[: 30 + i] for i, m in enumerate(scores.maps)]
    masks = [k[: 30 + i] for i, k in enumerate(np.asarray(truth.masks))]
    cut, found = Truth(truth.anomalous, masks), components(masks)
    whole = curves_metrics(pixel_histograms(maps, masks, found.weights), np.ones((1, 4)), 0.3)
    metrics = evaluate(Scores(scores.image, maps), cut)
    np.testing.assert_allclose(whole[:, 0], [metrics[name] for name in ORDER[3:]], atol=2e-3)


JOB = Job("demo", "f0", "bolt", "resnet18", "random", "ab", ("layer2",), 256, 256, "knn", {"neighbours": 5}, 1, 0)


def test_replicates_lie_beside_the_record(tmp_path: Path) -> None:
    store, found = ResultStore(tmp_path), np.random.default_rng(0).random((7, 5)).astype(np.float32)
    store.write(Result(JOB, "done", metrics={"aupro": 0.5}, replicates=found))
    np.testing.assert_array_equal(store.replicates(JOB.key), found)
    (read,) = store.all()
    assert read.replicates is None and "replicates" not in read.record()
    assert store.replicates("0" * 20) is None


def test_damaged_replicates_are_told_and_set_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = ResultStore(tmp_path)
    path = tmp_path / "replicates" / f"{JOB.key}.npy"
    store.write(Result(JOB, "done", metrics=dict.fromkeys(ORDER, 0.5), replicates=np.zeros((6, 5), np.float32)))
    assert store.replicates(JOB.key) is None and not path.exists()
    problem = "float32 of shape (6, 5), not float32 of 7 rows"
    assert caplog.messages == [f"set aside as {path}.damaged: damaged ({problem}); no differences are tested with it"]


def test_a_sweep_keeps_intervals_and_replicates(run: Run, parts: Path, tmp_path: Path) -> None:
    grid = "backbones: [efficientnet_lite0]\nlayers: [blocks.1.1.add, blocks.2.1.add]\nimage_sizes: [64]\neval_size: 64\n"
    (tmp_path / "spec.yaml").write_text(grid)
    assert run("sweep", "--spec", "spec.yaml", "--data", parts, "--category", "beta", "--out", "out").code == 0
    first, second = ResultStore(Path("out")).all()
    assert first.details["resamples"] == second.details["resamples"]
    for result in (first, second):
        found, drawn = ResultStore(Path("out")).influence(result.job.key), ResultStore(Path("out")).replicates(result.job.key)
        assert found is not None and drawn is not None and drawn.shape == (len(result.metrics), 1000)
        assert intervals(result.metrics, found) == result.details["intervals"]
        assert result.details["interval_method"] == "logit jackknife"


def test_pictures_made_of_one_image_are_drawn_together() -> None:
    times = draw_replicates("parts", np.array([False] * 3 + [True] * 2), 50, sources=(0, 1, 2, 1, 1)).times
    np.testing.assert_array_equal(times[:, [3, 4]], times[:, [1, 1]])
    np.testing.assert_array_equal(times[:, :3].sum(axis=1), np.full(50, 3))
    assert times.max() > 1


def test_a_metric_from_outside_has_replicates_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(METRICS, "_items", dict(METRICS.items()))
    for name in ("image_auroc", "pixel_ap", "aupro"):
        register(f"toy_{name}")(METRICS.get(name))
    register("toy_count")(lambda case: len(case.scores.maps) / 40 if case.image else None)
    scores, truth, regions = case()
    metrics = evaluate(scores, truth)
    found, influence = resample(scores, truth, regions, 0.3, draw_replicates("parts", truth.anomalous, 60), metrics)
    rows = dict(zip(metrics, found, strict=True))
    for name in ("image_auroc", "pixel_ap", "aupro"):
        np.testing.assert_allclose(rows[f"toy_{name}"], rows[name], rtol=1e-6)
    low, high = intervals(metrics, influence)["toy_count"]  # leaving out one of 20 equal images: as sure as 8 trials
    assert low < 0.5 - 0.3 and high > 0.5 + 0.3
    assert list(intervals(metrics, influence)) == [n for n in metrics if metrics[n] is not None] and len(metrics) == 15
