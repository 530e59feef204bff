"""Plans: the smoothing of a job, networks of random weights, the detectors of a backbone."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from adbench.backbones.network import Network
from adbench.backbones.weights import load, resolve
from adbench.core.errors import UsageError
from adbench.detectors import DETECTORS, detector_of
from adbench.sweep.plan import job_for, make_plan
from adbench.sweep.spec import parse
from adbench.types import SMOOTHED, Category, Job

INPUTS: Any = SimpleNamespace(category=Category("mvtec", "bolt", (), ()), fingerprint="f", native=lambda view: (0, 0))


def jobs(text: str, memo: Path) -> list[Job]:
    return make_plan(parse(text), [INPUTS], memo).jobs


def job(detector: str, smoothing: float, sigma: float | None = None, **view: Any) -> Job:
    network = Network("resnet18", resolve("resnet18", "random"))
    method = {"detector": detector, "params": {}, "revision": 2, "smoothing": smoothing}
    return job_for(INPUTS, network, ("layer1.1.relu_1",), 0, sigma=sigma, eval_size=256, **method, **view)


@pytest.mark.parametrize(
    ("view", "sigma", "recorded", "on_the_grid"),
    [
        ({"image_size": 256}, None, None, 4.0),  # the key of version 0.1.0
        ({"image_size": 256}, 4, None, 4.0),
        ({"image_size": 256}, 2, 2.0, 2.0),
        ({"image_size": 512}, None, 4.0, 2.0),
        ({"image_size": 512}, 8, None, 4.0),  # as version 0.1.0 smoothed at 512 px
        ({"image_size": 128}, None, 4.0, 8.0),
        ({"image_size": "128x512"}, None, None, 4.0),
        ({"image_size": 1024, "tile": 512}, None, 4.0, 2.0),
        ({"image_size": "native"}, None, None, 4.0),
        ({"image_size": 256}, 0, 0.0, 0.0),
    ],
)
def test_sigma_is_in_input_pixels(view: dict[str, Any], sigma: float | None, recorded: float | None, on_the_grid: float) -> None:
    made = job("padim", 4.0, sigma, **view)
    assert made.smoothing == recorded and ("smoothing" in made.record()) == (recorded is not None)
    assert detector_of(made).smoothing == on_the_grid


def test_a_detector_without_smoothing_keeps_none() -> None:
    made = job("fastflow", 0.0, 4, image_size=512)
    assert made.smoothing is None and detector_of(made).smoothing == 0


def test_the_smoothing_of_earlier_versions_is_told_apart() -> None:
    new, old = job("padim", 4.0, image_size=512), job("padim", 4.0, 8, image_size=512)
    assert (new.unusual_smoothing, old.unusual_smoothing) == (None, 8.0)
    assert job("fastflow", 0.0, image_size=512).unusual_smoothing is None


def test_a_sigma_that_is_in_no_key_is_known_of_every_detector_that_smooths() -> None:
    own = {name: made for name, made in DETECTORS.items().items() if made.__module__.startswith("adbench.")}
    assert sorted(SMOOTHED) == sorted(name for name, made in own.items() if made.smoothing)
    assert {job(name, 4.0, 8, image_size=512).unusual_smoothing for name in SMOOTHED} == {8.0}


def test_each_seed_draws_random_weights_of_its_own(tmp_path: Path) -> None:
    spec = "backbones: [resnet18]\nlayers: [layer1]\nweights: [random]\ndetectors: [mahalanobis]\nseeds: [0, 1]\n"
    found = jobs(spec, tmp_path)
    assert found == jobs(spec.replace("[0, 1]", "[0, 1, 0]"), tmp_path)
    assert [(job.seed, job.weights, job.weights_sha256) for job in found] == [
        (0, "random", "random-0"),
        (1, "random", "random-1"),
    ]
    groups = make_plan(parse(spec), [INPUTS], tmp_path).groups
    assert [len(group.jobs) for group in groups] == [1, 1]
    first, again, second = (load("resnet18", resolve("resnet18", "random").drawn_by(seed)).conv1.weight for seed in (0, 0, 1))
    assert (first == again).all() and not (first == second).any()


def test_a_backbone_may_have_some_of_the_detectors(tmp_path: Path) -> None:
    text = "weights: [random]\nlayers: [layer1]\ndetectors: [mahalanobis, {name: patchcore, params: {coreset_max: 9}}]\n"
    found = jobs(f"backbones: [{{name: resnet18, detectors: patchcore}}, resnet34]\n{text}", tmp_path)
    assert [(job.backbone, job.detector) for job in found] == [
        ("resnet18", "patchcore"), ("resnet34", "mahalanobis"), ("resnet34", "patchcore"),
    ]  # fmt: skip
    with pytest.raises(UsageError, match="unknown detector 'padim' of resnet18 among the detectors"):
        jobs(f"backbones: [{{name: resnet18, detectors: padim}}]\n{text}", tmp_path)
