"""Metrics by kind and size of defect: each equal to the metrics of that part alone, the whole's bits unchanged."""

from pathlib import Path

import numpy as np
import pytest

from adbench.metrics import METRICS, ORDER, Regions, components, evaluate, register
from adbench.metrics.support.breakdown import LIMITS, classes, evaluate_broken_down, good_threshold
from adbench.types import Sample, Scores, Truth

KINDS = ("good", "good", "good", "dent", "dent", "hole", "hole", "hole")
SIDE = 32


def samples(kinds: tuple[str, ...] = KINDS) -> list[Sample]:
    return [Sample(Path(f"{i}.png"), f"{i}.png", kind) for i, kind in enumerate(kinds)]


def case(seed: int = 0) -> tuple[Scores, Truth, Regions]:
    """Ties everywhere; regions of 1 x 1, 4 x 4 and 12 x 12 of 32 x 32 pixels in various images."""
    rng = np.random.default_rng(seed)
    maps = rng.integers(0, 30, (8, SIDE, SIDE)).astype(np.float32)
    masks = np.zeros(maps.shape, bool)
    masks[3, 2:6, 2:6] = masks[4, 20, 20] = masks[5, 4:16, 4:16] = masks[5, 30, 30] = masks[6, 8:12, 8:12] = True
    maps[masks] += 6
    return (Scores(maps.mean((1, 2)), maps), Truth(np.array([kind != "good" for kind in KINDS]), masks), components(masks))


def alone(scores: Scores, truth: Truth, chosen: np.ndarray) -> dict[str, float | None]:
    maps, masks = np.asarray(scores.maps)[chosen], np.asarray(truth.masks)[chosen]
    return evaluate(Scores(scores.image[chosen], maps), Truth(truth.anomalous[chosen], masks))


@pytest.mark.parametrize("seed", range(3))
def test_the_whole_has_the_bits_of_evaluate(seed: int) -> None:
    scores, truth, regions = case(seed)
    whole, _ = evaluate_broken_down(scores, truth, 0.3, regions, samples())
    assert whole == evaluate(scores, truth) and list(whole) == list(evaluate(scores, truth))


@pytest.mark.parametrize("kind", ["dent", "hole"])
def test_a_kind_equals_that_kind_with_all_good_images(kind: str) -> None:
    scores, truth, regions = case()
    found = evaluate_broken_down(scores, truth, 0.3, regions, samples())[1]["by_defect"]
    expected = alone(scores, truth, np.array([own in ("good", kind) for own in KINDS]))
    assert found[kind].pop("images") == KINDS.count(kind)
    found[kind].pop("found")
    assert found[kind] == {name: value and round(value, 6) for name, value in expected.items()}


def test_a_size_equals_regions_of_that_size_against_all_good_pixels() -> None:
    scores, truth, regions = case()
    found = evaluate_broken_down(scores, truth, 0.3, regions, samples())[1]["by_side"]
    counts = {size: (values["images"], values["regions"]) for size, values in found.items()}
    assert counts == {"1/32 to 1/16": (1, 2), "above 1/8": (3, 3)}
    masks = np.asarray(truth.masks)
    large = masks.copy()
    large[4] = large[5, 30, 30] = False  # ignored: neither good nor found
    maps = np.where(masks & ~large, -np.inf, np.asarray(scores.maps))
    kept = evaluate(Scores(scores.image, maps), Truth(truth.anomalous, large))
    lost = np.count_nonzero(masks & ~large)  # they lie below all others, as good pixels never found
    part = found["above 1/8"]
    assert part["pixel_ap"] == round(kept["pixel_ap"] or 0, 6)
    good = masks.size - np.count_nonzero(masks)
    expected = ((kept["pixel_auroc"] or 0) * (good + lost) - lost) / good
    assert part["pixel_auroc"] == pytest.approx(expected, abs=1e-6)
    images = alone(scores, truth, np.array([True] * 4 + [False, True, True, False]))
    assert part["image_auroc"] == round(images["image_auroc"] or 0, 6)


@pytest.mark.parametrize("name", ["aupro", "aupro_05", "aupro_anomalous"])
def test_the_mean_over_sizes_weighed_by_regions_is_the_aupro(name: str) -> None:
    scores, truth, regions = case()
    whole, details = evaluate_broken_down(scores, truth, 0.3, regions, samples())
    parts = details["by_side"].values()
    mean = sum(part["regions"] * part[name] for part in parts) / sum(part["regions"] for part in parts)
    assert mean == pytest.approx(whole[name], abs=1e-6)


def test_sizes_are_relative_to_the_image() -> None:
    _, truth, regions = case()
    masks = np.asarray(truth.masks)
    assert np.bincount(classes(masks, regions)[0]).tolist() == [0, 0, 2, 0, 176]
    assert classes(masks, regions)[1].tolist() == [-1, -1, -1, 4, 2, 4, 4, -1]
    larger = [np.pad(mask, (0, 96)) for mask in masks]  # the same regions, a sixteenth of the area
    assert classes(larger, components(larger))[1].tolist() == [-1, -1, -1, 2, 0, 3, 2, -1]
    edges = [np.zeros((64, 64), bool) for _ in LIMITS]
    for mask, side in zip(edges, (1, 2, 4, 8), strict=True):
        mask[:side, :side] = True
    assert classes(edges, components(edges))[1].tolist() == [1, 2, 3, 4]  # a limit belongs to the class above it


@pytest.mark.parametrize(("good", "exceeding"), [(1, 0), (99, 0), (100, 1), (250, 2)])
def test_the_threshold_lets_at_most_a_hundredth_of_the_good_images_pass(good: int, exceeding: int) -> None:
    image = np.random.default_rng(0).permutation(good + 3).astype(np.float32)
    anomalous = np.arange(good + 3) >= good
    threshold = good_threshold(Scores(image, image[:, None, None]), Truth(anomalous, None))
    assert np.count_nonzero(image[:good] > threshold) == exceeding and threshold in image[:good]


def test_images_above_that_threshold_are_found() -> None:
    scores, truth, regions = case()
    scores = Scores(np.array([1, 2, 3, 9, 3, 4, 1, 5], np.float32), scores.maps)
    details = evaluate_broken_down(scores, truth, 0.3, regions, samples())[1]
    assert {kind: part["found"] for kind, part in details["by_defect"].items()} == {"dent": 0.5, "hole": round(2 / 3, 6)}
    assert {size: part["found"] for size, part in details["by_side"].items()} == {
        "1/32 to 1/16": 0.0,
        "above 1/8": round(2 / 3, 6),
    }


def test_without_masks_only_image_metrics_have_parts() -> None:
    scores, truth, _ = case()
    whole, details = evaluate_broken_down(scores, Truth(truth.anomalous, None), 0.3, None, samples())
    assert list(details) == ["by_defect"] and whole["aupro"] is None
    assert details["by_defect"]["dent"]["image_auroc"] is not None and details["by_defect"]["dent"]["aupro"] is None


def test_a_kind_whose_masks_are_empty_has_no_pixel_metrics() -> None:
    scores, truth, _ = case()
    masks = np.asarray(truth.masks).copy()
    masks[3:5] = False
    lost = Truth(truth.anomalous, masks)
    _, details = evaluate_broken_down(scores, lost, 0.3, components(masks), samples())
    assert [details["by_defect"]["dent"][name] is None for name in ORDER] == [False] * 3 + [True] * 4


def test_only_good_images_have_no_parts() -> None:
    scores, _, _ = case()
    good = Truth(np.zeros(8, bool), np.zeros((8, SIDE, SIDE), bool))
    whole, details = evaluate_broken_down(scores, good, 0.3, components(good.masks), samples(("good",) * 8))  # type: ignore[arg-type]
    assert set(whole.values()) == {None} and details == {}


def test_a_metric_from_outside_is_broken_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(METRICS, "_items", dict(METRICS.items()))
    register("toy")(lambda case: case.pixel.anomalous / 1000 if case.pixel else None)
    scores, truth, regions = case()
    whole, details = evaluate_broken_down(scores, truth, 0.3, regions, samples())
    assert whole["toy"] == 0.178
    assert {name: part["toy"] for name, part in details["by_side"].items()} == {"1/32 to 1/16": 0.002, "above 1/8": 0.176}
    assert {name: part["toy"] for name, part in details["by_defect"].items()} == {"dent": 0.017, "hole": 0.161}
