"""The principal subspace against scikit-learn's PCA, in either form of the product, and in bounded memory."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from adbench.core.errors import DetectorError, UsageError
from adbench.detectors.subspace import Subspace
from adbench.features.anomaly_maps import resize_maps
from adbench.features.feature_maps import FeatureMaps, join

CPU = torch.device("cpu")


def features(count: int, seed: int, channels: int = 24, side: int = 6) -> FeatureMaps:
    """Return correlated channels far from zero: a covariance whose variances fall like 1 / rank^2."""
    rng = np.random.default_rng(seed)
    mix = np.random.default_rng(9).normal(size=(channels, channels)) / np.arange(1, channels + 1)
    x = rng.normal(size=(count, side, side, channels)) @ mix.T + 50
    return FeatureMaps((x.transpose(0, 3, 1, 2).astype(np.float32),))


def patches(maps: FeatureMaps) -> NDArray[np.float64]:
    whole = join([torch.from_numpy(layer).double() for layer in maps.layers])
    return whole.permute(0, 2, 3, 1).flatten(0, 2).numpy()


@pytest.mark.parametrize("explained", [0.5, 0.9, 0.985, 0.999])
def test_the_score_is_the_reconstruction_error_of_pca(explained: float) -> None:
    train, test = features(20, 0), features(3, 1)
    detector = Subspace(explained=explained).fit(train, device=CPU)
    pca = PCA(explained, svd_solver="full").fit(patches(train))
    expected = np.square(patches(test) - pca.inverse_transform(pca.transform(patches(test)))).sum(axis=1)
    assert detector.details() == {"components": pca.n_components_, "dimensions": 24}
    np.testing.assert_allclose(detector.score(test, device=CPU).maps.ravel(), expected, rtol=1e-4)


def test_both_bases_are_used_and_joined_layers_are_one_subspace() -> None:
    train = FeatureMaps((features(9, 0).layers[0], features(9, 1, channels=7, side=3).layers[0]))
    detectors = [Subspace(explained=share).fit(train, device=CPU) for share in (0.5, 0.97)]
    assert [detector.outside_ for detector in detectors] == [False, True]
    for detector in detectors:
        pca = PCA(detector.explained, svd_solver="full").fit(patches(train))
        expected = np.square(patches(train) - pca.inverse_transform(pca.transform(patches(train)))).sum(axis=1)
        np.testing.assert_allclose(detector.score(train, device=CPU).maps.ravel(), expected, rtol=1e-4)


def test_whitened_residuals_have_unit_variance_in_each_direction() -> None:
    train = features(40, 0)
    detector = Subspace(explained=0.8, whiten=True).fit(train, device=CPU)
    left = (torch.from_numpy(patches(train)).float() - detector.mean_) @ detector.basis_
    np.testing.assert_allclose(np.cov(left.numpy(), rowvar=False), np.eye(24 - detector.rank_), atol=1e-3)


def test_the_image_score_is_the_mean_of_the_top_percent_of_the_map() -> None:
    train, test = features(9, 0), features(3, 1)
    scores = [Subspace(image_score=name).fit(train, device=CPU).score(test, device=CPU) for name in ("top1pct", "max")]
    smoothed = np.sort(resize_maps(scores[0].maps, (256, 256), 4.0).reshape(3, -1))
    np.testing.assert_allclose(scores[0].image, smoothed[:, -655:].mean(axis=1), rtol=1e-5)
    np.testing.assert_allclose(scores[1].image, smoothed[:, -1], rtol=1e-6)


def test_a_random_projection_bounds_the_covariance() -> None:
    train = features(9, 0)
    wide, narrow = Subspace(), Subspace(projection=5)
    assert narrow.fit(train, device=CPU).details()["dimensions"] == 5
    assert narrow.memory_bytes(9, train.shapes) < wide.memory_bytes(9, train.shapes)
    assert wide.memory_bytes(1000, [(1536, 28, 28)]) == wide.memory_bytes(100, [(1536, 28, 28)]) < 450e6


def test_what_cannot_be_modeled_is_refused_in_a_line() -> None:
    with pytest.raises(UsageError, match=r"subspace: explained=1 must be above 0 and below 1, e\.g\. 0\.9"):
        Subspace(explained=1.0)
    with pytest.raises(UsageError, match=r"subspace: projection=-1 must not be negative \(0 = none\)"):
        Subspace(projection=-1)
    assert Subspace().unsupported([(1, 8, 8)]) == "a subspace needs at least 2 dimensions, the features have 1"
    with pytest.raises(DetectorError, match="subspace: the features do not vary at all; take another layer"):
        Subspace().fit(FeatureMaps((np.ones((3, 4, 2, 2), np.float32),)), device=CPU)
