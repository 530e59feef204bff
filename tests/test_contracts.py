"""What every registered item must keep, whoever wrote it: the checks of `adbench.testing`, and one file per plug-in."""

import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from adbench.core.errors import UsageError
from adbench.core.registry import TABLES, table
from adbench.detectors import DETECTORS, make_detector
from adbench.testing import CHECKS, Check

QUICK: dict[str, dict[str, object]] = {  # parameters that make a slow detector quick
    "asymst": {
        "epochs": 12, "batch_size": 4, "learning_rate": 0.005, "teacher_hidden": 8, "student_hidden": 16, "steps": 2,
        "min_steps": 0,
    },
    "fastflow": {"epochs": 6, "batch_size": 4, "steps": 2, "min_steps": 0},
    "rd": {"epochs": 20, "batch_size": 12, "learning_rate": 0.02, "min_steps": 0},
    "supersimplenet": {
        "epochs": 30, "batch_size": 6, "hidden": 16, "upscale": 1, "noise": 3.0, "learning_rate": 0.02, "min_steps": 0,
    },
}  # fmt: skip
CASES = [(check, name) for check in CHECKS for name in table(check.kind).names()]


@pytest.mark.parametrize(("check", "name"), CASES, ids=[f"{check.kind}-{name}-{check.rule}" for check, name in CASES])
def test_a_registered_item_keeps_its_contract(check: Check, name: str) -> None:
    check.run(name, QUICK.get(name, {}))


def test_every_kind_has_a_contract() -> None:
    assert {check.kind for check in CHECKS} == set(TABLES)


@pytest.mark.parametrize("name", DETECTORS.names())
def test_a_misspelt_parameter_and_a_wrong_kind_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match=f"unknown parameter 'no_such' of {name}"):
        make_detector(name, {"no_such": 1}, 0)
    first = next(f for f in fields(DETECTORS.get(name)) if f.init and f.name != "seed")
    with pytest.raises(UsageError, match=f"{name}: {first.name}="):
        make_detector(name, {first.name: [1]}, 0)


TOY = "from {package} import register\n\n\n@register('toy')\nclass Toy:\n    pass\n"


@pytest.fixture
def toy(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """A plug-in folder with ONE more file in it."""
    package = TABLES[request.param][0]
    registry, module = table(request.param), sys.modules[package]
    (tmp_path / "toy_item.py").write_text(TOY.format(package=package))
    monkeypatch.setattr(module, "__path__", [*module.__path__, str(tmp_path)])
    monkeypatch.setattr(registry, "_loaded", False)
    yield request.param
    registry.items().pop("toy", None)
    sys.modules.pop(f"{package}.toy_item", None)


@pytest.mark.parametrize("toy", TABLES, indirect=True)
def test_a_new_item_is_one_new_file(toy: str) -> None:
    assert "toy" in table(toy).names()
