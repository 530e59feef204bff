"""Reverse distillation against a naive form of the published network, losses and map, and on all kinds of grids."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from adbench.core.errors import DetectorError, UsageError
from adbench.detectors.rd import RD, Student, distillation_loss
from adbench.features.anomaly_maps import maxima
from adbench.features.feature_maps import FeatureMaps, Shape

CPU = torch.device("cpu")
State = dict[str, Tensor]
QUICK: dict[str, Any] = {"epochs": 2, "batch_size": 8, "min_steps": 0}


def features(shapes: list[Shape], count: int = 6, seed: int = 0) -> FeatureMaps:
    rng = np.random.default_rng(seed)
    return FeatureMaps(tuple(rng.normal(size=(count, *shape)).astype(np.float32) for shape in shapes))


def shaken(student: Student) -> Student:
    """Give the batch normalizations other values than those they start from."""
    for name, value in student.state_dict().items():
        if "running" in name or value.ndim == 1:
            value.copy_(torch.rand(value.shape) + 0.5)
    return student.eval()


def norm(state: State, name: str, x: Tensor) -> Tensor:
    mean, variance, weight, bias = (
        state[f"{name}.{key}"][:, None, None] for key in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / (variance + 1e-5).sqrt() * weight + bias


def block(state: State, name: str, x: Tensor, resize: str = "") -> Tensor:
    """Compute a bottleneck block: 1 x 1, 3 x 3 (half of the grid) or 2 x 2 transposed (twice the grid), 1 x 1."""

    def resized(of: Tensor, weight: Tensor, padding: int) -> Tensor:
        if resize == "up":
            return F.conv_transpose2d(of, weight, stride=2)
        return F.conv2d(of, weight, stride=2 if resize == "down" else 1, padding=padding)

    y = norm(state, f"{name}.main.1", F.conv2d(x, state[f"{name}.main.0.weight"])).relu()
    y = norm(state, f"{name}.main.4", resized(y, state[f"{name}.main.3.weight"], 1)).relu()
    y = norm(state, f"{name}.main.7", F.conv2d(y, state[f"{name}.main.6.weight"]))
    if f"{name}.short.0.weight" in state:
        x = norm(state, f"{name}.short.1", resized(x, state[f"{name}.short.0.weight"], 0))
    return (y + x).relu()


def naive(state: State, layers: list[Tensor]) -> list[Tensor]:
    """Rebuild three layers of strides 1, 2 and 4, as published."""
    fused = []
    for index, halvings in enumerate((2, 1)):
        x = layers[index]
        for step in range(halvings):
            x = F.conv2d(x, state[f"fusion.{index}.{3 * step}.weight"], stride=2, padding=1)
            x = norm(state, f"fusion.{index}.{3 * step + 1}", x).relu()
        fused.append(x)
    x = block(state, "embedding.0", torch.cat([*fused, layers[2]], dim=1), "down")
    x = block(state, "embedding.2", block(state, "embedding.1", x))
    rebuilt = []
    for stage, blocks in enumerate((3, 4, 6)):
        for number in range(blocks):
            x = block(state, f"decoder.{stage}.{number}", x, "" if number else "up")
        rebuilt.append(x)
    return rebuilt[::-1]


def test_the_network_is_the_published_one() -> None:
    torch.manual_seed(0)
    shapes = [(4, 16, 8), (8, 8, 4), (16, 4, 2)]
    student, layers = shaken(Student(shapes, [True] * 3, 0.5)), [torch.rand(2, *shape) for shape in shapes]
    for ours, expected in zip(student(layers), naive(student.state_dict(), layers), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)


def test_with_the_published_layers_it_has_as_many_parameters() -> None:
    with torch.device("meta"):  # the authors' network without the two modules that it does not use
        student = Student([(256, 64, 64), (512, 32, 32), (1024, 16, 16)], [True] * 3, 0.5)
    assert sum(parameter.numel() for parameter in student.parameters()) == 83_802_624


@pytest.mark.parametrize("loss", ["flattened", "cells"])
def test_losses(loss: str) -> None:
    given, rebuilt = (features([(3, 4, 2), (5, 2, 1)], 2, seed).layers for seed in (1, 2))
    expected = 0.0
    for x, y in zip(given, rebuilt, strict=True):
        vectors = [(x[i].ravel(), y[i].ravel()) for i in (0, 1)]
        if loss == "cells":
            vectors = [(x[i, :, r, c], y[i, :, r, c]) for i in (0, 1) for r, c in np.ndindex(x.shape[2:])]
        expected += np.mean([1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in vectors])
    found = distillation_loss(*([torch.from_numpy(layer) for layer in layers] for layers in (given, rebuilt)), loss)
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_the_map_is_the_sum_of_the_cells_cosine_distances() -> None:
    train = features([(4, 8, 4), (3, 4, 2)])
    detector = RD(**QUICK).fit(train, device=CPU)
    scores = detector.score(train, device=CPU)
    scales = detector.scales_.values()
    with torch.no_grad():
        rebuilt = detector.networks_["student"](
            [torch.from_numpy(layer) / scale.deviation[0] for layer, scale in zip(train.layers, scales, strict=True)]
        )
    pairs = [
        (torch.from_numpy(layer) / scale.deviation[0], y) for layer, scale, y in zip(train.layers, scales, rebuilt, strict=True)
    ]
    maps = [1 - (x * y).sum(1) / x.norm(dim=1) / y.norm(dim=1) for x, y in pairs]
    coarse = F.interpolate(maps[1][:, None], (8, 4), mode="bilinear")[:, 0]
    np.testing.assert_allclose(scores.maps, maps[0] + coarse, rtol=1e-4)
    np.testing.assert_allclose(scores.image, maxima(np.asarray(scores.maps), 4.0))


GRIDS: dict[str, list[Shape]] = {
    "factor 4, the coarse layer first": [(7, 4, 2), (5, 16, 8)],
    "three odd grids, not square": [(4, 19, 11), (6, 10, 6), (9, 5, 3)],
    "factors 2 and 4": [(4, 16, 16), (3, 8, 8), (5, 2, 2)],
    "four strides": [(2, 16, 16), (3, 8, 8), (5, 4, 4), (6, 2, 2)],
    "two layers of one grid": [(4, 8, 8), (6, 4, 4), (3, 8, 8)],
}


@pytest.mark.parametrize("case", GRIDS)
def test_any_strides_can_be_joined(case: str) -> None:
    train = features(GRIDS[case])
    detector = RD(**QUICK).fit(train, device=CPU)
    maps = detector.score(train, device=CPU).maps
    assert maps.shape[1:] == max((shape[1:] for shape in GRIDS[case]), key=np.prod)
    again = RD(**QUICK).load_state_dict(detector.state_dict()).score(train, device=CPU)
    np.testing.assert_array_equal(again.maps, maps)
    assert detector.memory_bytes(6, train.shapes) > 4 * sum(t.numel() for t in detector.networks_.parameters())


def test_only_layers_without_negative_values_end_in_a_relu() -> None:
    mixed = features([(4, 8, 8), (5, 4, 4)])
    mixed.layers[1][:] = abs(mixed.layers[1])
    detector = RD(**QUICK).fit(mixed, device=CPU)
    fine, coarse = detector.networks_["student"](detector._prepare(mixed.read(slice(None), CPU)))
    assert detector.rectified_ == (False, True)
    assert (fine < 0).any() and not (coarse < 0).any()


def test_the_scale_of_a_layer_changes_nothing() -> None:
    train = features([(4, 8, 8), (5, 4, 4)])
    scaled = FeatureMaps((train.layers[0], train.layers[1] * 512))
    maps = [RD(**QUICK).fit(f, device=CPU).score(f, device=CPU).maps for f in (train, scaled)]
    np.testing.assert_allclose(maps[0], maps[1], rtol=1e-3)


def test_what_cannot_be_distilled_is_refused_in_a_line() -> None:
    reason = "reverse distillation needs layers of two or more strides, a factor of 2 or more apart; the grids are "
    assert RD().unsupported([(8, 16, 16), (9, 16, 16)]) == reason + "16x16"
    assert RD().unsupported([(8, 16, 16), (9, 15, 15)]) == reason + "16x16 and 15x15"
    assert RD().unsupported([(8, 16, 16), (9, 8, 8)]) is None
    with pytest.raises(UsageError, match="loss"):
        RD(loss="mse")
    with pytest.raises(UsageError, match="rd: hidden_ratio=0 must be above 0"):
        RD(hidden_ratio=0.0)
    with pytest.raises(DetectorError, match="rd: a batch of one image has one cell in the code; take"):
        RD(**QUICK).fit(features([(4, 4, 4), (5, 2, 2)], count=1), device=CPU)


def test_bfloat16_scores_are_near_those_of_float32() -> None:
    train = features([(8, 8, 8), (16, 4, 4)])
    detector = RD(**QUICK).fit(train, device=CPU)
    lower = RD(**QUICK).load_state_dict(detector.state_dict() | {"bfloat16": torch.tensor(True)})
    maps = [of.score(train, device=CPU).maps for of in (detector, lower)]
    assert maps[1].dtype == np.float32 and not np.array_equal(*maps)
    assert np.abs(np.subtract(*maps)).mean() < 0.02  # of a range of 0 to 4
