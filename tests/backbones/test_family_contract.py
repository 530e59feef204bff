"""What every registered family of backbones must keep."""

from pathlib import Path

import pytest
import torch

from adbench.backbones.families import FAMILIES, Family, bare, find
from adbench.backbones.layers import describe
from adbench.backbones.pretraining import PRETRAININGS
from adbench.core.errors import UsageError


def example(family: Family) -> str:
    """Return a small network of the family, with its prefix."""
    names = family.names()
    name = "resnet18" if "resnet18" in names else [*family.stage_layers, *names][0]
    return f"{family.prefix}/{name}" if family.prefix else name


@pytest.fixture(params=FAMILIES.names())
def family(request: pytest.FixtureRequest) -> Family:
    return FAMILIES.get(request.param)


def test_names_are_unique_and_in_a_stable_order(family: Family) -> None:
    names = family.names()
    assert names == family.names() and len(names) == len(set(names))
    assert set(family.stage_layers) <= set(names)


def test_a_network_is_found_by_its_name(family: Family) -> None:
    found, name = find(example(family))
    assert (found, name) == (family, example(family))


def test_node_names_are_stable_and_the_cut_returns_them(family: Family) -> None:
    name = bare(example(family))
    first, second = (family.build(name).eval() for _ in range(2))
    nodes = family.node_names(first)
    assert nodes == family.node_names(second) and len(nodes) == len(set(nodes))
    outputs = family.cut(first, {nodes[3]: "shallow", nodes[9]: "deep"})(torch.zeros(1, 3, 64, 64))
    assert set(outputs) == {"shallow", "deep"}


def test_a_network_has_layers_with_channels_and_strides(family: Family, cache: Path) -> None:
    description = describe(example(family), cache / "backbones")
    assert all(layer.channels > 0 and layer.stride > 0 for layer in description.layers)
    strides = [description.layer(stage).stride for stage in description.stages]
    assert strides and strides == sorted(set(strides))


def test_weights_come_with_their_preprocessing(family: Family) -> None:
    name = bare(example(family))
    for label in ("imagenet", *family.labels(name)):
        file = family.weights_file(name, label)
        assert len(file.mean) == len(file.std) == 3 and min(file.std) > 0
        assert file.path.is_file() or file.url or file.remedy
    with pytest.raises(UsageError, match="no such weights"):
        family.weights_file(name, "no such weights")


@pytest.mark.parametrize("name", PRETRAININGS.names())
def test_a_pretraining_fits_a_known_network_and_has_a_file_of_its_own(name: str) -> None:
    made = PRETRAININGS.get(name)
    family, backbone = find(made.backbone)
    assert (made.name, backbone) == (name, made.backbone)
    assert len(made.mean) == len(made.std) == 3 and min(made.std) > 0
    assert [other.file for other in PRETRAININGS.items().values()].count(made.file) == 1
    assert any(key.startswith(made.head) for key in family.build(bare(backbone)).state_dict())
