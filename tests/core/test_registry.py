import pytest

from adbench.core.errors import UsageError
from adbench.core.registry import Registry, match, unknown
from adbench.detectors import DETECTORS


def test_names_match_without_regard_to_case_and_punctuation() -> None:
    assert match("backbone", "ResNet-50", ["resnet50", "resnet18"]) == "resnet50"


@pytest.mark.parametrize("name", ["blocks.-1", "blocks.1.1", "blocks.01.1"])
def test_other_numbers_are_another_name(name: str) -> None:
    with pytest.raises(UsageError, match="unknown layer"):
        match("layer", name, ["blocks.1", "blocks.11"])


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(UsageError) as error:
        match("detector", "pachcore", ["patchcore", "padim"])
    assert str(error.value) == "unknown detector 'pachcore'; did you mean 'patchcore'?"


def test_a_name_like_no_other_gets_the_short_list() -> None:
    assert str(unknown("metric", "zzz", ["b", "a"])) == "unknown metric 'zzz'; choose from: a, b"


def test_a_name_like_no_other_of_many_gets_the_command_that_lists_them() -> None:
    names = [f"name{i}" for i in range(20)]
    assert str(unknown("backbone", "???", names)) == "unknown backbone '???'; 'adbench list backbones' shows all"


def test_a_name_is_taken_once() -> None:
    registry: Registry[int] = Registry("thing", "adbench.detectors")
    registry.register("one")(1)
    with pytest.raises(ValueError, match="registered twice"):
        registry.register("one")(2)


def test_a_package_is_searched_at_the_first_lookup() -> None:
    assert "patchcore" in DETECTORS.names()
