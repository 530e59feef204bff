"""PatchCore against hand-worked and naive forms."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from adbench.core.errors import DetectorError, UsageError
from adbench.detectors import detector_of, detector_params, make_detector, patchcore
from adbench.detectors.patchcore import PatchCore
from adbench.detectors.search import greedy_coreset, project
from adbench.detectors.search.approximate_coreset import approximate_coreset
from adbench.features.anomaly_maps import resize_maps
from adbench.features.feature_maps import FeatureMaps, join
from adbench.types import Job

CPU = torch.device("cpu")


def features(count: int, seed: int, channels: int = 3, side: int = 4) -> FeatureMaps:
    rng = np.random.default_rng(seed)
    return FeatureMaps((rng.normal(size=(count, channels, side, side)).astype(np.float32),))


def test_a_patch_is_the_mean_of_nine_with_zeros_around() -> None:
    layer = np.arange(9, dtype=np.float32).reshape(1, 1, 3, 3)
    patches = PatchCore(coreset_fraction=1).fit(FeatureMaps((layer,)), device=CPU).bank_[:, 0]
    assert patches[4] == 4
    assert patches[0] == pytest.approx((0 + 1 + 3 + 4) / 9)


def test_distances_are_to_the_nearest_patch_in_l2() -> None:
    detector = PatchCore(coreset_fraction=1, neighbourhood=1)
    detector.fit(FeatureMaps((np.array([0, 10], np.float32).reshape(1, 1, 1, 2).repeat(2, 1),)), device=CPU)
    scores = detector.score(FeatureMaps((np.array([3, 6], np.float32).reshape(1, 1, 1, 2).repeat(2, 1),)), device=CPU)
    np.testing.assert_allclose(np.asarray(scores.maps)[0, 0], [3 * 2**0.5, 4 * 2**0.5], rtol=1e-6)


def test_the_image_score_may_be_the_maximum_of_the_smoothed_map() -> None:
    detector = PatchCore(coreset_fraction=1, image_score="smoothed").fit(features(4, 0), device=CPU)
    scores = detector.score(features(3, 1), device=CPU)
    smooth = resize_maps(np.asarray(scores.maps), (256, 256), 4.0)
    np.testing.assert_array_equal(scores.image, smooth.max((1, 2)))


def test_the_image_score_is_the_largest_patch_distance() -> None:
    detector = PatchCore(coreset_fraction=1).fit(features(4, 0), device=CPU)
    scores = detector.score(features(3, 1), device=CPU)
    np.testing.assert_array_equal(scores.image, np.asarray(scores.maps).max((1, 2)))


@pytest.mark.parametrize(("side", "count"), [(16, 2), (5, 1)])  # int(0.01 * 256) and at least 1
def test_the_image_score_may_be_the_mean_of_the_highest_percent(side: int, count: int) -> None:
    detector = PatchCore(coreset_fraction=1, image_score="top1pct").fit(features(4, 0, side=side), device=CPU)
    scores = detector.score(features(3, 1, side=side), device=CPU)
    highest = np.sort(np.asarray(scores.maps).reshape(3, -1))[:, -count:]
    np.testing.assert_allclose(scores.image, highest.mean(1), rtol=1e-6)


def test_the_smoothing_of_a_job_moves_the_smoothed_score() -> None:
    job = Job("mvtec", "", "bolt", "resnet18", "random", "", ("layer1",), 512, 256, "patchcore",
              {"coreset_fraction": 1.0, "image_score": "smoothed"}, 2, 0, smoothing=4.0)  # fmt: skip
    detector = detector_of(job).fit(features(4, 0), device=CPU)
    scores = detector.score(features(3, 1), device=CPU)
    np.testing.assert_array_equal(scores.image, resize_maps(np.asarray(scores.maps), (256, 256), 2.0).max((1, 2)))


def test_reweighting_is_equation_7() -> None:
    detector = PatchCore(coreset_fraction=1, neighbourhood=1, image_score="reweighted", neighbours=3)
    detector.fit(features(4, 0), device=CPU)
    test = features(1, 1)
    queries, bank = test.layers[0][0].reshape(3, -1).T.astype(np.float64), detector.bank_.astype(np.float64)
    gaps = np.linalg.norm(queries[:, None] - bank, axis=2)
    worst = gaps.min(1).argmax()
    nearest = gaps[worst].argmin()
    around = np.linalg.norm(bank - bank[nearest], axis=1).argsort()[:3]
    share = np.exp(gaps[worst, nearest]) / np.exp(gaps[worst, around]).sum()
    expected = (1 - share) * gaps[worst, nearest]
    np.testing.assert_allclose(detector.score(test, device=CPU).image, [expected], rtol=1e-5)


def test_reweighting_does_not_overflow() -> None:
    far = FeatureMaps((features(1, 1).layers[0] * 1e4,))
    detector = PatchCore(coreset_fraction=1, image_score="reweighted").fit(features(4, 0), device=CPU)
    assert np.isfinite(detector.score(far, device=CPU).image).all()


@pytest.mark.parametrize(("params", "size"), [({}, 16), ({"coreset_fraction": 0.01}, 1), ({"coreset_max": 5}, 5)])
def test_the_bank_has_the_wished_size(params: dict[str, float], size: int) -> None:
    detector = PatchCore(**params).fit(features(10, 0), device=CPU)  # type: ignore[arg-type]
    assert len(detector.bank_) == size
    assert detector.details() == {"bank_patches": size, "bank_channels": 3}


def test_the_cosine_is_that_of_brute_force() -> None:
    detector = PatchCore(coreset_fraction=1, neighbourhood=1, distance="cosine").fit(features(4, 0, 6), device=CPU)
    bank, queries = (
        maps.layers[0].astype(float).transpose(0, 2, 3, 1).reshape(-1, 6) for maps in (features(4, 0, 6), features(3, 1, 6))
    )
    cosines = queries @ bank.T / np.linalg.norm(queries, axis=1)[:, None] / np.linalg.norm(bank, axis=1)
    found = np.asarray(detector.score(features(3, 1, 6), device=CPU).maps).ravel()
    np.testing.assert_allclose(found, (1 - cosines).min(1), atol=1e-6)


@pytest.mark.parametrize("projection", [0, 4])
def test_the_coreset_of_the_cosine_is_chosen_among_unit_vectors(projection: int) -> None:
    detector = PatchCore(coreset_fraction=0.2, neighbourhood=1, projection=projection, distance="cosine")
    maps = features(6, 0, 8).layers[0]
    points = maps.transpose(0, 2, 3, 1).reshape(-1, 8)
    units = torch.from_numpy(points / np.linalg.norm(points, axis=1, keepdims=True))
    start = int(np.random.default_rng(0).integers(len(units)))
    picks = greedy_coreset(project(units, projection or 8, 0), int(0.2 * len(units)), start)
    np.testing.assert_allclose(detector.fit(FeatureMaps((maps,)), device=CPU).bank_, units[picks], atol=1e-6)
    lengths = np.random.default_rng(1).uniform(0.1, 50, (6, 1, 4, 4)).astype(np.float32)  # they do not matter
    np.testing.assert_allclose(detector.fit(FeatureMaps((maps * lengths,)), device=CPU).bank_, units[picks], atol=1e-6)


def test_a_patch_of_zeros_has_no_cosine() -> None:
    maps = features(2, 0).layers[0]
    maps[1, :, 2, 3] = 0
    with pytest.raises(DetectorError) as error:
        PatchCore(neighbourhood=1, distance="cosine").fit(FeatureMaps((maps,)), device=CPU)
    assert str(error.value) == (
        "patchcore: distance=cosine is undefined for patches of zeros, and 1 of 32 are; take distance=l2 or another layer"
    )


def test_normalized_layers_weigh_the_same_whatever_their_scale() -> None:
    layers, others = (tuple(features(5, seed + k, 3 + k, 4 + 4 * k).layers[0] for k in range(2)) for seed in (0, 7))

    def fitted(scale: float) -> tuple[PatchCore, Any]:
        detector = PatchCore(coreset_fraction=0.3, normalize="layer").fit(FeatureMaps((layers[0] * scale, layers[1])), device=CPU)
        return detector, np.asarray(detector.score(FeatureMaps((others[0] * scale, others[1])), device=CPU).maps)

    (detector, maps), (_, scaled) = fitted(1), fitted(1000)
    np.testing.assert_allclose(scaled, maps, rtol=1e-4)
    whole = PatchCore(coreset_fraction=1, neighbourhood=1, normalize="layer").fit(FeatureMaps(layers), device=CPU)
    assert whole.bank_[:, 3:].var(0).sum() == pytest.approx(1, abs=1e-4)  # the finer layer; the other one is interpolated
    again = PatchCore(coreset_fraction=0.3, normalize="layer").load_state_dict(detector.state_dict())
    np.testing.assert_array_equal(again.score(FeatureMaps(others), device=CPU).maps, maps)


def in_front_of_a_background(sign: float) -> FeatureMaps:
    """An image whose part, 6 x 6 cells in the middle of 14 x 14, lies far off in one direction; and one of noise."""
    maps = features(2, 3, 5, 14).layers[0] * 0.1
    maps[0, 2] += sign * 40 * np.pad(np.ones((6, 6), np.float32), 4)
    return FeatureMaps((maps,))


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("params", [{"neighbourhood": 1}, {"distance": "cosine", "image_score": "reweighted"}])
def test_the_background_of_a_part_scores_zero(sign: float, params: dict[str, Any]) -> None:
    good, test = features(2, 0, 5, 14), in_front_of_a_background(sign)
    detector = PatchCore(coreset_fraction=1, mask="pca", **params).fit(good, device=CPU)
    scores = detector.score(test, device=CPU)
    part = np.pad(np.ones((8, 8), bool), 3)  # dilated by one cell; closing leaves it as it is
    np.testing.assert_array_equal(scores.foreground, [part, np.ones_like(part)])
    unmasked = np.asarray(PatchCore(coreset_fraction=1, **params).fit(good, device=CPU).score(test, device=CPU).maps)
    np.testing.assert_allclose(scores.maps, np.where(scores.foreground, unmasked, 0), rtol=1e-5)
    assert len(detector.bank_) == 392  # training images have no mask


def test_joined_layers_take_the_finest_grid_whatever_the_order() -> None:
    fine, coarse = torch.rand(1, 2, 8, 8), torch.rand(1, 3, 4, 4)
    joined = join([coarse, fine])
    assert joined.shape == (1, 5, 8, 8)
    torch.testing.assert_close(joined[:, 3:], fine)
    torch.testing.assert_close(joined[:, :3], torch.nn.functional.interpolate(coarse, (8, 8), mode="bilinear"))


@pytest.mark.parametrize(
    ("params", "message"),
    [({"coreset_fraction": 2.0}, "patchcore: coreset_fraction=2 must be above 0 and at most 1"),
     ({"neighbourhood": 2}, "patchcore: neighbourhood=2 must be an odd number of cells, e.g. 3"),
     ({"neighbours": 0}, "patchcore: neighbours=0 must not be negative (neighbours: at least 1)"),
     ({"distance": "cosin"}, "unknown distance 'cosin' of patchcore; did you mean 'cosine'?"),
     ({"mask_threshold": math.nan}, "patchcore: mask_threshold=nan must be a number, e.g. 10"),
     ({"search": "hnsw"}, "unknown search 'hnsw' of patchcore; choose from: exact, ivf"),
     ({"image_score": "pach"}, "unknown image_score 'pach' of patchcore; did you mean 'patch'?")],
)  # fmt: skip
def test_parameters_out_of_range(params: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError) as error:
        PatchCore(**params)  # type: ignore[arg-type]
    assert str(error.value) == message


def test_the_bank_is_made_ready_once_for_a_fit() -> None:
    detector = PatchCore(coreset_fraction=1).fit(features(4, 0), device=CPU)
    first = detector.score(features(3, 1), device=CPU)
    ready = detector._nearest(CPU)
    np.testing.assert_array_equal(detector.score(features(3, 1), device=CPU).maps, first.maps)
    assert detector._nearest(CPU) is ready
    detector.fit(features(4, 5), device=CPU)
    other = PatchCore(coreset_fraction=1).fit(features(4, 5), device=CPU)
    np.testing.assert_array_equal(detector.score(features(3, 1), device=CPU).maps, other.score(features(3, 1), device=CPU).maps)


def test_a_projected_selection_keeps_the_patches_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    data = features(12, 0, channels=20)
    every = PatchCore(coreset_fraction=1).fit(data, device=CPU).bank_
    start = int(np.random.default_rng(0).integers(len(every)))
    picks = greedy_coreset(project(every, 8, 0), 60, start)
    monkeypatch.setattr(patchcore, "_BATCH_BYTES", 5 * 4 * 20 * 16)  # five images at a time
    detector = PatchCore(coreset_max=60, coreset_fraction=0.9, projection=8).fit(data, device=CPU)
    np.testing.assert_array_equal(detector.bank_, every[picks])


def test_progress_says_how_much_memory_is_needed() -> None:
    steps: list[tuple[int, int, str]] = []
    PatchCore().fit(features(100, 0, side=16), device=CPU, on_step=lambda *step: steps.append(step))
    assert steps[0] == (16, 100, "25,600 patches, 1 MB")
    assert steps[-1] == (2560, 2560, "coreset of 25,600 patches")


def test_a_bank_that_cannot_fit_is_refused_beforehand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patchcore, "memory_bytes", lambda: 2 * 10**9)
    monkeypatch.setattr(patchcore, "BYTES_PER_POINT", 10**8)
    with pytest.raises(DetectorError) as error:
        PatchCore().fit(features(10, 0), device=CPU)
    assert str(error.value) == (
        "patchcore: 160 patches need 16.0 GB, this machine has 2.0 GB; take a deeper layer, a smaller image_size, fewer "
        "images, or a lower projection or coreset_fraction"
    )


@pytest.mark.parametrize("image_score", ["smoothed", "reweighted"])
def test_an_approximate_search_records_its_recall_and_is_saved(image_score: str) -> None:
    train, test = features(20, 0, channels=12, side=16), features(3, 1, channels=12, side=16)
    exact = PatchCore(coreset_fraction=0.5, image_score=image_score).fit(train, device=CPU)
    detector = PatchCore(coreset_fraction=0.5, image_score=image_score, search="ivf").fit(train, device=CPU)
    np.testing.assert_array_equal(detector.bank_, exact.bank_)
    recall = detector.details()["ivf_recall"]
    assert isinstance(recall, float) and 0.3 < recall < 1  # noise is the worst case
    first, second = (np.asarray(d.score(test, device=CPU).maps) for d in (exact, detector))
    assert 0.3 < (first == second).mean() < 1 and (second >= first).all()
    again = PatchCore(image_score=image_score, search="ivf").load_state_dict(detector.state_dict())
    assert again.details() == detector.details()
    np.testing.assert_array_equal(again.score(test, device=CPU).image, detector.score(test, device=CPU).image)
    assert "ivf_recall" not in exact.details() and set(exact.state_dict()) == {"bank"}


def test_a_parameter_that_came_later_is_in_the_key_only_when_it_is_set() -> None:
    first = {"coreset_fraction": 0.1, "coreset_max": 0, "projection": 128, "neighbourhood": 3, "image_score": "patch",
             "neighbours": 9}  # fmt: skip
    assert detector_params(PatchCore()) == first
    assert detector_params(PatchCore(), every=True) == first | {
        "search": "exact", "distance": "l2", "normalize": "none", "mask": "none", "mask_threshold": 10.0,
        "embedding": "channels", "coreset": "exact", "squared": False,
    }  # fmt: skip
    assert detector_params(make_detector("patchcore", {"search": "ivf"}, 0)) == first | {"search": "ivf"}
    assert detector_params(make_detector("patchcore", {"search": "exact"}, 0)) == first


def naive_adaptive(layers: list[torch.Tensor]) -> torch.Tensor:
    """The official embedding in its own order: 3 x 3 neighborhoods, resized to the first grid, pooled, joined, pooled again."""
    height, width = layers[0].shape[2:]
    pooled = []
    for layer in layers:
        channels, h, w = layer.shape[1:]
        padded = torch.nn.functional.pad(layer, (1, 1, 1, 1))
        around = torch.stack([padded[:, :, y : y + h, x : x + w] for y in range(3) for x in range(3)], 2).flatten(1, 2)
        resized = torch.nn.functional.interpolate(around, (height, width), mode="bilinear", align_corners=False)
        flat = resized.permute(0, 2, 3, 1).reshape(-1, 9 * channels)
        pooled.append(torch.nn.functional.adaptive_avg_pool1d(flat[:, None], 1024)[:, 0])
    return torch.nn.functional.adaptive_avg_pool1d(torch.cat(pooled, 1)[:, None], 1024)[:, 0]


def test_the_official_embedding_pools_neighborhoods_to_1024_numbers() -> None:
    rng = torch.Generator().manual_seed(0)
    layers = [torch.randn(2, 40, 6, 6, generator=rng), torch.randn(2, 200, 3, 3, generator=rng)]
    maps = FeatureMaps(tuple(layer.numpy() for layer in layers))
    bank = PatchCore(coreset_fraction=1, embedding="adaptive").fit(maps, device=CPU).bank_
    np.testing.assert_allclose(bank, naive_adaptive(layers), atol=2e-6)
    wide = FeatureMaps((torch.randn(1, 1024, 3, 3, generator=rng).numpy(),))
    plain, official = (PatchCore(coreset_fraction=1, embedding=e).fit(wide, device=CPU).bank_ for e in ("channels", "adaptive"))
    np.testing.assert_allclose(official, plain, atol=1e-6)  # 1024 channels: the plain average


def test_the_official_coreset_starts_from_mean_distances_to_ten_points() -> None:
    points = np.random.default_rng(0).normal(size=(300, 5)).astype(np.float32)
    starts = np.arange(0, 100, 10)
    gaps = np.linalg.norm(points[:, None].astype(np.float64) - points, axis=2)
    anchors, expected = gaps[:, starts].mean(1), []
    for _ in range(40):
        expected.append(int(anchors.argmax()))
        anchors = np.minimum(anchors, gaps[expected[-1]])
    assert approximate_coreset(points, 40, starts, device=CPU).tolist() == expected
    assert sorted(approximate_coreset(points[:20], 20, starts[:2], device=CPU)) == list(range(20))


def test_squared_distances_are_those_of_faiss() -> None:
    plain, squared = (
        PatchCore(squared=s).fit(features(9, 0), device=CPU).score(features(3, 1), device=CPU) for s in (False, True)
    )
    np.testing.assert_array_equal(squared.maps, np.square(plain.maps))
    np.testing.assert_array_equal(squared.image, np.square(plain.image))
    with pytest.raises(UsageError, match="squared=true and image_score=reweighted exclude each other"):
        PatchCore(squared=True, image_score="reweighted")
