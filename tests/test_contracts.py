"""What every registered item must keep, whoever wrote it."""

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, is_dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from adbench.backbones.families import FAMILIES
from adbench.backbones.pretraining import PRETRAININGS
from adbench.core.errors import UsageError
from adbench.data.layouts import DATASETS
from adbench.data.synthetic.kinds import KINDS
from adbench.detectors import DETECTORS, Detector, make_detector
from adbench.features.feature_maps import FeatureMaps
from adbench.metrics import METRICS, evaluate
from adbench.reports.analyses import ANALYSES
from adbench.reports.formats import FORMATS
from adbench.reports.studies import STUDIES
from adbench.sweep.executors import EXECUTORS
from adbench.types import Scores, Truth

CPU = torch.device("cpu")
QUICK: dict[str, dict[str, object]] = {  # parameters that make a slow detector quick
    "asymst": {
        "epochs": 12, "batch_size": 4, "learning_rate": 0.005, "teacher_hidden": 8, "student_hidden": 16, "steps": 2,
        "min_steps": 0,
    },
    "fastflow": {"epochs": 6, "batch_size": 4, "steps": 2, "min_steps": 0},
}  # fmt: skip
REGISTRIES = {
    "backbones.families": FAMILIES, "data.layouts": DATASETS, "detectors": DETECTORS, "sweep.executors": EXECUTORS,
    "metrics": METRICS, "backbones.pretraining": PRETRAININGS, "reports.formats": FORMATS,
    "reports.studies": STUDIES, "reports.analyses": ANALYSES, "data.synthetic.kinds": KINDS,
}  # fmt: skip


def maps(count: int, seed: int, defects: bool = False) -> FeatureMaps:
    """Features of two layers, (N, 6, 8, 8) and (N, 4, 4, 4); every second image has a planted defect."""
    rng = np.random.default_rng(seed)
    fine = rng.normal(size=(count, 6, 8, 8)).astype(np.float16)
    coarse = rng.normal(size=(count, 4, 4, 4)).astype(np.float16)
    if defects:
        fine[1::2, :, 2:4, 2:4] += 12
        coarse[1::2, :, 1:2, 1:2] += 12
    return FeatureMaps((fine, coarse))


def fitted(name: str, seed: int = 0) -> Detector:
    return make_detector(name, QUICK.get(name, {}), seed).fit(maps(12, 1), device=CPU)


@pytest.mark.parametrize("name", DETECTORS.names())
class TestDetectors:
    def test_parameters_are_dataclass_fields_with_defaults(self, name: str) -> None:
        kind = DETECTORS.get(name)
        assert is_dataclass(kind)
        assert kind().seed == 0
        assert {type(getattr(kind(), f.name)) for f in fields(kind) if f.init} <= {int, float, bool, str}

    def test_planted_defects_score_higher_than_good_images(self, name: str) -> None:
        test = maps(8, 2, defects=True)
        scores = fitted(name).score(test, device=CPU)
        assert scores.image.dtype == scores.maps.dtype == np.float32  # type: ignore[union-attr]
        assert np.shape(scores.maps) == (8, 8, 8)
        assert scores.image[1::2].min() > scores.image[::2].max()
        hot = np.asarray(scores.maps)[1::2, 2:4, 2:4]
        assert hot.mean() > np.asarray(scores.maps)[::2].mean()

    def test_the_same_seed_gives_the_same_bits(self, name: str) -> None:
        first, second = (fitted(name, 3).score(maps(4, 2), device=CPU) for _ in range(2))
        np.testing.assert_array_equal(first.image, second.image)
        np.testing.assert_array_equal(first.maps, second.maps)

    def test_a_reloaded_detector_scores_the_same_bits(self, name: str) -> None:
        detector = fitted(name)
        state = {key: value.clone() for key, value in detector.state_dict().items()}
        again = make_detector(name, QUICK.get(name, {}), 0).load_state_dict(state)
        first, second = (d.score(maps(4, 2), device=CPU) for d in (detector, again))
        np.testing.assert_array_equal(first.image, second.image)
        np.testing.assert_array_equal(first.maps, second.maps)

    def test_an_image_scores_the_same_alone(self, name: str) -> None:
        detector, test = fitted(name), maps(5, 2)
        whole = detector.score(test, device=CPU)
        alone = detector.score(FeatureMaps(tuple(layer[3:4] for layer in test.layers)), device=CPU)
        np.testing.assert_allclose(alone.image[0], whole.image[3], rtol=1e-5)

    def test_threads_may_score_at_once(self, name: str) -> None:
        detector, parts = fitted(name), [maps(3, seed, defects=True) for seed in range(24)]
        expected = [detector.score(part, device=CPU) for part in parts]
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda part: detector.score(part, device=CPU), parts))
        for own, alone in zip(found, expected, strict=True):
            np.testing.assert_array_equal(own.image, alone.image)
            np.testing.assert_array_equal(own.maps, alone.maps)

    def test_a_misspelt_parameter_and_a_wrong_kind_are_refused(self, name: str) -> None:
        with pytest.raises(UsageError, match=f"unknown parameter 'no_such' of {name}"):
            make_detector(name, {"no_such": 1}, 0)
        first = next(f for f in fields(DETECTORS.get(name)) if f.init and f.name != "seed")
        with pytest.raises(UsageError, match=f"{name}: {first.name}="):
            make_detector(name, {first.name: [1]}, 0)

    def test_the_method_names_its_paper(self, name: str) -> None:
        documentation = sys.modules[DETECTORS.get(name).__module__].__doc__ or ""
        assert "et al." in documentation


@pytest.mark.parametrize("name", METRICS.names())
def test_a_metric_is_a_fraction_or_none(name: str) -> None:
    rng = np.random.default_rng(0)
    masks = np.zeros((4, 8, 8), bool)
    masks[2:, 2:4, 2:5] = True
    scores = Scores(rng.normal(size=4).astype(np.float32), rng.normal(size=(4, 8, 8)).astype(np.float32))
    value = evaluate(scores, Truth(masks.any((1, 2)), masks))[name]
    assert value is not None
    assert 0 <= value <= 1
    assert evaluate(scores, Truth(np.zeros(4, bool), None))[name] is None


@pytest.mark.parametrize("name", [n for f in FAMILIES.items().values() for n in f.stage_layers])
def test_stage_layers_belong_to_a_network_of_the_family(name: str) -> None:
    assert any(name in family.names() for family in FAMILIES.items().values())


@pytest.mark.parametrize("name", PRETRAININGS.names())
def test_a_pretraining_says_where_it_comes_from(name: str) -> None:
    made = PRETRAININGS.get(name)
    assert made.name == name
    assert any(made.backbone in family.names() for family in FAMILIES.items().values())
    assert made.source.startswith("https://")
    assert made.url is None or made.url.startswith("https://")
    assert "et al." in (sys.modules[f"adbench.backbones.pretraining.{name}"].__doc__ or "") or name == "supervised"
    assert [item.file for item in PRETRAININGS.items().values()].count(made.file) == 1


TOY = "from adbench.{package} import register\n\n\n@register('toy')\nclass Toy:\n    pass\n"


@pytest.fixture
def toy(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """A registry's package with ONE more file in it."""
    package = request.param
    registry, module = REGISTRIES[package], sys.modules[f"adbench.{package}"]
    (tmp_path / "toy_item.py").write_text(TOY.format(package=package))
    monkeypatch.setattr(module, "__path__", [*module.__path__, str(tmp_path)])
    monkeypatch.setattr(registry, "_loaded", False)
    yield package
    registry.items().pop("toy", None)
    sys.modules.pop(f"adbench.{package}.toy_item", None)


@pytest.mark.parametrize("toy", REGISTRIES, indirect=True)
def test_a_new_item_is_one_new_file(toy: str) -> None:
    assert "toy" in REGISTRIES[toy].names()
