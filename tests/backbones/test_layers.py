from pathlib import Path

import pytest
from torch import nn

from adbench.backbones.families import Size, find
from adbench.backbones.families.torchvision_models import TorchvisionModels
from adbench.backbones.layers import Layer, describe, parse_layers, stage_ends
from adbench.core.errors import UsageError

RESNET = [("layer1.2.relu_2", 256, 4), ("layer2.3.relu_2", 512, 8), ("layer3.5.relu_2", 1024, 16), ("layer4.2.relu_2", 2048, 32)]
FIELDS = {  # px, analytic
    "resnet50": (35, 91, 267, 427),
    "wide_resnet50_2": (35, 91, 267, 427),
    "densenet201": (59, 255, 1799, 3863),
    "efficientnet_b5": (51, 195, 851, 1939),
    "efficientnet_lite0": (19, 67, 339, 851),
}
TABLE_2 = {
    "resnet50": RESNET,
    "wide_resnet50_2": RESNET,
    "densenet201": [
        (f"features.denseblock{i}.cat", channels, stride)
        for i, channels, stride in ((1, 256, 4), (2, 512, 8), (3, 1792, 16), (4, 1920, 32))
    ],
    "efficientnet_b5": [
        ("features.2.4.add", 40, 4), ("features.3.4.add", 64, 8), ("features.5.6.add", 176, 16), ("features.6.8.add", 304, 32),
    ],
    "efficientnet_lite0": [
        ("blocks.1.1.add", 24, 4), ("blocks.2.1.add", 40, 8), ("blocks.4.2.add", 112, 16), ("blocks.6.0.bn3", 320, 32),
    ],
}  # fmt: skip


@pytest.mark.parametrize("backbone", TABLE_2)
def test_the_layers_of_the_paper(backbone: str, cache: Path) -> None:
    description = describe(backbone, cache / "backbones")
    layers = [description.layer(name) for name in description.stages]
    assert [(layer.name, layer.channels, layer.stride) for layer in layers] == TABLE_2[backbone]
    assert tuple(layer.field for layer in layers) == FIELDS[backbone]


@pytest.mark.parametrize(
    ("typed", "name"),
    [("wide_resnet50", "wide_resnet50_2"), ("ResNet-50", "resnet50"), ("EfficientNet-Lite0", "efficientnet_lite0"),
     ("timm/resnet50", "timm/resnet50"), ("tf_efficientnet_lite0", "tf_efficientnet_lite0")],
)  # fmt: skip
def test_names_as_a_user_types_them(typed: str, name: str) -> None:
    assert find(typed)[1] == name


def test_an_unknown_backbone_gets_the_nearest() -> None:
    with pytest.raises(UsageError) as error:
        find("wide_resnet50_3")
    assert str(error.value) == "unknown backbone 'wide_resnet50_3'; did you mean 'wide_resnet50_2'?"


def test_a_module_stands_for_its_last_layer() -> None:
    assert describe("resnet18").layer("layer2").name == "layer2.1.relu_1"


def test_an_unknown_layer_gets_the_nearest() -> None:
    with pytest.raises(UsageError) as error:
        describe("resnet18").layer("layer3.1.rellu_1")
    assert str(error.value) == "unknown layer 'layer3.1.rellu_1' of resnet18; did you mean 'layer3.1.relu_1'?"


def test_a_network_without_feature_maps_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    class Flat(TorchvisionModels):
        def build(self, name: str, size: Size | None = None) -> nn.Module:
            return nn.Sequential(nn.Flatten(), nn.ReLU())

    monkeypatch.setattr("adbench.backbones.layers.find", lambda name: (Flat(), name))
    with pytest.raises(
        UsageError, match=r"^backbone 'flat': no layers found \(.+\); choose another, see 'adbench list backbones'$"
    ):
        describe("flat")


@pytest.mark.parametrize("backbone", ["resnet18", "mobilenet_v3_small", "timm/resnet18", "convnext_tiny", "regnet_y_400mf"])
def test_stages_are_found_where_the_paper_names_none(backbone: str) -> None:
    description = describe(backbone)
    assert [description.layer(name).stride for name in description.stages] == [4, 8, 16, 32]


def test_stage_ends_are_the_last_layers_of_the_last_stage_at_each_stride() -> None:
    layers = (
        Layer("stem", 8, 2),
        Layer("layer1.a", 8, 4),
        Layer("layer1.b", 8, 4),
        Layer("layer2.a", 8, 4),
        Layer("layer3.a", 8, 8),
    )
    assert stage_ends(layers) == ["layer2.a", "layer3.a"]


def test_a_damaged_memo_is_made_again(tmp_path: Path) -> None:
    first = describe("resnet18", tmp_path)
    (tmp_path / "resnet18.json").write_text("{")
    describe.cache_clear()
    assert describe("resnet18", tmp_path) == first


@pytest.mark.parametrize(("name", "last"), [("blocks.-1", "blocks.6"), ("blocks.7", "blocks.6"), ("blocks.1.9", "blocks.1.1")])
def test_a_number_outside_the_range_is_answered_with_the_range(name: str, last: str) -> None:
    with pytest.raises(UsageError) as error:
        describe("efficientnet_lite0").layer(name)
    first = f"{last.rpartition('.')[0]}.0"
    assert str(error.value) == f"unknown layer '{name}' of efficientnet_lite0; the first is '{first}', the last '{last}'"


@pytest.mark.parametrize("text", ["blocks.1.1.add+blocks.1.1.add", "blocks.1+blocks.1.1.add"])
def test_a_layer_is_not_joined_with_itself(text: str) -> None:
    with pytest.raises(UsageError, match=r"'blocks\.1\.1\.add' is joined with itself; name each layer once"):
        parse_layers(text, describe("efficientnet_lite0"))
