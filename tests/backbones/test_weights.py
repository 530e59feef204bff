import json
import pickle
from dataclasses import replace
from http.client import HTTPMessage
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch

from adbench.backbones.families import find
from adbench.backbones.weights import Weights, load, read_checkpoint, resolve
from adbench.core.errors import UsageError, WeightsError


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    return find("resnet18")[0].build("resnet18").state_dict()


def refusal(path: Path) -> str:
    with pytest.raises(WeightsError) as error:
        load("resnet18", resolve("resnet18", str(path)))
    return str(error.value)


def test_lite0_needs_no_download_and_has_its_own_preprocessing() -> None:
    weights = resolve("efficientnet_lite0", "imagenet", offline=True)
    assert weights.sha256.startswith("579344248a93e230")
    assert (weights.mean, weights.std) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    network = load("efficientnet_lite0", weights)
    source = read_checkpoint(weights.path)  # type: ignore[arg-type]
    own = network.state_dict()
    torch.testing.assert_close(own["blocks.6.0.bn3.running_var"], source["_blocks.15._bn2.running_var"])
    torch.testing.assert_close(own["blocks.0.0.conv_pw.weight"], source["_blocks.0._project_conv.weight"])
    assert not any(p.requires_grad for p in network.parameters())


def test_random_weights_are_the_same_every_time() -> None:
    weights = resolve("resnet18", "random")
    first, second = load("resnet18", weights), load("resnet18", weights)
    torch.testing.assert_close(first.state_dict(), second.state_dict(), rtol=0, atol=0)
    assert weights.sha256 == "random-0"


def test_a_checkpoint_that_fits_is_loaded(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    state = {k: torch.full_like(v, 0.25) if v.is_floating_point() else v for k, v in state.items()}
    torch.save({"state_dict": state}, tmp_path / "own.pth")
    network = load("resnet18", resolve("resnet18", str(tmp_path / "own.pth")))
    assert float(network.state_dict()["layer4.1.conv2.weight"].mean()) == 0.25


def test_a_checkpoint_that_does_not_fit_is_refused_with_the_difference(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    path = tmp_path / "own.pth"
    changed = {k: v for k, v in state.items() if k != "conv1.weight"} | {
        "conv9.weight": torch.zeros(1),
        "bn1.bias": torch.zeros(3),
    }
    torch.save(changed, path)
    assert refusal(path) == (
        f"weights {path} do not fit resnet18: keys 1 missing (conv1.weight); 1 unexpected (conv9.weight); "
        "1 of another shape (bn1.bias); choose the checkpoint of resnet18"
    )


def test_the_classifier_may_have_other_classes_unless_it_is_a_layer(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    path = tmp_path / "own.pth"
    torch.save({f"module.{k}": v for k, v in (state | {"fc.weight": torch.ones(3, 512), "fc.bias": torch.ones(3)}).items()}, path)
    network = load("resnet18", resolve("resnet18", str(path)))
    torch.testing.assert_close(network.state_dict()["conv1.weight"], state["conv1.weight"], rtol=0, atol=0)
    squeezenet = find("squeezenet1_1")[0].build("squeezenet1_1").state_dict()
    torch.save(squeezenet | {"classifier.1.bias": torch.ones(3)}, path)  # its classifier is a convolution
    with pytest.raises(WeightsError, match=r"keys 1 of another shape \(classifier.1.bias\)"):
        load("squeezenet1_1", resolve("squeezenet1_1", str(path)))


class Evil:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("touched"),))


def test_a_checkpoint_with_code_is_refused_and_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "evil.pth"
    torch.save({"state_dict": Evil()}, path)
    assert refusal(path) == (f"weights {path}: refused, holds more than tensors or is no checkpoint; save its state dict alone")
    assert not (tmp_path / "touched").exists()


@pytest.mark.filterwarnings("error")
def test_a_plain_pickle_is_refused_without_a_remark_of_torch(tmp_path: Path) -> None:
    path = tmp_path / "own.pth"
    path.write_bytes(pickle.dumps({"a": Evil()}, protocol=4))
    assert refusal(path) == f"weights {path}: refused, holds more than tensors or is no checkpoint; save its state dict alone"


def test_a_truncated_checkpoint_is_refused(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    path = tmp_path / "own.pth"
    torch.save(state, path)
    path.write_bytes(path.read_bytes()[:-5000])
    assert refusal(path).startswith(f"weights {path}: damaged or no checkpoint (")


def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "own.pth"
    torch.save({"epoch": 3}, path)
    assert refusal(path) == f"weights {path}: holds no state dict of tensors; save 'model.state_dict()'"
    path.write_bytes(pickle.dumps([1, 2], protocol=2))
    assert refusal(path).startswith(f"weights {path}:")


def test_a_missing_checkpoint_is_named() -> None:
    with pytest.raises(WeightsError) as error:
        resolve("resnet18", "none.pth")
    assert str(error.value) == "weights 'none.pth': no such file; give a checkpoint's path or a name from 'adbench list weights'"


def test_a_folder_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(WeightsError) as error:
        resolve("resnet18", str(tmp_path))
    assert str(error.value) == f"weights '{tmp_path}': is a folder; give the path of a checkpoint in it"


@pytest.mark.parametrize(
    ("keys", "named"), [(["bn1.bias"], "bn1.bias"), (["conv1.weight", "bn1.bias"], "2 tensors, e.g. conv1.weight")]
)
def test_values_that_are_not_finite_are_refused(
    state: dict[str, torch.Tensor], tmp_path: Path, keys: list[str], named: str
) -> None:
    path = tmp_path / "own.pth"
    torch.save(state | {key: torch.full_like(state[key], torch.nan) for key in keys}, path)
    assert refusal(path) == f"weights {path}: {named}: values that are not finite; get the file again or choose another"


def test_an_unknown_label_gets_the_nearest() -> None:
    with pytest.raises(UsageError) as error:
        resolve("resnet50", "IMAGENET1K_V3")
    assert str(error.value) == "unknown weights 'IMAGENET1K_V3' of resnet50; did you mean 'IMAGENET1K_V2'?"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of weights."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    return tmp_path / "hub" / "checkpoints"


def test_offline_says_what_is_missing_and_where_it_belongs(hub: Path) -> None:
    with pytest.raises(WeightsError) as error:
        resolve("resnet18", "imagenet", offline=True)
    url = "https://download.pytorch.org/models/resnet18-f37072fd.pth"
    assert str(error.value) == (
        f"weights 'imagenet' of resnet18: {hub}/resnet18-f37072fd.pth is not there; get it from {url} and put it there"
    )


def test_a_server_out_of_reach_is_one_line(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    with pytest.raises(WeightsError, match=r"is not there and cannot be downloaded \(no route to host\); get it from https"):
        resolve("resnet18", "imagenet")
    assert not list(hub.iterdir())


class Reply(BytesIO):
    """A server's answer."""

    def __init__(self, content: bytes, length: int) -> None:
        super().__init__(content)
        self.headers = HTTPMessage()
        self.headers["Content-Length"] = str(length)


def test_a_download_is_verified_before_it_is_put_into_place(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: Reply(b"not weights", 11))
    with pytest.raises(WeightsError, match="its download is damaged"):
        resolve("resnet18", "imagenet")
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: Reply(b"cut", 11))
    with pytest.raises(WeightsError, match="ended after 3 of 11 bytes"):
        resolve("resnet18", "imagenet")
    assert not list(hub.iterdir())


def test_a_download_arrives_and_reports_its_progress(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    family = find("resnet18")[0]
    published = replace(family.weights_file("resnet18", "imagenet"), sha256_prefix="ed7002b439e9ac84")
    monkeypatch.setattr(family, "weights_file", lambda *_: published)
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: Reply(b"content", 7))
    steps: list[tuple[int, int, str]] = []
    weights = resolve("resnet18", "imagenet", on_step=lambda *step: steps.append(step))
    assert weights.path == hub / "resnet18-f37072fd.pth"
    assert weights.path.read_bytes() == b"content"
    assert steps == [(7, 7, "downloading resnet18-f37072fd.pth")]


@pytest.mark.parametrize("label", ["random", "imagenet"])
def test_weights_survive_json(label: str) -> None:
    weights = resolve("efficientnet_lite0", label, offline=True)
    assert Weights.from_record(json.loads(json.dumps(weights.record()))) == weights


def test_a_damaged_file_in_place_is_named(hub: Path) -> None:
    hub.mkdir(parents=True)
    (hub / "resnet18-f37072fd.pth").write_bytes(b"x")
    with pytest.raises(WeightsError, match=r"is damaged \(SHA-256 2d711642, not f37072fd\); delete it and run again"):
        resolve("resnet18", "imagenet")
