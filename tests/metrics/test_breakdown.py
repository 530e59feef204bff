"""Metrics by kind and size of defect: each equal to the metrics of that part alone, the whole's bits unchanged."""

from pathlib import Path

import numpy as np
import pytest

from adbench.metrics import METRICS, ORDER, Regions, components, evaluate, register
from adbench.metrics.support.breakdown import classes, evaluate_broken_down
from adbench.types import Sample, Scores, Truth

KINDS = ("good", "good", "good", "dent", "dent", "hole", "hole", "hole")
SIDE = 32
FIELD = 0.25  # receptive field: 8 of 32 pixels; small below a side of 2, large above 8


def samples(kinds: tuple[str, ...] = KINDS) -> list[Sample]:
    return [Sample(Path(f"{i}.png"), f"{i}.png", kind) for i, kind in enumerate(kinds)]


def case(seed: int = 0) -> tuple[Scores, Truth, Regions]:
    """Ties everywhere; a region of one pixel, of 4 x 4 (medium) and of 12 x 12 (large) in various images."""
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
    whole, _ = evaluate_broken_down(scores, truth, 0.3, regions, samples(), FIELD)
    assert whole == evaluate(scores, truth) and list(whole) == list(evaluate(scores, truth))


@pytest.mark.parametrize("kind", ["dent", "hole"])
def test_a_kind_equals_that_kind_with_all_good_images(kind: str) -> None:
    scores, truth, regions = case()
    found = evaluate_broken_down(scores, truth, 0.3, regions, samples(), FIELD)[1]["by_defect"]
    expected = alone(scores, truth, np.array([own in ("good", kind) for own in KINDS]))
    assert found[kind].pop("images") == KINDS.count(kind)
    assert found[kind] == {name: round(value or 0, 6) for name, value in expected.items()}


def test_a_size_equals_regions_of_that_size_against_all_good_pixels() -> None:
    scores, truth, regions = case()
    found = evaluate_broken_down(scores, truth, 0.3, regions, samples(), FIELD)[1]["by_size"]
    counts = {size: (values["images"], values["regions"]) for size, values in found.items()}
    assert counts == {"small": (1, 2), "medium": (2, 2), "large": (1, 1)}
    masks = np.asarray(truth.masks)
    medium = masks.copy()
    medium[[4, 5]] = False  # ignored: neither good nor found
    maps = np.where(masks & ~medium, -np.inf, np.asarray(scores.maps))
    kept = evaluate(Scores(scores.image, maps), Truth(truth.anomalous, medium))
    lost = np.count_nonzero(masks & ~medium)  # they lie below all others, as good pixels never found
    assert found["medium"]["pixel_ap"] == round(kept["pixel_ap"] or 0, 6)
    good = masks.size - np.count_nonzero(masks)
    expected = ((kept["pixel_auroc"] or 0) * (good + lost) - lost) / good
    assert found["medium"]["pixel_auroc"] == pytest.approx(expected, abs=1e-6)
    images = alone(scores, truth, np.array([True] * 4 + [False, False, True, False]))
    assert found["medium"]["image_auroc"] == round(images["image_auroc"] or 0, 6)


def test_the_mean_over_sizes_weighed_by_regions_is_the_aupro() -> None:
    scores, truth, regions = case()
    whole, details = evaluate_broken_down(scores, truth, 0.3, regions, samples(), FIELD)
    parts = details["by_size"].values()
    mean = sum(part["regions"] * part["aupro"] for part in parts) / sum(part["regions"] for part in parts)
    assert mean == pytest.approx(whole["aupro"], abs=1e-6)


def test_sizes_are_relative_to_the_receptive_field() -> None:
    _, truth, regions = case()
    masks = np.asarray(truth.masks)
    assert np.bincount(classes(masks, regions, 0.25)[0]).tolist() == [2, 32, 144]
    assert classes(masks, regions, 0.25)[1].tolist() == [-1, -1, -1, 1, 0, 2, 1, -1]
    assert np.bincount(classes(masks, regions, 2.0)[0]).tolist() == [178]
    uneven = [mask[:, :16] if i == 5 else mask for i, mask in enumerate(masks)]  # the same region, twice the part
    assert classes(uneven, components(uneven), 0.4)[1][5] == 2 > classes(masks, regions, 0.4)[1][5]


def test_without_masks_only_image_metrics_have_parts() -> None:
    scores, truth, _ = case()
    whole, details = evaluate_broken_down(scores, Truth(truth.anomalous, None), 0.3, None, samples(), FIELD)
    assert list(details) == ["by_defect"] and whole["aupro"] is None
    assert details["by_defect"]["dent"]["image_auroc"] is not None and details["by_defect"]["dent"]["aupro"] is None


def test_a_kind_whose_masks_are_empty_has_no_pixel_metrics() -> None:
    scores, truth, _ = case()
    masks = np.asarray(truth.masks).copy()
    masks[3:5] = False
    lost = Truth(truth.anomalous, masks)
    _, details = evaluate_broken_down(scores, lost, 0.3, components(masks), samples(), None)
    assert list(details) == ["by_defect"]
    assert [details["by_defect"]["dent"][name] is None for name in ORDER] == [False] * 3 + [True] * 4


def test_only_good_images_have_no_parts() -> None:
    scores, _, _ = case()
    good = Truth(np.zeros(8, bool), np.zeros((8, SIDE, SIDE), bool))
    whole, details = evaluate_broken_down(scores, good, 0.3, components(good.masks), samples(("good",) * 8), FIELD)  # type: ignore[arg-type]
    assert set(whole.values()) == {None} and details == {}


def test_a_metric_from_outside_is_broken_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(METRICS, "_items", dict(METRICS.items()))
    register("toy")(lambda case: case.pixel.anomalous / 1000 if case.pixel else None)
    scores, truth, regions = case()
    whole, details = evaluate_broken_down(scores, truth, 0.3, regions, samples(), FIELD)
    assert whole["toy"] == 0.178
    assert {name: part["toy"] for name, part in details["by_size"].items()} == {"small": 0.002, "medium": 0.032, "large": 0.144}
    assert {name: part["toy"] for name, part in details["by_defect"].items()} == {"dent": 0.017, "hole": 0.161}
