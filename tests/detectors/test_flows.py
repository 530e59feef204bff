"""Invertible steps against autograd's Jacobian; training loops that end well or with a reason."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adbench.core.errors import DetectorError, UsageError
from adbench.detectors import asymst, detector_params, make_detector
from adbench.detectors.asymst import AsymST
from adbench.detectors.fastflow import FastFlow
from adbench.detectors.training import precision
from adbench.detectors.training.flows import Flow, OneSidedStep, TwoSidedStep, pad_by_edge, position_map
from adbench.detectors.training.loop import Standardization, TrainedDetector, TrainingSet, _Step, rate, repeatable
from adbench.detectors.training.precision import set_precision
from adbench.features.anomaly_maps import resize_maps
from adbench.features.feature_maps import FeatureMaps

CPU = torch.device("cpu")
POSITIONS = 4


def features(count: int = 6, seed: int = 0, channels: int = 4, side: int = 4) -> FeatureMaps:
    rng = np.random.default_rng(seed)
    return FeatureMaps((rng.normal(size=(count, channels, side, side)).astype(np.float16),))


def one_sided(channels: int) -> nn.Module:
    return OneSidedStep(channels, hidden_ratio=1.5, kernel=3, clamp=2.0)


def two_sided(channels: int) -> nn.Module:
    return TwoSidedStep(channels, hidden=6, kernel=3, clamp=1.9, positions=POSITIONS)


def flow(make: Callable[[int], nn.Module], channels: int, size: float = 0.3) -> tuple[Flow, tuple[Tensor, ...]]:
    """Three steps away from their start, in float64, and their conditions on a 3 x 2 grid."""
    with repeatable(1):
        whole = Flow([make(channels) for _ in range(3)]).double()
        for parameter in whole.parameters():
            parameter.data += size * torch.randn_like(parameter)
    return whole, (position_map(POSITIONS, 3, 2).double(),) if make is two_sided else ()


@pytest.mark.parametrize("channels", [4, 5])
@pytest.mark.parametrize("make", [one_sided, two_sided])
def test_the_log_determinant_is_that_of_the_jacobian(make: Callable[[int], nn.Module], channels: int) -> None:
    whole, conditions = flow(make, channels)
    x = torch.randn(1, channels, 3, 2, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda v: whole(v, *conditions)[0], x).reshape(6 * channels, 6 * channels)
    z, logdet = whole(x, *conditions)
    assert (z - x).abs().max() > 0.1
    assert logdet.shape == (1, 3, 2)  # per location; the total is their sum
    torch.testing.assert_close(logdet.sum(), torch.linalg.slogdet(jacobian)[1])


@pytest.mark.parametrize("channels", [4, 5])
def test_fastflows_step_has_the_gradients_of_its_formula(channels: int) -> None:
    with repeatable(0):
        step, x = one_sided(channels), torch.randn(2, channels, 3, 4, requires_grad=True)
        step.scale_raw.data += torch.randn_like(step.scale_raw)
        step.offset.data += torch.randn_like(step.offset)
        weights = torch.randn(2, channels, 3, 4), torch.randn(2, 3, 4)

    def by_formula(x: Tensor) -> tuple[Tensor, Tensor]:
        x1, x2 = torch.split(x, [channels - channels // 2, channels // 2], dim=1)
        logs, shift = step.subnet(x1, 0.1).split(channels // 2, dim=1)
        logs, scale = step.clamp * torch.tanh(logs), 0.1 * F.softplus(step.scale_raw, beta=0.5)
        moved = torch.cat([x1, torch.addcmul(shift, x2, logs.exp())], dim=1)
        return step.permutation(torch.addcmul(step.offset, moved, scale)), logs.sum(dim=1) + scale.log().sum()

    def gradients(of: Callable[[Tensor], tuple[Tensor, Tensor]]) -> tuple[Tensor, ...]:
        z, logdet = of(x)
        loss = (z * weights[0]).sum() + (logdet * weights[1]).sum()
        return z, logdet, *torch.autograd.grad(loss, [x, *step.parameters()])

    for ours, formula in zip(gradients(step), gradients(by_formula), strict=True):
        assert torch.equal(ours, formula)  # the bits of models that were trained before


def test_asts_step_starts_as_a_permutation_and_fastflows_scale_as_one() -> None:
    x = torch.randn(2, 5, 3, 2)
    step = TwoSidedStep(5, 6, 3, 1.9, POSITIONS)
    z, logdet = step(x, position_map(POSITIONS, 3, 2))
    torch.testing.assert_close(z, x[:, step.permutation.order])
    assert not logdet.any()
    fastflows = OneSidedStep(5, 1.0, 3, 2.0)
    fastflows.subnet.second.weight.data.zero_(), fastflows.subnet.second.bias.data.zero_()
    z, logdet = fastflows(x)
    torch.testing.assert_close(z, x[:, fastflows.permutation.order])
    torch.testing.assert_close(logdet, torch.zeros(2, 3, 2))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_edges_are_repeated(layout: torch.memory_format) -> None:
    x = torch.rand(1, 2, 3, 4).contiguous(memory_format=layout)
    padded = pad_by_edge(x, 2)
    torch.testing.assert_close(padded, nn.functional.pad(x, (2, 2, 2, 2), mode="replicate"))
    assert padded.is_contiguous(memory_format=layout)


def test_positions_are_waves_of_x_then_of_y() -> None:
    where = position_map(8, 3, 5)
    assert where.shape == (8, 3, 5)
    torch.testing.assert_close(where[2, 1], torch.sin(torch.arange(5) * 0.01))
    torch.testing.assert_close(where[5, :, 4], torch.cos(torch.arange(3.0)))


def test_schedules() -> None:
    assert rate("constant", 0.9) == 1
    assert rate("cosine", 0.5) == pytest.approx(0.5)
    assert [rate("onecycle", t) for t in (0, 0.3, 1)] == pytest.approx([0.04, 1, 0])


def test_channels_are_standardised_and_dead_ones_left_out() -> None:
    maps = features(5).layers[0]
    maps[:, 1] = 7
    scale = Standardization.of(FeatureMaps((maps,)))
    x = maps.astype(np.float64)
    np.testing.assert_allclose(scale.mean, x.mean((0, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(scale.deviation, x.std((0, 2, 3)), rtol=1e-5)
    alive = x[:, [0, 2, 3]]
    expected = (alive - alive.mean((0, 2, 3), keepdims=True)) / alive.std((0, 2, 3), keepdims=True)
    np.testing.assert_allclose(scale.apply(torch.from_numpy(maps).float()), expected, rtol=1e-3, atol=1e-4)


def batches(count: int, **params: int) -> list[int]:
    return [len(rows) for rows in FastFlow(**params)._batches(count, torch.Generator().manual_seed(0))]  # type: ignore[arg-type]


def test_every_image_is_seen_once_per_epoch_in_even_batches() -> None:
    assert batches(9, batch_size=4) == [3, 3, 3]
    order = FastFlow(batch_size=4)._batches(9, torch.Generator().manual_seed(0))
    assert sorted(torch.cat(order).tolist()) == list(range(9))


def test_a_short_run_takes_smaller_batches_but_a_published_one_does_not() -> None:
    assert batches(64, epochs=500) == [32, 32]
    assert batches(64, epochs=100, min_steps=400) == [16] * 4
    assert batches(64, epochs=20, min_steps=400) == [4] * 4 + [3] * 16
    assert batches(5, epochs=1) == [3, 2]  # never a single image, which batch statistics cannot do with
    assert batches(64, epochs=20, min_steps=0) == [32, 32]
    assert batches(1, epochs=1) == [1]


def quick(**params: object) -> TrainedDetector:
    return FastFlow(**{"epochs": 3, "steps": 2, "batch_size": 3, "min_steps": 0} | params)  # type: ignore[arg-type]


def test_the_curve_and_the_capacity_are_kept() -> None:
    notes: list[str] = []
    detector = quick(epochs=8, learning_rate=0.01)
    detector.fit(features(), device=CPU, on_step=lambda done, total, note: notes.append(f"{done}/{total} {note}"))
    details = detector.details()
    curve = details["loss"]
    assert isinstance(curve, list)
    assert len(curve) == 8
    assert curve[-1] < curve[0]
    assert len(notes) == 16  # two batches an epoch, told with the mean loss of the epoch before
    assert notes[-1] == f"16/16 epoch 8/8, loss {curve[-2]:.4g}"
    weights = sum(v.numel() for k, v in detector.state_dict().items() if k.startswith("flows.") and "order" not in k)
    assert details["trainable_parameters"] == weights
    assert details["batches_per_epoch"] == 2
    again = quick().load_state_dict(detector.state_dict())
    assert again.details() == details


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_ends_the_training(value: float) -> None:
    maps = features()
    maps.layers[0][0, 0, 0, 0] = value
    with pytest.raises(DetectorError, match=r"training diverged in epoch 1: loss nan after .* lower learning_rate=0\.001"):
        quick().fit(maps, device=CPU)


def test_an_exploding_loss_ends_the_training() -> None:
    with pytest.raises(DetectorError, match=r"training diverged in epoch \d+: loss .* lower learning_rate=30"):
        quick(learning_rate=30.0, epochs=20).fit(features(), device=CPU)


def test_a_diverging_run_in_bfloat16_ends_with_its_reason() -> None:
    with pytest.raises(DetectorError, match=r"training diverged in epoch \d+: loss .* lower learning_rate=30"):
        quick(learning_rate=30.0, epochs=20, precision="bfloat16").fit(features(), device=CPU)


@pytest.mark.parametrize("kind", ["fastflow", "asymst"])
def test_bfloat16_is_near_float32_and_keeps_the_state_in_float32(kind: str) -> None:
    make = quick if kind == "fastflow" else quick_asymst
    low, full = (make(precision=name, epochs=4).fit(features(), device=CPU) for name in ("bfloat16", "float32"))
    test = features(2, 1)
    scores = low.score(test, device=CPU).image
    assert (scores != full.score(test, device=CPU).image).any()
    np.testing.assert_allclose(scores, full.score(test, device=CPU).image, rtol=0.02)
    assert (low.details()["precision"], full.details()["precision"]) == ("bfloat16", "float32")
    state = low.state_dict()
    assert {v.dtype for k, v in state.items() if v.is_floating_point()} == {torch.float32}
    again = make(precision="bfloat16", epochs=4).fit(features(), device=CPU).state_dict()
    assert all(torch.equal(again[name], value) for name, value in state.items())
    loaded = make().load_state_dict(state)  # a model scores in the precision that it was trained in
    np.testing.assert_array_equal(loaded.score(test, device=CPU).image, scores)
    assert loaded.details()["precision"] == "bfloat16"


@pytest.mark.parametrize(("kind", "params"), [("rd", {}), ("supersimplenet", {"hidden": 8})])
def test_other_trained_detectors_compute_in_bfloat16(kind: str, params: dict[str, object]) -> None:
    maps = FeatureMaps((*features(side=8).layers, *features(channels=6).layers))
    scores = {}
    for name in ("bfloat16", "float32"):
        made = make_detector(kind, {"epochs": 1, "min_steps": 0, "precision": name} | params, 0)
        scores[name] = made.fit(maps, device=CPU).score(maps, device=CPU).image
        assert made.details()["precision"] == name
        assert {v.dtype for v in made.state_dict().values() if v.is_floating_point()} == {torch.float32}
    assert (scores["bfloat16"] != scores["float32"]).any()
    np.testing.assert_allclose(scores["bfloat16"], scores["float32"], rtol=0.2)


def test_the_density_is_exact_whatever_the_precision_of_subnets() -> None:
    whole, _ = flow(one_sided, 6)
    x = torch.randn(1, 6, 3, 2, dtype=torch.float64)
    whole.float()
    set_precision(whole, torch.bfloat16)
    z, logdet = whole(x.float())
    assert z.dtype == logdet.dtype == torch.float32
    step = whole.steps[0]  # the scale of each channel is read off its output: rounding of the subnet does not enter
    _, at_x = step(x.float())
    moved = x.float().clone()
    moved[:, 3:] += 1
    y, at_moved = step(moved)
    stretch = (y - step(x.float())[0])[:, step.permutation.order.argsort()][:, 3:]
    torch.testing.assert_close(at_x, at_moved)
    fixed = (0.1 * nn.functional.softplus(step.scale_raw, beta=0.5)).log()[:, :3].sum()
    torch.testing.assert_close(stretch.log().sum(dim=1) + fixed, at_x, rtol=1e-4, atol=1e-4)


def test_auto_is_float32_without_units_for_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    def fitted(precision: str) -> dict[str, Tensor]:
        return quick(precision=precision).fit(features(), device=CPU).state_dict()

    for tiles, same_as in ((False, "float32"), (True, "bfloat16")):
        monkeypatch.setattr(precision, "has_bfloat16_tiles", lambda tiles=tiles: tiles)
        expected, found = fitted(same_as), fitted("auto")
        assert expected.keys() == found.keys()
        assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert "precision" not in detector_params(FastFlow())  # keys of earlier jobs
    assert detector_params(quick(precision="AUTO"))["precision"] == "auto"


def test_a_batch_that_does_not_fit_is_split() -> None:
    def fitted(most: int) -> Tensor:
        network = nn.Conv2d(4, 2, 1)
        network.weight.data.fill_(0.1)

        def loss(x: Tensor) -> Tensor:
            if len(x) > most:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return network(x).square().mean()

        quick(batch_size=6).train(network, loss, TrainingSet(features(), lambda layers: layers[0], CPU), lambda *_: None)
        return network.weight.data

    torch.testing.assert_close(fitted(most=2), fitted(most=6))
    with pytest.raises(torch.OutOfMemoryError):
        fitted(most=0)


def test_a_batch_with_batch_statistics_is_not_split() -> None:
    def loss(x: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    data = TrainingSet(features(), lambda layers: layers[0], CPU)
    step = _Step(nn.BatchNorm2d(4), loss, torch.optim.Adam(nn.BatchNorm2d(4).parameters()))
    with pytest.raises(torch.OutOfMemoryError):
        step(data, next(data.read([torch.arange(6)])), 1e-3)
    assert step.parts == 1


def test_features_held_on_a_device_are_those_on_disk() -> None:
    rows = [torch.tensor([4, 1]), torch.tensor([0])]
    data = TrainingSet(features(), lambda layers: layers[0], CPU)
    from_disk = list(data.read(rows))
    data._on_device = features().stored(slice(None), CPU)
    for held, read in zip(data.read(rows), from_disk, strict=True):
        torch.testing.assert_close(held, read, rtol=0, atol=0)


def test_the_global_random_state_is_left_alone() -> None:
    before = torch.get_rng_state()
    quick().fit(features(), device=CPU)
    assert torch.equal(torch.get_rng_state(), before)


def test_features_are_prepared_batch_by_batch() -> None:
    data = TrainingSet(features(), lambda layers: layers[0] * 2, CPU)
    assert len(data) == 6
    expected = torch.from_numpy(features().layers[0][[4, 1]]).float() * 2
    (layers,) = data.read([torch.tensor([4, 1])])
    torch.testing.assert_close(data.prepare(layers), expected)


@pytest.mark.parametrize(("channels", "ratio"), [(6, 1.0), (1024, 0.25)])
def test_the_hidden_ratio_depends_on_the_width_unless_given(channels: int, ratio: float) -> None:
    detector = FastFlow(epochs=1, steps=1).fit(features(2, channels=channels, side=2), device=CPU)
    assert detector.details()["hidden_ratios"] == [ratio]
    assert FastFlow(hidden_ratio=0.5)._ratio(channels) == 0.5
    assert detector_params(FastFlow())["hidden_ratio"] == 0.0  # what the job's key holds


def test_fastflows_capacity_is_thirty_c_squared() -> None:
    detector = FastFlow(epochs=1).fit(features(2, channels=64, side=2), device=CPU)
    assert detector.details()["trainable_parameters"] == pytest.approx(30 * 64**2, rel=0.03)


def test_fastflow_does_not_bake_in_the_input_size() -> None:
    detector = quick().fit(features(), device=CPU)
    assert np.shape(detector.score(features(2, side=7), device=CPU).maps) == (2, 7, 7)


def test_joined_layers_have_a_flow_each_and_their_likelihoods_are_averaged() -> None:
    fine, coarse = features(side=8), features(channels=6)
    both = FeatureMaps((*fine.layers, *coarse.layers))
    detector = quick().fit(both, device=CPU)
    capacities = [quick().fit(alone, device=CPU).details()["trainable_parameters"] for alone in (fine, coarse)]
    assert detector.details()["trainable_parameters"] == sum(capacities)  # type: ignore[arg-type]
    assert isinstance(detector, FastFlow)
    with torch.no_grad():
        layers = detector._prepare([torch.from_numpy(layer).float() for layer in both.layers])
        one, two = (0.5 * flow(x)[0].square().mean(1, True) for flow, x in zip(detector.networks_["flows"], layers, strict=True))
    two = nn.functional.interpolate(two, (8, 8), mode="bilinear")
    expected = -(((-one).exp() + (-two).exp()) / 2).log()
    np.testing.assert_allclose(np.asarray(detector.score(both, device=CPU).maps), expected[:, 0], rtol=1e-5, atol=1e-6)


def test_the_log_determinant_may_count() -> None:
    test, without = features(2, 1), quick().fit(features(), device=CPU)
    with_it = quick(logdet=True).load_state_dict(without.state_dict())
    assert isinstance(without, FastFlow)
    with torch.no_grad():
        _, logdet = without.networks_["flows"][0](*without._prepare([torch.from_numpy(test.layers[0]).float()]))
    first, second = (np.asarray(detector.score(test, device=CPU).maps) for detector in (without, with_it))
    np.testing.assert_allclose(first - second, logdet / 4, rtol=1e-3, atol=1e-5)


def test_a_layer_norm_sees_each_image_alone() -> None:
    detector = quick(normalise="layer").fit(features(), device=CPU)
    test = features(2, 1)
    louder = FeatureMaps((test.layers[0].astype(np.float32) * 5 + 3,))
    first, second = (detector.score(maps, device=CPU).image for maps in (test, louder))
    np.testing.assert_allclose(first, second, rtol=1e-3)


def test_far_outliers_do_not_tie() -> None:
    detector = quick().fit(features(), device=CPU)
    far = FeatureMaps((np.stack([np.full((4, 4, 4), v, np.float32) for v in (1e3, 2e3, 4e3)]),))
    scores = detector.score(far, device=CPU).image
    assert scores[0] < scores[1] < scores[2] < math.inf


def test_impossible_parameters_are_refused() -> None:
    for params, said in [
        ({"epochs": 0}, "fastflow: epochs=0 must be above 0"),
        ({"weight_decay": -1.0}, "fastflow: weight_decay=-1 must not be negative"),
        ({"schedule": "cosin"}, "cosine"),
        ({"precision": "bfloat"}, "bfloat16"),
        ({"normalise": "batch"}, "layer"),
        ({"steps": 0}, "fastflow: steps=0 must be above 0"),
        ({"hidden_ratio": -1.0}, "fastflow: hidden_ratio=-1 must not be negative"),
        ({"min_steps": -1}, "fastflow: min_steps=-1 must not be negative"),
    ]:
        with pytest.raises(UsageError, match=said):
            quick(**params)
    refusal = "a coupling flow needs at least 2 channels, the features have 1"
    assert quick().unsupported([(4, 8, 8), (1, 4, 4)]) == refusal
    assert quick_asymst().unsupported([(1, 8, 8)]) == refusal
    assert quick_asymst().unsupported([(1, 8, 8), (1, 4, 4)]) is None


def quick_asymst(**params: object) -> AsymST:
    small = {"epochs": 3, "batch_size": 3, "teacher_hidden": 4, "student_hidden": 8, "steps": 2, "min_steps": 0}
    return AsymST(**small | params)  # type: ignore[arg-type]


def test_asymst_keeps_both_curves_and_leaves_dead_channels_out() -> None:
    maps = features()
    maps.layers[0][:, 2] = 3
    notes: list[str] = []
    detector = quick_asymst().fit(maps, device=CPU, on_step=lambda d, total, note: notes.append(f"{d}/{total} {note}"))
    details = detector.details()
    assert details["dead_channels"] == 1
    places = [f"{i + 1}/12 {'teacher' if i < 6 else 'student'} epoch {i % 6 // 2 + 1}/3" for i in range(12)]
    assert [note.split(", loss")[0] for note in notes] == places
    assert quick_asymst().load_state_dict(detector.state_dict()).details() == details
    loud = features(2, 1)
    loud.layers[0][:, 2] = 1000
    quiet = features(2, 1)
    np.testing.assert_array_equal(detector.score(loud, device=CPU).image, detector.score(quiet, device=CPU).image)


def test_asymsts_scores_are_the_means_of_squared_differences() -> None:
    detector = quick_asymst().fit(features(), device=CPU)
    test = features(2, 1)
    with torch.no_grad():
        x, where = detector._prepare([torch.from_numpy(test.layers[0]).float()]), position_map(32, 4, 4)
        teacher, student = detector.networks_["teacher"], detector.networks_["student"]
        expected = (teacher(x, where)[0] - student(x, where)).square().mean(1)
    scores = detector.score(test, device=CPU)
    np.testing.assert_allclose(np.asarray(scores.maps), expected, rtol=1e-6)
    np.testing.assert_allclose(scores.image, expected.mean((1, 2)), rtol=1e-5)
    assert not student.training  # batch statistics would make an image's score depend on its neighbours
    largest = quick_asymst(image_score="max").fit(features(), device=CPU).score(test, device=CPU)
    np.testing.assert_array_equal(largest.image, np.asarray(largest.maps).max((1, 2)))


def test_the_teachers_answers_need_not_be_held(monkeypatch: pytest.MonkeyPatch) -> None:
    held = quick_asymst().fit(features(), device=CPU).score(features(2, 1), device=CPU)
    assert quick_asymst().memory_bytes(6, [(4, 4, 4), (3, 2, 2)]) == 4 * 6 * 7 * 4 * 4
    monkeypatch.setattr(asymst, "memory_bytes", lambda: 1000)
    assert quick_asymst().memory_bytes(6, [(4, 4, 4)]) == 0
    asked = quick_asymst().fit(features(), device=CPU).score(features(2, 1), device=CPU)
    np.testing.assert_allclose(held.image, asked.image, rtol=1e-4)


def test_asymst_refuses_what_it_cannot_train_on() -> None:
    with pytest.raises(UsageError, match="asymst: student_hidden=0 must be above 0"):
        quick_asymst(student_hidden=0)
    still = FeatureMaps((np.ones((3, 4, 4, 4), np.float16),))
    for detector in (quick_asymst(), quick()):
        with pytest.raises(DetectorError, match=r"^0 of 4 channels vary, 2 are needed; take another layer$"):
            detector.fit(still, device=CPU)
    with pytest.raises(DetectorError, match="training diverged in epoch"):
        quick_asymst(learning_rate=1e6, epochs=20).fit(features(), device=CPU)


def test_the_published_map_and_image_score() -> None:
    train, test = features(), features(count=3, seed=1)
    usual = FastFlow(epochs=1, steps=2, min_steps=1).fit(train, device=CPU)
    published = FastFlow(epochs=1, steps=2, min_steps=1, anomaly_map="probability", image_score="map").fit(train, device=CPU)
    energy, scores = np.asarray(usual.score(test, device=CPU).maps), published.score(test, device=CPU)
    np.testing.assert_allclose(scores.maps, -np.exp(-energy), rtol=1e-4, atol=1e-7)  # one layer
    enlarged = resize_maps(np.asarray(scores.maps), (256, 256), 0).max(axis=(1, 2))
    np.testing.assert_array_equal(scores.image, enlarged)
    assert (enlarged <= np.asarray(scores.maps).max(axis=(1, 2))).all()
