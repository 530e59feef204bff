"""SuperSimpleNet against naive forms of its networks, loss and Perlin noise."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from adbench.core.errors import UsageError
from adbench.detectors.supersimplenet import Discriminator, SuperSimpleNet, discriminator_loss, perlin_masks, perlin_noise
from adbench.detectors.training.loop import rate
from adbench.features.anomaly_maps import maxima
from adbench.features.feature_maps import FeatureMaps

CPU = torch.device("cpu")
QUICK: dict[str, Any] = {"epochs": 2, "batch_size": 4, "hidden": 8, "min_steps": 0}


def features(seed: int, scale: float = 1.0, count: int = 6) -> FeatureMaps:
    rng = np.random.default_rng(seed)
    shapes = ((5, 6, 10), (3, 3, 5))
    return FeatureMaps(tuple((scale * rng.normal(1, 1, size=(count, *shape))).astype(np.float32) for shape in shapes))


def test_heads() -> None:
    torch.manual_seed(0)
    heads, x = Discriminator(4, 6), torch.randn(2, 4, 5, 7)
    for name, value in heads.state_dict().items():
        if "running" in name:
            value.copy_(torch.rand(value.shape) + 0.5)
    state = heads.eval().state_dict()

    def norm(name: str, y: torch.Tensor) -> torch.Tensor:
        mean, variance, weight, bias = (
            state[f"{name}.{key}"][:, None, None] for key in ("running_mean", "running_var", "weight", "bias")
        )
        return (y - mean) / (variance + 1e-5).sqrt() * weight + bias

    hidden = norm(
        "cells.1", torch.einsum("oc,bchw->bohw", state["cells.0.weight"][:, :, 0, 0], x) + state["cells.0.bias"][:, None, None]
    )
    logits = torch.einsum("oc,bchw->bohw", state["cells.3.weight"][:, :, 0, 0], torch.where(hidden > 0, hidden, 0.2 * hidden))
    around = F.conv2d(torch.cat([x, logits], 1), state["around.0.weight"], state["around.0.bias"], padding=2)
    around = norm("around.1", around).clamp(min=0)
    pooled = [pool for y in (around, logits) for pool in (y.flatten(2).max(2)[0], y.flatten(2).mean(2))]
    image = torch.cat(pooled, 1) @ state["image.weight"][0] + state["image.bias"]
    ours = heads(x)
    torch.testing.assert_close(ours[0], logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours[1], image, rtol=1e-4, atol=1e-5)


def test_the_image_head_does_not_train_the_cells_head() -> None:
    heads = Discriminator(4, 6)
    heads(torch.randn(2, 4, 5, 7))[1].sum().backward()
    assert heads.image.weight.grad is not None
    assert all(parameter.grad is None for parameter in heads.cells.parameters())


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_loss(share: float) -> None:
    rng = np.random.default_rng(0)
    logits, images, masks = rng.normal(size=(3, 1, 4, 5)), rng.normal(size=3), (rng.random((3, 1, 4, 5)) < share) * 1.0
    masks[0] = share == 1

    def focal(values: np.ndarray, labels: np.ndarray) -> float:
        p = 1 / (1 + np.exp(-values))
        p = np.where(labels == 1, p, 1 - p)
        return float(np.mean((1 - p) ** 4 * -np.log(p)))

    nominal, anomalous = logits[masks == 0], logits[masks == 1]
    expected = focal(logits, masks) + focal(images, masks.max((1, 2, 3)))
    expected += np.mean(np.maximum(0, nominal + 0.5)) if nominal.size else 0
    expected += np.mean(np.maximum(0, 0.5 - anomalous)) if anomalous.size else 0
    found = discriminator_loss(*(torch.from_numpy(x).float() for x in (logits, images, masks)))
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_perlin_noise() -> None:
    angles = 2 * math.pi * torch.rand(3, 5, generator=torch.Generator().manual_seed(0))
    noise = perlin_noise((8, 16), angles)
    for row, column in np.ndindex(8, 16):
        y, x = row / 4, column / 4
        top, left = int(y), int(x)
        total, fades = 0.0, [t**3 * (6 * t**2 - 15 * t + 10) for t in (y - top, x - left)]
        for down, right in np.ndindex(2, 2):
            angle = float(angles[top + down, left + right])
            weight = (fades[0] if down else 1 - fades[0]) * (fades[1] if right else 1 - fades[1])
            total += weight * (math.cos(angle) * (y - top - down) + math.sin(angle) * (x - left - right))
        assert float(noise[row, column]) == pytest.approx(math.sqrt(2) * total, abs=1e-5)


@pytest.mark.parametrize("grid", [(32, 32), (7, 20), (1, 3)])
def test_masks_are_drawn_on_any_grid(grid: tuple[int, int]) -> None:
    masks = perlin_masks(200, grid, 0.2, torch.Generator().manual_seed(0))
    assert masks.shape == (200, 1, *grid) and set(masks.unique().tolist()) == {0.0, 1.0}
    assert 0.2 < float(masks.amax((1, 2, 3)).mean()) < 0.6  # half are emptied, some have no cell above the threshold
    assert torch.equal(masks, perlin_masks(200, grid, 0.2, torch.Generator().manual_seed(0)))


def test_rates_and_decays_are_the_published_ones() -> None:
    detector = SuperSimpleNet(**QUICK)
    detector.scales_ = detector.make_scales(features(0))
    groups = SuperSimpleNet().make_optimizer(detector.make_networks()).param_groups
    assert [(group["lr"], group["weight_decay"]) for group in groups] == [(1e-4, 0.01), (2e-4, 1e-5)]
    falls = [rate("steps", (epoch + 0.5) / 300) for epoch in (0, 239, 240, 269, 270, 299)]
    assert falls == pytest.approx([1, 1, 0.4, 0.4, 0.16, 0.16])


def test_joined_layers_give_maps_on_the_finest_grid() -> None:
    train = features(0)
    scores = [
        SuperSimpleNet(**QUICK, image_score=name).fit(train, device=CPU).score(train, device=CPU) for name in ("head", "map")
    ]
    assert scores[0].maps.shape == (6, 6, 10)
    np.testing.assert_array_equal(scores[0].maps, scores[1].maps)
    np.testing.assert_allclose(scores[1].image, maxima(scores[1].maps, 4.0))


def test_noise_is_relative_to_the_features_unless_absolute() -> None:
    def loss(unit: str, scale: float) -> list[float]:
        detector = SuperSimpleNet(**QUICK, noise=1.0, noise_unit=unit).fit(features(0, scale), device=CPU)
        return detector.curves_["loss"].tolist()

    assert loss("deviation", 1.0) == pytest.approx(loss("deviation", 64.0), rel=1e-3)
    assert loss("absolute", 1.0) != pytest.approx(loss("absolute", 64.0), rel=1e-2)


def test_wrong_values_are_refused_in_a_line() -> None:
    with pytest.raises(UsageError, match="supersimplenet: noise=0 must be above 0"):
        SuperSimpleNet(noise=0.0)
    with pytest.raises(UsageError, match="supersimplenet: perlin_threshold=1 must be at least 0 and below 1"):
        SuperSimpleNet(perlin_threshold=1.0)
    with pytest.raises(UsageError, match="noise_unit"):
        SuperSimpleNet(noise_unit="percent")
    assert SuperSimpleNet().unsupported([(1, 8, 8)]) is None


def test_bfloat16_computes_in_it_and_gives_float32_logits() -> None:
    train = features(0)
    detector = SuperSimpleNet(**QUICK, precision="bfloat16").fit(train, device=CPU)
    maps = detector.score(train, device=CPU).maps
    assert detector.details()["precision"] == "bfloat16" and maps.dtype == np.float32
    assert not np.array_equal(maps, SuperSimpleNet(**QUICK).fit(train, device=CPU).score(train, device=CPU).maps)
