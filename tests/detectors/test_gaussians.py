"""PaDiM and the Gaussian per layer against naive forms in numpy."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.covariance import ledoit_wolf

from adbench.core.errors import DetectorError, UsageError
from adbench.detectors.mahalanobis import Mahalanobis
from adbench.detectors.padim import Padim
from adbench.features.anomaly_maps import resize_maps
from adbench.features.feature_maps import FeatureMaps, join

CPU = torch.device("cpu")


def features(count: int, seed: int, channels: int = 5, side: int = 4) -> FeatureMaps:
    rng = np.random.default_rng(seed)
    return FeatureMaps((rng.normal(3, 2, size=(count, channels, side, side)).astype(np.float32),))


def distance(x: NDArray[np.float64], mean: NDArray[np.float64], covariance: NDArray[np.float64]) -> float:
    return float(np.sqrt((x - mean) @ np.linalg.inv(covariance) @ (x - mean)))


def test_padim_is_a_gaussian_for_each_cell() -> None:
    train, test = features(20, 0), features(3, 1)
    maps = np.asarray(Padim(shrinkage=0.1).fit(train, device=CPU).score(test, device=CPU).maps)
    x, y = (f.layers[0].astype(np.float64) for f in (train, test))
    ridge = 0.1 * x.var(axis=0).mean() * np.eye(5)
    for row, column in np.ndindex(4, 4):
        cell = x[:, :, row, column]
        expected = distance(y[2, :, row, column], cell.mean(0), np.cov(cell, rowvar=False) + ridge)
        assert maps[2, row, column] == pytest.approx(expected, rel=1e-4)


def test_padim_draws_its_channels_by_the_seed_over_all_layers() -> None:
    joined = FeatureMaps((features(6, 0).layers[0], features(6, 1, 7, 2).layers[0]))
    drawn = [Padim(channels=6, seed=seed).fit(joined, device=CPU) for seed in (1, 1, 2)]
    assert drawn[0].subset_.tolist() == drawn[1].subset_.tolist() != drawn[2].subset_.tolist()
    assert drawn[0].details() == {"gaussians": 16, "channels_kept": 6}
    whole = join([torch.from_numpy(layer) for layer in joined.layers])[:, drawn[0].subset_]
    torch.testing.assert_close(drawn[0].mean_, whole.mean(0).flatten(1).T)


def test_padim_refuses_more_covariances_than_memory_holds() -> None:
    reason = Padim(channels=0).unsupported([(2048, 64, 64)])
    assert reason == "4096 covariances of 2048 x 2048 need 68.7 GB (limit 4); lower the parameter channels"
    assert Padim().unsupported([(2048, 64, 64)]) is None


@pytest.mark.parametrize(("wished", "used"), [(-1.0, None), (0.25, 0.25)])
def test_mahalanobis_is_one_gaussian_over_all_cells(wished: float, used: float | None) -> None:
    train, test = features(6, 0), features(3, 1)
    detector = Mahalanobis(shrinkage=wished).fit(train, device=CPU)
    x, y = (f.layers[0].astype(np.float64).transpose(0, 2, 3, 1).reshape(-1, 5) for f in (train, test))
    covariance, amount = ledoit_wolf(x)
    if used is not None:
        plain = np.cov(x, rowvar=False, bias=True)
        covariance, amount = (1 - used) * plain + used * np.trace(plain) / 5 * np.eye(5), used
    assert detector.shrinkages_[0] == pytest.approx(amount, rel=1e-4)
    expected = [distance(cell, x.mean(0), covariance) for cell in y]
    np.testing.assert_allclose(np.ravel(detector.score(test, device=CPU).maps), expected, rtol=1e-4)


def test_mahalanobis_sums_the_layers_distances_on_the_finest_grid() -> None:
    fine, coarse = features(6, 0), features(6, 1, 3, 2)
    both = FeatureMaps((coarse.layers[0], fine.layers[0]))
    single = [np.asarray(Mahalanobis().fit(f, device=CPU).score(f, device=CPU).maps) for f in (fine, coarse)]
    maps = np.asarray(Mahalanobis().fit(both, device=CPU).score(both, device=CPU).maps)
    np.testing.assert_allclose(maps, single[0] + resize_maps(single[1], (4, 4), 0), rtol=1e-4)


@pytest.mark.parametrize("kind", [Padim, Mahalanobis])
def test_a_channel_that_never_varies_does_no_harm(kind: type[Padim] | type[Mahalanobis]) -> None:
    train = features(6, 0)
    train.layers[0][:, 2] = 1
    scores = kind().fit(train, device=CPU).score(features(2, 1), device=CPU)
    assert np.isfinite(scores.maps).all()


def test_image_scores_are_the_maxima_of_the_smoothed_maps() -> None:
    for kind in (Padim, Mahalanobis):
        scores = kind().fit(features(6, 0), device=CPU).score(features(2, 1), device=CPU)
        np.testing.assert_array_equal(scores.image, resize_maps(np.asarray(scores.maps), (256, 256), 4.0).max((1, 2)))


def test_impossible_parameters_are_refused() -> None:
    with pytest.raises(UsageError, match=r"padim: channels=-1 must not be negative \(0 = all\)"):
        Padim(channels=-1)
    with pytest.raises(UsageError, match=r"padim: shrinkage=0 must be above 0, e\.g\. 0\.01"):
        Padim(shrinkage=0)
    with pytest.raises(UsageError, match="mahalanobis: shrinkage=2 must be at most 1"):
        Mahalanobis(shrinkage=2)
    with pytest.raises(DetectorError, match="the features do not vary at all"):
        Mahalanobis().fit(FeatureMaps((np.ones((3, 2, 4, 4), np.float32),)), device=CPU)
