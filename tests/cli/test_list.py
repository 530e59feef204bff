"""`adbench list`: names with a sentence, layers, parameters, and facts of backbones."""

from pathlib import Path

import pytest
from conftest import Run, one_line

from adbench.backbones import catalog
from adbench.cli.names import KINDS


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
    assert name in [line.split()[0] for line in run("list", kind).out.splitlines()]
    assert name in run("list", kind, "--json").json[kind]


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"backbones", "layers", "weights"}))
def test_each_name_has_a_sentence(kind: str, run: Run) -> None:
    found = run("list", kind, "--json").json
    assert list(found["about"]) == found[kind]
    assert [text for text in found["about"].values() if not 15 < len(text) < 175 or text[-1] not in ".?"] == []


def test_a_sentence_is_that_of_the_docstring_or_of_the_presets_head(run: Run) -> None:
    assert run("list", "detectors", "--json").json["about"]["padim"] == "One Gaussian per cell of the grid."
    (line,) = run("list", "presets", "quick").out.splitlines()
    assert line == "quickstart  Which layer of EfficientNet-Lite0 suits PatchCore?"


def test_backbones_that_match_a_pattern(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    (tmp_path / "hub" / "checkpoints" / "swav_800ep_pretrain.pth.tar").touch()
    found = run("list", "backbones", "resnet5[0]", "--json").json
    assert found["backbones"] == ["resnet50", "timm/resnet50"]
    assert found["facts"][0] == {"name": "resnet50", "parameters": 25_557_032, "license": None, "weights_at_hand": ["swav"]}
    assert found["facts"][1]["license"] == "apache-2.0"
    (lite,) = run("list", "backbones", "efficientnet_lite0", "--json").json["facts"][:1]
    assert (lite["weights_at_hand"], lite["license"]) == (["imagenet"], "apache-2.0")
    assert run("list", "backbones", "resnet5[0]").out.splitlines()[2].split() == ["resnet50", "25.6", "M", "-", "swav"]


def test_a_pattern_without_a_match(run: Run) -> None:
    assert one_line(run("list", "backbones", "nosuch*"), 2) == "unknown backbone 'nosuch*'; 'adbench list backbones' shows all"
    assert one_line(run("list", "metrics", "auprc"), 2) == "unknown metric 'auprc'; did you mean 'aupro'?"


def test_listing_all_backbones_builds_none(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "_count", lambda family, name: pytest.fail(f"built {name}"))
    answer = run("list", "backbones")
    assert len(answer.out.splitlines()) > 1000
    assert "parameters are counted where at most 60 backbones are listed" in answer.err


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
