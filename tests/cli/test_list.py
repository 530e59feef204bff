"""`adbench list`: names, layers and parameters."""

import pytest
from conftest import Run


def test_list_layers(run: Run) -> None:
    found = run("list", "layers", "wide_resnet50", "--json").json
    assert found["backbone"] == "wide_resnet50_2"
    assert found["layers"][2] == {"layer": "layer3.5.relu_2", "channels": 1024, "stride": 16}
    assert len(run("list", "layers", "wide_resnet50", "--all", "--json").json["layers"]) == 172


@pytest.mark.parametrize(
    ("kind", "name"),
    [("backbones", "timm/resnet50"), ("detectors", "patchcore"), ("datasets", "visa"), ("presets", "quickstart"),
     ("metrics", "aupro"), ("formats", "latex"), ("executors", "local"), ("weights", "random")],
)  # fmt: skip
def test_list_names(kind: str, name: str, run: Run) -> None:
    assert name in run("list", kind).out.split("\n")
    assert name in run("list", kind, "--json").json[kind]


def test_list_tells_a_detectors_parameters(run: Run) -> None:
    found = run("list", "detectors", "FastFlow", "--json").json
    assert found["detector"] == "fastflow"
    assert found["parameters"]["epochs"] == 500
    assert all(name in found["about"] for name in ("hidden_ratio", "min_steps"))  # its own and inherited ones
    assert run("list", "detectors", "fastflow").out.split("\n")[2].split() == ["epochs", "500"]
    unknown = run("list", "detectors", "fastflo")
    assert (unknown.code, unknown.err) == (2, "adbench: error: unknown detector 'fastflo'; did you mean 'fastflow'?\n")


def test_weights_of_a_backbone(run: Run) -> None:
    found = run("list", "weights", "resnet50").out.split()
    assert {"imagenet", "random", "IMAGENET1K_V1", "IMAGENET1K_V2", "moco", "supervised"} <= set(found)
