"""Metrics against brute force: a loop over all distinct thresholds, written without the code under test."""

import subprocess
import sys
import tracemalloc
from collections import deque
from itertools import pairwise

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from adbench.core.errors import UsageError
from adbench.metrics import METRICS, ON_REQUEST, ORDER, components, evaluate, reason, reasons, register
from adbench.metrics.support import curves
from adbench.metrics.support.curves import count_below
from adbench.types import Scores, Truth

TINY = np.array([[1.0, 2.0], [3.0, 4.0]], dtype=np.float32)


def flood(mask):
    """Return the 8-connected regions of a mask as lists of pixels, by flood filling."""
    left, found = {tuple(p) for p in np.argwhere(mask)}, []
    while left:
        queue, region = deque([left.pop()]), []
        while queue:
            y, x = queue.popleft()
            region.append((y, x))
            near = {(y + i, x + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & left
            left -= near
            queue.extend(near)
        found.append(region)
    return found


def pro_points(maps, masks):
    """Return the (false positive rate, per-region overlap) at every distinct score, from (0, 0) to (1, 1)."""
    regions = [(m, r) for m, k in zip(maps, masks, strict=True) for r in flood(k)]
    good = np.concatenate([m[~k] for m, k in zip(maps, masks, strict=True)])
    points = [(0.0, 0.0)]
    for threshold in np.unique(np.concatenate([m.ravel() for m in maps]))[::-1]:
        overlap = np.mean([np.mean([m[p] >= threshold for p in r]) for m, r in regions])
        points.append((np.mean(good >= threshold), overlap))
    return points


def brute_pro(maps, masks, limit):
    """Return the area below `pro_points`, piece by piece, up to `limit`."""
    points, total = pro_points(maps, masks), 0.0
    for (x0, y0), (x1, y1) in pairwise(points):
        end = min(x1, limit)
        if x1 > x0 and end > x0:
            total += (end - x0) * (y0 + y0 + (y1 - y0) * (end - x0) / (x1 - x0)) / 2
    return total / limit


def brute_f1(labels, scores):
    """Return the best F1 over all distinct thresholds."""
    best = 0.0
    for threshold in np.unique(scores):
        hits = np.count_nonzero((scores >= threshold) & labels)
        best = max(best, 2 * hits / (np.count_nonzero(scores >= threshold) + np.count_nonzero(labels)))
    return best


def random_case(seed):
    """Return scores and truth of a few small images: ties, one-pixel regions, extreme scores, differing sizes."""
    rng = np.random.default_rng(seed)
    sizes = [tuple(rng.integers(2, 8, 2)) for _ in range(rng.integers(2, 5))]
    levels, factor = rng.choice([1, 2, 5, 1000]), rng.choice([1e-30, 1.0, 1e30])
    maps = [(np.round(rng.standard_normal(s) * levels) * factor).astype(np.float32) for s in sizes]
    masks = [rng.random(s) < rng.choice([0.0, 0.05, 0.3, 0.6]) for s in sizes]
    masks[0][0, 0], masks[-1][-1, -1] = True, False
    anomalous = np.array([True, False] + [bool(k.any()) for k in masks[2:]])
    return Scores(np.array([m.max() for m in maps]), maps), Truth(anomalous, masks)


def flat(scores, truth):
    labels = np.concatenate([k.ravel() for k in truth.masks])
    return labels, np.concatenate([m.ravel() for m in scores.maps])


@pytest.mark.parametrize("block", range(10))
def test_aupro_equals_brute_force(block):
    for seed in range(block * 25, block * 25 + 25):
        scores, truth = random_case(seed)
        limit = (0.3, 0.05, 1.0)[seed % 3]
        value = evaluate(scores, truth, limit)["aupro"]
        assert value == pytest.approx(brute_pro(scores.maps, truth.masks, limit), abs=1e-9)
        assert 0 <= value <= 1
        assert evaluate(scores, truth)["aupro_05"] == evaluate(scores, truth, 0.05)["aupro"]
        defective = np.array([bool(np.any(mask)) for mask in truth.masks])
        maps, masks = ([found[i] for i in np.flatnonzero(defective)] for found in (scores.maps, truth.masks))
        among = evaluate(Scores(scores.image[defective], maps), Truth(defective[defective], masks), limit)["aupro"]
        whole = evaluate(scores, Truth(defective, truth.masks), limit)["aupro_anomalous"]
        assert whole == among if among is None else whole == pytest.approx(among, abs=1e-12)


@pytest.mark.parametrize("block", range(10))
def test_other_metrics_equal_sklearn_and_brute_force(block):
    for seed in range(block * 15, block * 15 + 15):
        scores, truth = random_case(seed)
        metrics = evaluate(scores, truth)
        for family, (labels, values) in {"image": (truth.anomalous, scores.image), "pixel": flat(scores, truth)}.items():
            assert metrics[f"{family}_auroc"] == pytest.approx(roc_auc_score(labels, values), abs=1e-9)
            assert metrics[f"{family}_ap"] == pytest.approx(average_precision_score(labels, values), abs=1e-9)
            assert metrics[f"{family}_f1max"] == pytest.approx(brute_f1(labels, values), abs=1e-9)


def large_case(kind):
    rng = np.random.default_rng(5)
    maps = rng.standard_normal((8, 256, 256)).astype(np.float32)
    masks = np.zeros(maps.shape, dtype=bool)
    masks[:4, 20:50, 30:60] = True
    maps[masks] += 1
    maps = {
        "ties": np.round(maps, 2),
        "heavy": maps**9,
        "positive": np.exp(3 * maps),
        "apart": maps + 9 * masks,
        "offset": maps + 1000,
        "zeros": np.where(maps < 1, -0.0, maps),
        "constant": np.ones_like(maps) + (maps > 4.5),
    }.get(kind, maps)
    if kind == "infinite":
        maps[:, :10] = -np.inf
        maps[0, 30, 40], maps[5, 30] = np.inf, np.inf
    return Scores(maps.max(axis=(1, 2)), maps), Truth(masks.any(axis=(1, 2)), masks)


@pytest.mark.parametrize("kind", ["ties", "infinite"])
def test_binned_large_case_is_exact(kind):
    scores, truth = large_case(kind)
    labels, values = flat(scores, truth)
    values = np.unique(values, return_inverse=True)[1]  # ranks, as sklearn refuses infinities
    metrics = evaluate(scores, truth)
    precision, recall, _ = precision_recall_curve(labels, values)
    best = (2 * precision * recall / np.maximum(precision + recall, 1e-9)).max()
    assert metrics["pixel_auroc"] == pytest.approx(roc_auc_score(labels, values), abs=1e-9)
    assert metrics["pixel_ap"] == pytest.approx(average_precision_score(labels, values), abs=1e-9)
    assert metrics["pixel_f1max"] == pytest.approx(best, abs=1e-9)


KINDS = ["smooth", "ties", "heavy", "positive", "apart", "offset", "zeros", "constant", "infinite"]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_counting_between_scores_is_exact(kind, dtype, monkeypatch):
    monkeypatch.setattr(curves, "BLOCK", 100_000)  # several
    scores, truth = large_case(kind)
    maps = scores.maps.astype(dtype)
    good, values = maps[~truth.masks], np.unique(maps[truth.masks])
    ranked = np.sort(good)
    below, not_above, total = count_below(np.array_split(good, 7), values)
    assert total == good.size
    assert np.array_equal(below, np.searchsorted(ranked, values, "left"))
    assert np.array_equal(not_above, np.searchsorted(ranked, values, "right"))


class Recomputed:
    """Maps (256, 256) that are nowhere in memory."""

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        if index >= self.count:
            raise IndexError
        return np.random.default_rng(index).normal(size=(256, 256)).astype(np.float32)


def test_maps_that_are_read_one_by_one_give_the_same_in_less_memory(monkeypatch):
    monkeypatch.setattr(curves, "BLOCK", 1 << 20)
    lazy, masks = Recomputed(150), np.zeros((150, 256, 256), bool)
    masks[::9, 30:60, 40:50] = True
    truth = Truth(masks.any(axis=(1, 2)), masks)
    image = np.arange(150, dtype=np.float32)
    regions = components(masks)
    evaluate(Scores(image, lazy), truth, regions=regions)  # loads what it needs: compiled loops
    tracemalloc.start()
    found = evaluate(Scores(image, lazy), truth, regions=regions)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    maps = np.stack([lazy[index] for index in range(150)])
    assert found == evaluate(Scores(image, maps), truth, regions=regions)
    assert peak < 0.6 * maps.nbytes


@pytest.mark.parametrize(("mask", "aupro", "auroc", "ap", "f1"), [
    ([[0, 0], [0, 1]], 1.0, 1.0, 1.0, 1.0),  # the one defective pixel scores highest
    ([[1, 0], [0, 0]], 0.0, 0.0, 0.25, 0.4),  # lowest: found only together with all three good ones
    ([[0, 0], [1, 1]], 1.0, 1.0, 1.0, 1.0),
    ([[0, 1], [0, 1]], 0.5, 0.75, 5 / 6, 0.8),  # half the region before the first false positive, at a rate of 1/2
    ([[1, 0], [0, 1]], 0.5, 0.5, 0.75, 2 / 3),  # touching at a corner: one region
])  # fmt: skip
def test_four_pixels_by_hand(mask, aupro, auroc, ap, f1):
    masks = np.array([mask], dtype=bool)
    metrics = evaluate(Scores(np.ones(1, np.float32), TINY[None]), Truth(np.ones(1, bool), masks))
    values = [metrics[name] for name in ("aupro", "pixel_auroc", "pixel_ap", "pixel_f1max")]
    assert values == pytest.approx([aupro, auroc, ap, f1], abs=1e-12)


def test_each_region_has_weight_one_whatever_its_size():
    maps = np.array([[[9, 0, 8, 8, 8, 8]], [[5, 5, 5, 5, 5, 5]]], dtype=np.float32)
    masks = np.array([[[1, 0, 0, 0, 0, 0]], [[1, 1, 1, 1, 0, 0]]], dtype=bool)
    # one of two regions found at once; then 4 of 7 good pixels before the other: 1/2 up to 0.3
    assert evaluate(Scores(np.ones(2), maps), Truth(np.ones(2, bool), masks))["aupro"] == pytest.approx(0.5, abs=1e-12)


def test_limit_within_a_tie_is_interpolated():
    maps, masks = np.array([[[1, 1, 0, 0]]], dtype=np.float32), np.array([[[1, 0, 0, 0]]], dtype=bool)
    # a line from (0, 0) to (1/3, 1): at 0.3 the overlap is 0.9, the area 0.135
    assert evaluate(Scores(np.ones(1), maps), Truth(np.ones(1, bool), masks))["aupro"] == pytest.approx(0.45, abs=1e-12)


def test_constant_map_is_chance():
    masks = np.zeros((3, 9, 9), dtype=bool)
    masks[0, 2:4, 2:4] = True
    truth = Truth(np.array([True, False, False]), masks)
    metrics = evaluate(Scores(np.zeros(3, np.float32), np.full(masks.shape, 7, np.float32)), truth)
    assert metrics["aupro"] == pytest.approx(0.15, abs=1e-12)
    assert metrics["image_auroc"] == metrics["pixel_auroc"] == 0.5


def test_signed_zeros_tie():
    maps = np.array([[[0.0, -0.0, -0.0, 0.0]]], dtype=np.float32)
    masks = np.array([[[True, True, False, False]]])
    metrics = evaluate(Scores(np.ones(1), maps), Truth(np.ones(1, bool), masks))
    assert (metrics["pixel_auroc"], metrics["pixel_ap"]) == (0.5, 0.5)


@pytest.mark.parametrize("transform", [lambda x: 3 * x - 70, np.arctan, np.exp, lambda x: x.astype(np.float64) ** 3])
def test_only_the_order_of_scores_counts(transform):
    rng = np.random.default_rng(1)
    maps = rng.integers(-4, 5, (4, 9, 9)).astype(np.float32)
    masks = rng.random(maps.shape) < 0.1
    truth = Truth(np.array([True, False, True, False]), masks)
    image = maps.mean(axis=(1, 2)).round(1)
    assert evaluate(Scores(image, maps), truth) == evaluate(Scores(transform(image), transform(maps)), truth)


def test_keys_come_in_order_and_are_floats():
    metrics = evaluate(*random_case(0))
    assert list(metrics) == [*ORDER, *ON_REQUEST]
    assert all(type(metrics[name]) is float for name in (*ORDER, "aupro_05", "aupro_anomalous"))


def test_a_new_metric_is_reported_last(monkeypatch):
    monkeypatch.setattr(METRICS, "_items", dict(METRICS.items()))
    register("a_pixel_share")(lambda case: case.pixel.anomalous / (case.pixel.anomalous + case.pixel.good))
    metrics = evaluate(*random_case(0))
    assert list(metrics) == [*ORDER, "a_pixel_share", *ON_REQUEST]


def test_regions_are_reusable():
    scores, truth = random_case(3)
    regions = components(truth.masks)
    assert evaluate(scores, truth, regions=regions) == evaluate(scores, truth)
    assert regions.sizes.size == sum(len(flood(mask)) for mask in truth.masks)
    with pytest.raises(ValueError, match=r"^regions cover 0 defective pixels, the masks have \d+$"):
        evaluate(scores, truth, regions=components([np.zeros((2, 2), bool)]))


@pytest.mark.parametrize(("anomalous", "masks", "expected"), [
    ([], np.zeros((0, 2, 2), bool), {"image": "no labeled test images", "pixel": "no labeled test images"}),
    ([1, 1], [TINY > 3] * 2, {"image": "no good test images: image metrics are undefined"}),
    ([0, 0], [TINY > 3] * 2, {"image": "no anomalous test images: image metrics are undefined"}),
    ([0, 1], None, {"pixel": "no masks: pixel metrics are undefined"}),
    ([0, 1], [TINY > 4] * 2, {"pixel": "no defective pixel in any mask: pixel metrics are undefined"}),
    ([0, 1], [TINY > 0] * 2, {"pixel": "no defect-free pixel in any mask: pixel metrics are undefined"}),
])  # fmt: skip
def test_undefined_metrics_are_none_with_a_reason(anomalous, masks, expected):
    truth = Truth(np.array(anomalous, dtype=bool), masks)
    maps = np.tile(TINY, (len(anomalous), 1, 1))
    metrics = evaluate(Scores(np.zeros(len(anomalous), np.float32), maps), truth)
    missing = {"pixel" if name == "aupro" else name.split("_")[0] for name in ORDER if metrics[name] is None}
    assert reasons(truth) == expected
    assert missing == set(expected)
    assert reason(truth) == "; ".join(dict.fromkeys(expected.values()))


def test_reason_of_complete_truth_is_none():
    assert reason(random_case(0)[1]) is None


@pytest.mark.parametrize("limit", [0, -0.1, 1.5, float("nan")])
def test_pro_limit_out_of_range(limit):
    with pytest.raises(UsageError, match=rf"^pro_limit {limit} is outside \(0, 1\]; the usual value is 0.3$"):
        evaluate(*random_case(0), pro_limit=limit)


@pytest.mark.parametrize(("image", "maps", "masks", "message"), [
    ([1, np.nan], [TINY] * 2, [TINY > 3] * 2, "the score of image 1 is NaN"),
    ([1, 2], [TINY, TINY * np.nan], [TINY > 3] * 2, "the anomaly map of image 1 has NaN in it"),
    ([1, 2, 3], [TINY] * 3, [TINY > 3] * 3, "image scores (3,) and labels (2,) must both have the shape (N,)"),
    ([1, 2], [TINY] * 3, [TINY > 3] * 2, "3 anomaly maps for 2 images"),
    ([1, 2], [TINY] * 2, [TINY > 3], "1 masks for 2 anomaly maps"),
    ([1, 2], [TINY] * 2, [TINY > 3, np.zeros((2, 3), bool)],
     "anomaly map (2, 2) and mask (2, 3) of image 1 must have the same shape (H, W)"),
])  # fmt: skip
def test_inputs_that_do_not_fit(image, maps, masks, message):
    with pytest.raises(ValueError) as error:
        evaluate(Scores(np.array(image, np.float32), maps), Truth(np.array([True, False]), masks))
    assert str(error.value) == message


def test_inputs_are_left_as_they_were():
    scores, truth = large_case("smooth")
    before = scores.maps.copy(), truth.masks.copy(), scores.image.copy()
    evaluate(scores, truth)
    assert all(np.array_equal(a, b) for a, b in zip(before, (scores.maps, truth.masks, scores.image), strict=True))


def test_import_is_light():
    code = "import sys, adbench.metrics; print([m for m in ('torch', 'scipy', 'sklearn') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
