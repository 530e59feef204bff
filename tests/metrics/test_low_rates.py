"""AUPIMO and AU-sPRO against brute force: a loop over all distinct thresholds, written without the code under test."""

import json
from itertools import pairwise
from math import log
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adbench.core.errors import DataError
from adbench.data.check import check_files
from adbench.data.datasets import open_dataset
from adbench.metrics import components, evaluate
from adbench.metrics.support import pimo
from adbench.metrics.support.breakdown import evaluate_broken_down
from adbench.metrics.support.labels import CategoryInputs
from adbench.statistics.bootstrap import draw_replicates, resample
from adbench.types import Sample, Saturated, Scores, Truth

LOW, HIGH = 0.04, 0.4  # as small images have no pixels to reach 1e-5


def brute_pimo(maps: list[np.ndarray], masks: list[np.ndarray], anomalous: np.ndarray, low: float, high: float) -> list[float]:
    """Return AUPIMO of each image with a defect: straight lines between all distinct thresholds, integrated piece by piece."""
    good = [m.ravel() for m, bad in zip(maps, anomalous, strict=True) if not bad]
    found = []
    for anomaly_map, mask in [(m, k) for m, k, bad in zip(maps, masks, anomalous, strict=True) if bad and k.any()]:
        points, area = [(0.0, 0.0)], 0.0
        for threshold in np.unique(np.concatenate([*good, anomaly_map[mask]]))[::-1]:
            points.append(
                (float(np.mean([np.mean(g >= threshold) for g in good])), float(np.mean(anomaly_map[mask] >= threshold)))
            )
        for (x0, y0), (x1, y1) in pairwise(points):
            start, end = max(x0, low), min(x1, high)
            if end > start:
                slope = (y1 - y0) / (x1 - x0)
                area += (y0 - slope * x0) * log(end / start) + slope * (end - start)
        found.append(area / log(high / low))
    return found


def random_case(seed: int) -> tuple[Scores, Truth]:
    """Return 3 to 6 small images, some with ties, of one size or of several; the first ones are good."""
    rng = np.random.default_rng(seed)
    count, levels = int(rng.integers(3, 7)), rng.choice([1, 3, 1000])
    sizes = [tuple(rng.integers(5, 9, 2)) if seed % 2 else (6, 7) for _ in range(count)]
    maps = [np.round(rng.standard_normal(size) * levels).astype(np.float32) for size in sizes]
    anomalous = np.arange(count) >= rng.integers(1, count)
    masks = [(rng.random(size) < 0.3) & bad for size, bad in zip(sizes, anomalous, strict=True)]
    masks[-1][0, 0] = True
    return Scores(np.array([m.max() for m in maps]), maps if seed % 2 else np.stack(maps)), Truth(anomalous, masks)


@pytest.mark.parametrize("block", range(4))
def test_aupimo_equals_brute_force(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pimo, "LOW", LOW)
    monkeypatch.setattr(pimo, "HIGH", HIGH)
    for seed in range(block * 75, block * 75 + 75):
        scores, truth = random_case(seed)
        expected = brute_pimo(list(scores.maps), list(truth.masks or ()), truth.anomalous, LOW, HIGH)
        found = pimo.per_image(scores, truth)
        assert found is not None and np.isnan(found[~truth.anomalous]).all()
        np.testing.assert_allclose(found[~np.isnan(found)], expected, atol=1e-9, rtol=0)
        assert evaluate(scores, truth)["aupimo"] == pytest.approx(np.mean(expected), abs=1e-9)


def published(maps: np.ndarray, masks: np.ndarray, good: int) -> float:
    """Return AUPIMO as its authors compute it: equidistant thresholds, the nearest rates reached, a trapezoid over log rate."""
    normal = np.sort(maps[:good].ravel())
    thresholds = np.linspace(normal[-30_000], normal[-1], 300_000)  # of the highest scores, where the rates in question are
    rate = 1 - np.searchsorted(normal, thresholds) / normal.size
    first, last = (int(np.argmin(np.abs(np.log(np.maximum(rate, 1e-12) / bound)))) for bound in (1e-4, 1e-5))
    values = []
    for anomaly_map, mask in zip(maps[good:], masks[good:], strict=True):
        ranked = np.sort(anomaly_map[mask])
        overlap = 1 - np.searchsorted(ranked, thresholds) / ranked.size
        x, y = np.log(rate[first : last + 1])[::-1], overlap[first : last + 1][::-1]
        values.append(float(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2) / log(10)))
    return float(np.mean(values))


def large_case() -> tuple[Scores, Truth]:
    rng = np.random.default_rng(3)
    maps = rng.standard_normal((14, 256, 256)).astype(np.float32)
    masks = np.zeros(maps.shape, bool)
    masks[10:, 20:60, 30:90] = True
    maps[masks] += 3.6
    return Scores(maps.max((1, 2)), maps), Truth(np.arange(14) >= 10, masks)


def test_aupimo_is_the_limit_of_the_published_computation() -> None:
    scores, truth = large_case()
    value = evaluate(scores, truth)["aupimo"]
    assert value == pytest.approx(published(np.asarray(scores.maps), np.asarray(truth.masks), 10), abs=0.01)
    assert value is not None and 0.2 < value < 0.8


def test_equal_scores_are_chance_and_few_pixels_undefined() -> None:
    masks = np.zeros((3, 256, 256), bool)
    masks[2, :9, :9] = True
    scores, truth = Scores(np.zeros(3, np.float32), np.ones(masks.shape, np.float32)), Truth(np.array([0, 0, 1], bool), masks)
    assert evaluate(scores, truth)["aupimo"] == pytest.approx(9e-5 / log(10), abs=1e-12)
    assert evaluate(Scores(scores.image[1:], scores.maps[1:]), Truth(truth.anomalous[1:], masks[1:]))["aupimo"] is None


def test_replicates_of_aupimo_equal_images_drawn_again() -> None:
    scores, truth = large_case()
    metrics, regions = evaluate(scores, truth), components(truth.masks)  # type: ignore[arg-type]
    draws = draw_replicates("parts", truth.anomalous, 5)
    found = dict(zip(metrics, resample(scores, truth, regions, 0.3, draws, metrics)[0], strict=True))
    for number, times in enumerate(draws.times):
        chosen = np.repeat(np.arange(14), times.astype(int))
        again = Truth(truth.anomalous[chosen], np.asarray(truth.masks)[chosen])
        expected = evaluate(Scores(scores.image[chosen], np.asarray(scores.maps)[chosen]), again)
        for name in ("aupimo", "aupro_05"):
            assert found[name][number] == pytest.approx(expected[name], abs=3e-3)


# ---- saturated overlap -------------------------------------------------------------------------------------------------


def brute_spro(maps: list[np.ndarray], masks: list[np.ndarray], defects: list[list[Saturated]], limit: float) -> float:
    """Return AU-sPRO up to a limit, from the share of each defect at all distinct thresholds."""
    good = np.concatenate([m[~k] for m, k in zip(maps, masks, strict=True)])
    regions = [(m.ravel()[d.pixels], d.area) for m, own in zip(maps, defects, strict=True) for d in own]
    points, total = [(0.0, 0.0)], 0.0
    for threshold in np.unique(np.concatenate([m.ravel() for m in maps]))[::-1]:
        points.append((np.mean(good >= threshold), np.mean([min((s >= threshold).sum() / a, 1) for s, a in regions])))
    for (x0, y0), (x1, y1) in pairwise(points):
        end = min(x1, limit)
        if end > x0:
            total += (end - x0) * (y0 + y0 + (y1 - y0) * (end - x0) / (x1 - x0)) / 2
    return float(total / limit)


def saturated_case(seed: int, side: int = 7) -> tuple[Scores, Truth]:
    """Return small images of two kinds with overlapping defects and saturation areas that are no whole numbers."""
    rng, size = np.random.default_rng(seed), side**2
    maps = np.round(rng.standard_normal((6, side, side)) * rng.choice([1, 4, 1000])).astype(np.float32)
    defects: list[list[Saturated]] = [[], []]
    for _ in range(4):
        chosen = [np.sort(rng.choice(size, n, replace=False)) for n in rng.integers(1, size // 3, rng.integers(1, 4))]
        defects.append([Saturated(pixels, float(rng.uniform(0.05, 1) * pixels.size)) for pixels in chosen])
    masks = np.zeros((6, size), bool)
    for mask, own in zip(masks, defects, strict=True):
        for defect in own:
            mask[defect.pixels] = True
    kinds = ["good", "good", "logical", "structural", "structural", "logical"]
    return Scores(maps.max((1, 2)), maps), Truth(np.arange(6) >= 2, masks.reshape(maps.shape), defects, kinds)


@pytest.mark.parametrize("block", range(3))
def test_au_spro_equals_brute_force(block: int) -> None:
    for seed in range(block * 70, block * 70 + 70):
        scores, truth = saturated_case(seed)
        parts = []
        for own in ([0, 1, 2, 5], [0, 1, 3, 4]):
            masks, defects = np.asarray(truth.masks), truth.defects or ()
            parts.append(brute_spro([scores.maps[i] for i in own], list(masks[own]), [list(defects[i]) for i in own], 0.05))
        assert evaluate(scores, truth)["au_spro"] == pytest.approx(np.mean(parts), abs=1e-9)
        samples = [Sample(Path(), str(i), kind) for i, kind in enumerate(truth.kinds or ())]
        whole, details = evaluate_broken_down(scores, truth, 0.3, None, samples)
        assert whole == evaluate(scores, truth)
        assert [details["by_defect"][k]["au_spro"] for k in ("logical", "structural")] == pytest.approx(parts, abs=1e-6)


def test_replicates_of_au_spro_equal_images_drawn_again() -> None:
    scores, truth = saturated_case(6, 60)
    metrics, regions = evaluate(scores, truth), components(truth.masks)  # type: ignore[arg-type]
    draws = draw_replicates("parts", truth.anomalous, 8)
    found = dict(zip(metrics, resample(scores, truth, regions, 0.3, draws, metrics)[0], strict=True))["au_spro"]
    for number, times in enumerate(draws.times):
        i = np.repeat(np.arange(6), times.astype(int))
        defects, kinds = [(truth.defects or ())[k] for k in i], [(truth.kinds or ())[k] for k in i]
        if {"logical", "structural"} <= set(kinds):
            again = Truth(truth.anomalous[i], np.asarray(truth.masks)[i], defects, kinds)
            expected = evaluate(Scores(scores.image[i], np.asarray(scores.maps)[i]), again)["au_spro"]
            assert found[number] == pytest.approx(expected, abs=5e-3)
        else:
            assert np.isnan(found[number])


def loco(root: Path, gray: int = 254) -> Path:
    """Write a category in LOCO's layout: a logical defect of 40 pixels in two blobs, 10 of which are enough; a structural one."""
    square = np.zeros((40, 20), np.uint8)
    for name in ("train/good/000.png", "validation/good/000.png", "test/good/000.png"):
        save(root / name, square + 90)
    for kind, value, blobs in (
        ("logical_anomalies", 255, (slice(0, 4), slice(20, 24))),
        ("structural_anomalies", gray, (slice(8, 12),)),
    ):
        mask = square.copy()
        for blob in blobs:
            mask[blob, 5:10] = value
        save(root / f"test/{kind}/000.png", square + 90)
        save(root / f"ground_truth/{kind}/000/000.png", mask)
    config = [
        {"defect_name": "missing", "pixel_value": 255, "saturation_threshold": 10, "relative_saturation": False},
        {"defect_name": "scratch", "pixel_value": 254, "saturation_threshold": 0.5, "relative_saturation": True},
    ]
    (root / "defects_config.json").write_text(json.dumps(config))
    return root


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def inputs_of(root: Path) -> CategoryInputs:
    (category,) = open_dataset(str(root), root / "cache")
    return CategoryInputs(category, check_files([category]))


def test_loco_is_read_with_its_saturation_areas(tmp_path: Path) -> None:
    inputs = inputs_of(loco(tmp_path / "box"))
    assert [s.name for s in inputs.split("validation")] == ["validation/good/000.png"]
    for size, expected in (("native", [[], [(40, 10)], [(20, 10)]]), (10, [[], [(6, 1.25)], [(3, 1)]])):
        truth = inputs.labels(size).truth  # type: ignore[arg-type]
        assert truth.kinds == ["good", "logical_anomalies", "structural_anomalies"]
        assert [[(d.pixels.size, d.area) for d in own] for own in truth.defects or ()] == expected


@pytest.mark.parametrize(("content", "says"), [
    ("[{}]", "KeyError"), ("nothing", "JSONDecodeError"),
    ('[{"pixel_value": 254, "saturation_threshold": 1.5, "relative_saturation": true}]', "out of range"),
    ('[{"pixel_value": 9, "saturation_threshold": 1, "relative_saturation": true}]', "gray value 255 is not in"),
])  # fmt: skip
def test_a_config_that_does_not_fit_is_named(tmp_path: Path, content: str, says: str) -> None:
    inputs = inputs_of(loco(tmp_path / "box"))
    (tmp_path / "box/defects_config.json").write_text(content)
    with pytest.raises(DataError, match=says):
        inputs.labels("native")
