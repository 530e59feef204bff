"""Checkpoints in the layout of each publisher, in small files: each matrix repeats one value, statistics are complete."""

from collections.abc import Callable
from dataclasses import replace
from http.client import HTTPMessage
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
from conftest import Run
from torch import Tensor

from adbench.backbones.families import IMAGENET_MEAN, find
from adbench.backbones.pretraining import PRETRAININGS
from adbench.backbones.weights import load, resolve
from adbench.core.errors import UsageError, WeightsError

State = dict[str, Tensor]
Save = Callable[[str, State], Path]
HEAD = ("fc.weight", "fc.bias")


@pytest.fixture(scope="module")
def state() -> State:
    own = find("resnet50")[0].build("resnet50").state_dict()
    return {key: torch.rand(v.shape) if v.ndim < 2 else (torch.rand(()) / 1000).expand(v.shape) for key, v in own.items()}


def prefixed(prefix: str, state: State) -> State:
    return {prefix + key: value for key, value in state.items() if key not in HEAD}


def moco(state: State) -> Any:
    head = {f"module.encoder_{e}.fc.{i}.{kind}": torch.ones(4) for e in "qk" for i in (0, 2) for kind in ("weight", "bias")}
    queue = {"module.queue": torch.ones(4, 8), "module.queue_ptr": torch.zeros(1, dtype=torch.long)}
    both = prefixed("module.encoder_q.", state) | prefixed("module.encoder_k.", state)
    optimizer = {"state": {0: {"momentum_buffer": torch.ones(2)}}, "param_groups": [{"lr": 0.03, "params": [0]}]}
    return {"epoch": 800, "arch": "resnet50", "state_dict": both | head | queue, "optimizer": optimizer}


def swav(state: State, prototypes: tuple[str, ...] = ("",)) -> Any:
    head = {f"module.projection_head.{i}.weight": torch.ones(4) for i in (0, 1, 3)}
    return prefixed("module.", state) | head | {f"module.prototypes.{p}weight": torch.ones(4) for p in prototypes}


def backbone_only(state: State) -> Any:
    return prefixed("", state)


LAYOUTS: dict[str, Callable[[State], Any]] = {
    "barlowtwins": backbone_only,
    "dino": backbone_only,
    "moco": moco,
    "sela": lambda state: swav(state, ("prototypes0.", "prototypes1.")),
    "simclr": lambda state: {"state_dict": state},
    "supervised": lambda state: state,
    "swav": swav,
    "vicreg": backbone_only,
}


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of weights."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch" / "hub" / "checkpoints"


@pytest.fixture
def save(tmp_path: Path) -> Save:
    def write(name: str, state: State) -> Path:
        torch.save(LAYOUTS[name](state), tmp_path / f"{name}.got")
        return tmp_path / f"{name}.got"

    return write


@pytest.mark.parametrize("name", PRETRAININGS.names())
def test_an_imported_checkpoint_is_what_the_network_gets(run: Run, save: Save, state: State, name: str) -> None:
    assert run("weights", "import", name, save(name, state)).code == 0
    weights = resolve("resnet50", name.upper(), offline=True)
    assert f"{weights.path}\n" == run("weights", "path", name).out
    own = load("resnet50", weights).state_dict()
    for key in set(own) - set(HEAD):
        assert key.endswith("num_batches_tracked") or torch.equal(own[key], state[key]), key


@pytest.mark.parametrize(
    ("name", "mean", "std"),
    [
        ("moco", IMAGENET_MEAN, (0.229, 0.224, 0.225)),
        ("swav", IMAGENET_MEAN, (0.228, 0.224, 0.225)),
        ("sela", IMAGENET_MEAN, (0.228, 0.224, 0.225)),
        ("simclr", (0, 0, 0), (1, 1, 1)),
    ],
)
def test_the_preprocessing_comes_with_the_weights(hub: Path, name: str, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    hub.mkdir(parents=True)
    (hub / PRETRAININGS.get(name).file).touch()
    weights = resolve("resnet50", name)
    assert (weights.mean, weights.std) == (mean, std)


def damaged(kind: str, name: str, state: State) -> State:
    key = "layer3.5.bn2.running_var"
    rest = {k: v for k, v in state.items() if k != key}
    return {
        "renamed": rest | {"layer3.5.norm2.running_var": state[key]},
        "missing": rest,
        "extra": state | {"layer3.6.conv1.weight": state[key]},
        "shape": state | {key: torch.ones(3)},
    }[kind]


@pytest.mark.parametrize("name", ["moco", "simclr"])
@pytest.mark.parametrize(
    ("kind", "difference"),
    [
        ("renamed", "1 missing (layer3.5.bn2.running_var); 1 unexpected (layer3.5.norm2.running_var)"),
        ("missing", "1 missing (layer3.5.bn2.running_var)"),
        ("extra", "1 unexpected (layer3.6.conv1.weight)"),
        ("shape", "1 of another shape (layer3.5.bn2.running_var)"),
    ],
)
def test_other_keys_are_refused(run: Run, save: Save, state: State, hub: Path, name: str, kind: str, difference: str) -> None:
    path = save(name, damaged(kind, name, state))
    answer = run("weights", "import", name, path)
    assert (answer.code, answer.out, hub.exists()) == (3, "", False)
    assert answer.err == (
        f"adbench: error: weights {path} do not fit resnet50: keys {difference}; "
        f"this is not the published '{name}', see {PRETRAININGS.get(name).source}\n"
    )


def test_a_key_without_its_prefix_is_refused(run: Run, state: State, tmp_path: Path) -> None:
    wrong = swav(state) | {"conv1.weight": state["conv1.weight"]}
    torch.save(wrong, tmp_path / "wrong.pth")
    answer = run("weights", "import", "swav", tmp_path / "wrong.pth")
    assert "keys 1 unexpected (conv1.weight without module.);" in answer.err


class Evil:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("touched"),))


def test_damaged_and_malicious_files_are_refused(run: Run, save: Save, state: State, tmp_path: Path, hub: Path) -> None:
    cut, evil = save("swav", state), tmp_path / "evil.pth"
    cut.write_bytes(cut.read_bytes()[:-5000])
    torch.save(prefixed("module.", state) | {"epoch": Evil()}, evil)
    for path, problem in ((cut, "damaged or no checkpoint"), (evil, "refused, holds more than tensors"),
                          (tmp_path / "none.pth", "no such file"), (tmp_path, "no such file")):  # fmt: skip
        answer = run("weights", "import", "swav", path)
        assert (answer.code, answer.err.count("\n"), hub.exists()) == (3, 1, False)
        assert problem in answer.err
    assert not (tmp_path / "touched").exists()


def test_a_refused_import_keeps_the_file_in_place(run: Run, save: Save, state: State, hub: Path) -> None:
    run("weights", "import", "dino", save("dino", state))
    before = (hub / "dino_resnet50_pretrain.pth").read_bytes()
    assert run("weights", "import", "dino", save("swav", state)).code == 3
    assert (hub / "dino_resnet50_pretrain.pth").read_bytes() == before
    assert len(list(hub.iterdir())) == 1


def test_a_damaged_file_in_place_is_one_line_too(run: Run, hub: Path, parts: Path) -> None:
    hub.mkdir(parents=True)
    (hub / "swav_800ep_pretrain.pth.tar").write_bytes(b"not a checkpoint")
    answer = run("extract", "resnet50", "layer1.2.relu_2", "--data", parts, "--weights", "swav", "--image-size", "64")
    assert (answer.code, answer.err.count("\n")) == (3, 1)
    assert "swav_800ep_pretrain.pth.tar: " in answer.err


def test_list_and_path_show_present_files_and_the_remedy(run: Run, save: Save, state: State, hub: Path) -> None:
    run("weights", "import", "simclr", save("simclr", state))
    listed = {item["name"]: item for item in run("weights", "list", "--json").json["weights"]}
    assert [name for name, item in listed.items() if item["present"]] == ["simclr"]
    assert listed["moco"]["license"] == "CC-BY-NC-4.0"
    table = run("weights", "list").out.splitlines()
    assert next(line for line in table if line.startswith("moco")).split()[2:6] == [
        "moco_v2_800ep_pretrain.pth.tar", "missing", "CC-BY-NC-4.0", "370"]  # fmt: skip
    answer = run("weights", "path", "swav")
    assert (answer.code, answer.out) == (3, f"{hub}/swav_800ep_pretrain.pth.tar\n")
    assert answer.err.endswith(f"{PRETRAININGS.get('swav').url}, then run 'adbench weights import swav FILE'\n")


def test_unknown_names_and_other_backbones_are_usage_errors(run: Run) -> None:
    answer = run("weights", "path", "mocco")
    assert (answer.code, answer.err) == (2, "adbench: error: unknown pretraining 'mocco'; did you mean 'moco'?\n")
    with pytest.raises(UsageError, match="unknown weights 'simcrl' of resnet50; did you mean 'simclr'"):
        resolve("resnet50", "simcrl")
    with pytest.raises(UsageError) as error:
        resolve("resnet18", "moco")
    assert str(error.value) == (
        "weights 'moco' belong to resnet50, not to resnet18; 'adbench list weights resnet18' shows what fits"
    )


def test_a_file_that_is_not_the_publishers_is_noted(run: Run, save: Save, state: State) -> None:
    answer = run("weights", "import", "supervised", save("supervised", state))
    assert "is not the file that its publisher names (SHA-256 " in answer.err


def test_a_host_that_does_not_answer_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, asked = [0.0], []

    def silent(url: str, timeout: float) -> None:
        asked.append(url)
        clock[0] += timeout
        raise URLError(TimeoutError("timed out"))

    monkeypatch.setattr("urllib.request.urlopen", silent)
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    for name in ("first", "second", "third"):
        made = replace(PRETRAININGS.get("moco"), name=name, file=name, url=f"https://silent.example/{name}")
        monkeypatch.setitem(PRETRAININGS.items(), name, made)
        with pytest.raises(WeightsError, match=rf"cannot be downloaded \(timed out\); .* import {name} FILE"):
            resolve("resnet50", name)
    assert asked == ["https://silent.example/first"]


class Reply(BytesIO):
    """A server's answer without a length."""

    headers = HTTPMessage()


def test_a_download_is_loaded_before_it_is_put_into_place(
    save: Save, state: State, hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = {"swav": save("dino", state), "dino": save("dino", state)}
    for name, path in served.items():
        monkeypatch.setattr("urllib.request.urlopen", lambda *_, path=path, **__: Reply(path.read_bytes()))
        if name == "swav":
            with pytest.raises(WeightsError, match="is not there and its download is not it; get it from https"):
                resolve("resnet50", name)
        else:
            resolve("resnet50", name)
    assert [path.name for path in hub.iterdir()] == ["dino_resnet50_pretrain.pth"]


def test_a_sweep_skips_missing_weights_with_the_remedy(run: Run, parts: Path, save: Save, state: State) -> None:
    run("weights", "import", "swav", save("swav", state))
    Path("spec.yaml").write_text(
        "backbones: [resnet50]\nweights: [moco, swav, simclr, random]\nlayers: [layer1.2.relu_2]\n"
        "image_sizes: [64]\neval_size: 64\n"
    )
    answer = run("sweep", "--spec", "spec.yaml", "--data", parts, "--category", "alpha", "--offline", "--json")
    assert (answer.code, answer.json["done"], answer.json["skipped"]) == (1, 2, 2)
    reasons = {r["weights"]: r["reason"] for r in run("report", "results", "--json").json}
    assert "adbench weights import moco FILE" in reasons["moco"]
    assert reasons["simclr"].endswith("make it as https://github.com/tonylins/simclr-converter tells, "
                                      "then run 'adbench weights import simclr FILE'")  # fmt: skip
