"""Checkpoints in the publishers' layouts of vision transformers, written from small random networks, and own checkpoints."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from conftest import Run
from safetensors.torch import save_file
from torch import Tensor, nn

from adbench.backbones.families import IMAGENET_MEAN, find
from adbench.backbones.weights import Weights, check, load, resolve
from adbench.core.errors import WeightsError

State = dict[str, Tensor]
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
DINOV2, REGISTERS, DINOV3 = "vit_small_patch14_dinov2", "vit_small_patch14_reg4_dinov2", "vit_small_patch16_dinov3"
VIT, CLIP = "vit_base_patch16_224", "vit_base_patch16_clip_quickgelu_224"


pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit")


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two blocks of 32 channels in place of the published sizes."""
    monkeypatch.setattr("timm.create_model", partial(timm.create_model, depth=2, embed_dim=32, num_heads=2))


def network(name: str) -> nn.Module:
    """Return a network whose tensors are all random."""
    torch.manual_seed(1)
    module = find(name)[0].build(name).eval().requires_grad_(False)
    module.load_state_dict({key: torch.randn(value.shape) / 4 for key, value in module.state_dict().items()})
    return module


def features(module: nn.Module) -> Tensor:
    images = torch.randn(1, 3, *module.patch_embed.img_size, generator=torch.Generator().manual_seed(2))  # type: ignore[union-attr]
    return module.forward_intermediates(images, indices=[1], norm=True, intermediates_only=True)[0]  # type: ignore[operator]


def renamed(state: State, *pairs: tuple[str, str]) -> State:
    for old, new in pairs:
        state = {key.replace(old, new): value for key, value in state.items()}
    return state


def dinov2(state: State) -> Any:
    return state | {"mask_token": torch.ones(1, 32)}


def registers(state: State) -> Any:
    first = torch.full((1, 1, 32), 0.5)  # the position of the class token, which timm adds to it
    whole = {"cls_token": state["cls_token"] - first, "pos_embed": torch.cat([first, state["pos_embed"]], dim=1)}
    return renamed(state | whole, ("reg_token", "register_tokens")) | {"mask_token": torch.ones(1, 32)}


def dinov3(state: State) -> Any:
    extra = {"mask_token": torch.ones(1, 1, 32), "rope_embed.periods": torch.ones(4)}
    for block in ("blocks.0.attn.qkv.", "blocks.1.attn.qkv."):
        extra |= {f"{block}bias": torch.zeros(96), f"{block}bias_mask": torch.ones(96)}
    pairs = (("reg_token", "storage_tokens"), ("gamma_1", "ls1.gamma"), ("gamma_2", "ls2.gamma"))
    return renamed(state, *pairs) | extra


def dinov3_biased(state: State) -> Any:
    """The layout of a network whose biases are not zero; those of the keys are masked."""
    parts = [[state[f"blocks.{block}.attn.{part}_bias"] for part in "qv"] for block in (0, 1)]
    biases = {f"blocks.{i}.attn.qkv.bias": torch.cat([q, torch.ones(32), v]) for i, (q, v) in enumerate(parts)}
    return dinov3({key: value for key, value in state.items() if not key.endswith(("q_bias", "v_bias"))}) | biases


def open_clip(state: State) -> State:
    own = {k: v for k, v in state.items() if k not in ("head.weight", "head.bias", "cls_token", "pos_embed")}
    own = renamed(
        own, ("patch_embed.proj", "conv1"), ("blocks.", "transformer.resblocks."), ("norm_pre", "ln_pre"), ("norm.", "ln_post."),
        ("norm", "ln_"), ("qkv.", "in_proj_"), ("attn.proj", "attn.out_proj"), ("mlp.fc1", "mlp.c_fc"), ("mlp.fc2", "mlp.c_proj"),
    )  # fmt: skip
    own |= {
        "class_embedding": state["cls_token"][0, 0],
        "positional_embedding": state["pos_embed"][0],
        "proj": state["head.weight"].T,
    }
    text = {"token_embedding.weight": torch.ones(4, 8), "transformer.resblocks.0.ln_1.weight": torch.ones(8)}
    return {f"visual.{key}": value for key, value in own.items()} | text | {"logit_scale": torch.tensor(4.6)}


class Node(nn.Module):
    """A tree of tensors."""

    def __init__(self, state: State) -> None:
        super().__init__()
        for name in dict.fromkeys(key.partition(".")[0] for key in state):
            if name in state:
                self.register_buffer(name, state[name])
            else:
                self.add_module(name, Node({k.removeprefix(f"{name}."): v for k, v in state.items() if k.startswith(f"{name}.")}))


def openai_clip(state: State) -> Any:
    marks = {name: torch.tensor(224) for name in ("input_resolution", "context_length", "vocab_size")}
    return torch.jit.script(Node({k: v.half() for k, v in open_clip(state).items()} | marks))


def mae(state: State) -> Any:
    headless = {key: value for key, value in state.items() if not key.startswith("head.")}
    decoder = {
        "mask_token": torch.ones(1, 1, 16),
        "decoder_pos_embed": torch.ones(1, 5, 16),
        "decoder_pred.weight": torch.ones(8, 16),
    }
    return {"model": headless | decoder, "epoch": 799, "args": argparse.Namespace(lr=0.1)}


def dino(state: State) -> Any:
    own = {f"backbone.{key}": value for key, value in state.items() if not key.startswith("head.")}
    teacher = own | {"head.mlp.0.weight": torch.ones(8, 32), "head.last_layer.weight_g": torch.ones(8, 1)}
    student = {f"module.{key}": torch.zeros_like(value) for key, value in teacher.items()}
    return {"student": student, "teacher": teacher, "epoch": 100, "args": argparse.Namespace(arch="vit_small")}


def timm_tower(state: State) -> Any:
    own = {f"visual.trunk.{key}": value for key, value in state.items() if not key.startswith("head.")}
    return own | {"visual.head.proj.weight": torch.ones(5, 32), "text.token_embedding.weight": torch.ones(4, 8)}


Layout = Callable[[State], Any]
BIASES = {f"blocks.{block}.attn.qkv.bias" for block in (0, 1)}
MASKS = {"mask_token", "rope_embed.periods"} | {f"{bias}_mask" for bias in BIASES}
DROPPED_OF_CLIP = {"token_embedding.weight", "transformer.resblocks.0.ln_1.weight", "logit_scale"}
LAYOUTS: list[tuple[Layout, str, set[str], tuple[float, ...]]] = [
    (dinov2, DINOV2, {"mask_token"}, IMAGENET_MEAN),
    (registers, REGISTERS, {"mask_token"}, IMAGENET_MEAN),
    (dinov3, DINOV3, MASKS | BIASES, IMAGENET_MEAN),
    (dinov3_biased, f"{DINOV3}_qkvb", MASKS, IMAGENET_MEAN),
    (open_clip, CLIP, DROPPED_OF_CLIP, CLIP_MEAN),
    (openai_clip, CLIP, DROPPED_OF_CLIP | {"input_resolution", "context_length", "vocab_size"}, CLIP_MEAN),
    (mae, VIT, {"mask_token", "decoder_pos_embed", "decoder_pred.weight"}, IMAGENET_MEAN),
    (dino, VIT, {"head.mlp.0.weight", "head.last_layer.weight_g"}, IMAGENET_MEAN),
    (timm_tower, "vit_base_patch16_siglip_224", {"visual.head.proj.weight", "text.token_embedding.weight"}, (0.5, 0.5, 0.5)),
]  # fmt: skip


def write(layout: Layout, name: str, path: Path, change: Callable[[State], State] = dict) -> nn.Module:
    """Write a network's tensors in a publisher's layout; return the network."""
    module = network(name)
    content = layout(change(module.state_dict()))
    torch.jit.save(content, path) if layout is openai_clip else torch.save(content, path)
    return module


@pytest.mark.parametrize(("layout", "name", "dropped", "mean"), LAYOUTS)
def test_a_published_layout_gives_the_features_of_its_network(
    layout: Layout, name: str, dropped: set[str], mean: tuple[float, ...], tmp_path: Path
) -> None:
    module = write(layout, name, tmp_path / "published.pth")
    if layout is openai_clip:
        module.load_state_dict({key: value.half().float() for key, value in module.state_dict().items()})
    weights = resolve(name, str(tmp_path / "published.pth"))
    torch.testing.assert_close(features(load(name, weights)), features(module), rtol=1e-5, atol=1e-5)
    assert weights.mean == mean
    assert set(check(name, str(tmp_path / "published.pth"))["unused"]) == dropped


def refusal(name: str, path: Path) -> str:
    with pytest.raises(WeightsError) as error:
        load(name, resolve(name, str(path)))
    return str(error.value).removeprefix(f"weights {path}").removeprefix(f" do not fit {name}: ")


@pytest.mark.parametrize(("layout", "name"), [row[:2] for row in LAYOUTS])
def test_a_renamed_key_is_named(layout: Layout, name: str, tmp_path: Path) -> None:
    write(layout, name, tmp_path / "w.pth", lambda state: renamed(state, ("blocks.1.mlp.fc1.bias", "blocks.1.mlp.fc9.bias")))
    message = refusal(name, tmp_path / "w.pth")
    assert message.startswith("keys 1 missing (blocks.1.mlp.fc1.bias); 1 unexpected (blocks.1.mlp.")
    assert message.endswith(f"; choose the checkpoint of {name}")


@pytest.mark.parametrize("layout", [dinov2, openai_clip])
def test_a_cut_file_is_refused(layout: Layout, tmp_path: Path) -> None:
    name = DINOV2 if layout is dinov2 else CLIP
    write(layout, name, path := tmp_path / "w.pth")
    path.write_bytes(path.read_bytes()[:-5000])
    assert refusal(name, path).startswith(": damaged or no checkpoint (")


class Evil:
    def __reduce__(self) -> Any:
        return Path.touch, (Path("touched"),)


def test_a_pickle_with_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(dinov2(network(DINOV2).state_dict()) | {"args": Evil()}, "w.pth")
    assert refusal(DINOV2, Path("w.pth")) == ": refused, holds more than tensors or is no checkpoint; save its state dict alone"
    assert not Path("touched").exists()


def test_an_archive_with_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A TorchScript archive whose pickle names something else than tensors."""
    import pickle
    from zipfile import ZipFile

    monkeypatch.chdir(tmp_path)
    with ZipFile("w.pt", "w") as archive:
        archive.writestr("w/constants.pkl", pickle.dumps((), protocol=2))
        archive.writestr("w/data.pkl", pickle.dumps(Evil(), protocol=2))
    assert refusal(CLIP, Path("w.pt")).startswith(": refused, holds more than tensors")
    assert not Path("touched").exists()


def test_another_patch_size_is_refused_before_timm_resamples_it(tmp_path: Path) -> None:
    write(dinov2, DINOV2, tmp_path / "w.pth")
    assert refusal("vit_small_patch16_224", tmp_path / "w.pth") == (
        "its patches have 14 px, those of the network 16 px; choose the network with that patch size"
    )


def test_openais_clip_is_refused_without_quickgelu(tmp_path: Path, run: Run) -> None:
    write(openai_clip, CLIP, tmp_path / "w.pt")
    assert refusal("vit_base_patch16_clip_224", tmp_path / "w.pt") == (
        "OpenAI's CLIP was trained with QuickGELU; choose vit_base_patch16_clip_quickgelu_224"
    )
    answer = run("weights", "check", "vit_base_patch16_clip_224", "openai")
    assert (answer.code, answer.err) == (
        2,
        "adbench: error: weights 'openai' do not belong to vit_base_patch16_clip_224: they were trained with QuickGELU, and "
        "this network has GELU; use vit_base_patch16_clip_quickgelu_224 with the weights 'openai'\n",
    )


def test_biases_that_timm_would_drop_are_refused_unless_zero(tmp_path: Path) -> None:
    state = dinov3(network(DINOV3).state_dict())
    torch.save(state | {"blocks.1.attn.qkv.bias": torch.ones(96)}, tmp_path / "w.pth")
    assert refusal(DINOV3, tmp_path / "w.pth") == (
        "its qkv biases are not zero, and this network has none; choose vit_small_patch16_dinov3_qkvb"
    )


def test_a_file_of_transformers_is_recognized(tmp_path: Path) -> None:
    save_file({"vision_model.embeddings.class_embedding": torch.ones(32)}, tmp_path / "model.safetensors")
    assert refusal(CLIP, tmp_path / "model.safetensors") == (
        "its keys are those of the package transformers; get the publisher's own file, or timm's"
    )


def test_positions_of_another_grid_are_interpolated(tmp_path: Path) -> None:
    module = network(VIT)
    larger = module.state_dict() | {"pos_embed": torch.ones(1, 1 + 24 * 24, 32)}
    torch.save(larger, tmp_path / "w.pth")
    weights = resolve(VIT, str(tmp_path / "w.pth"))
    torch.testing.assert_close(load(VIT, weights).state_dict()["pos_embed"], torch.ones(1, 1 + 14 * 14, 32))
    assert weights.mean == (0.5, 0.5, 0.5)  # it has a classifier, as the default weights


# own checkpoints, of a convolutional network too

SMALL = "test_resnet"


@pytest.fixture(scope="module")
def own() -> State:
    return {k: torch.rand(v.shape) for k, v in timm.create_model(SMALL).state_dict().items()}


def lightning(state: State) -> Any:
    wrapped = {f"model.{key}": value for key, value in state.items()} | {"loss.weight": torch.ones(2)}
    return {"state_dict": wrapped, "epoch": 3, "pytorch-lightning_version": "2.5.0", "hyper_parameters": {"lr": 0.1}}


def prefixed(prefix: str, state: State) -> State:
    return {prefix + key: value for key, value in state.items()}


@pytest.mark.parametrize(
    "wrap",
    [
        partial(prefixed, "module."),
        partial(prefixed, "_orig_mod."),
        partial(prefixed, "module._orig_mod.backbone."),
        lambda state: {"model_state_dict": state, "optimizer_state_dict": {"state": {}, "param_groups": []}},
        lambda state: {"model": prefixed("module.", state), "loss": 0.5},
        lambda state: (
            prefixed("backbone.", {k: v for k, v in state.items() if not k.startswith("fc.")}) | {"head.weight": torch.ones(3)}
        ),
        lightning,
    ],
)
@pytest.mark.usefixtures("plain")
def test_wrappers_are_stripped(wrap: Callable[[State], Any], own: State, tmp_path: Path) -> None:
    torch.save(wrap(own), tmp_path / "own.ckpt")
    loaded = load(SMALL, resolve(SMALL, str(tmp_path / "own.ckpt"))).state_dict()
    assert all(torch.equal(value, own[key]) for key, value in loaded.items() if not key.startswith("fc.") and value.ndim)


def facebook(state: State) -> State:
    """The layout of ConvNeXt's authors, which is DINOv3's too."""
    for i in (1, 2, 3):
        state = renamed(state, (f"stages.{i}.downsample.", f"downsample_layers.{i}."))
    pairs = [(".blocks.", "."), ("stem.", "downsample_layers.0."), ("conv_dw", "dwconv"), ("mlp.fc", "pwconv")]
    return renamed(state, *pairs, ("head.norm", "norm")) | {"norms.3.weight": torch.ones(3)}


@pytest.mark.usefixtures("plain")
def test_convnext_of_its_authors(tmp_path: Path) -> None:
    module = network("test_convnext")
    published = facebook({key: value for key, value in module.state_dict().items() if not key.startswith("head.fc.")})
    torch.save({"model": published}, tmp_path / "w.pth")
    loaded = load("test_convnext", resolve("test_convnext", str(tmp_path / "w.pth")))
    images = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(loaded.forward_features(images), module.forward_features(images))  # type: ignore[operator]
    torch.save(prefixed("module.", renamed(published, ("stages.1.0.pwconv1.", "stages.1.0.pwconv9."))), tmp_path / "w.pth")
    assert "stages.1.blocks.0.mlp.fc9.weight'" in refusal("test_convnext", tmp_path / "w.pth")


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """The networks as published."""
    monkeypatch.setattr("timm.create_model", timm.models.create_model)


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize("head", [{}, {"fc.weight": torch.ones(7, 512), "fc.bias": torch.ones(7)}])
def test_the_classifier_is_not_needed(head: State, own: State, tmp_path: Path) -> None:
    save_file({k: v.half() for k, v in own.items() if not k.startswith("fc.")} | head, tmp_path / "own.safetensors")
    found = check(SMALL, str(tmp_path / "own.safetensors"))
    assert (sorted(found["unused"]), found["loaded"]) == (sorted(head), len([k for k in own if "batches" not in k]) - 2)


@pytest.mark.usefixtures("plain")
def test_what_is_missing_of_the_network_is_named_without_its_wrapper(own: State, tmp_path: Path) -> None:
    torch.save(lightning({k: v for k, v in own.items() if k != "layer1.0.conv1.weight"}), tmp_path / "own.ckpt")
    assert refusal(SMALL, tmp_path / "own.ckpt") == f"keys 1 missing (layer1.0.conv1.weight); choose the checkpoint of {SMALL}"


def test_a_checkpoint_of_another_architecture_is_one_line(run: Run, tmp_path: Path) -> None:
    write(dinov3, DINOV3, tmp_path / "w.pth")
    answer = run("weights", "check", VIT, tmp_path / "w.pth")
    assert (answer.code, answer.err.count("\n")) == (3, 1)
    assert "keys 1 missing (pos_embed)" in answer.err


def test_check_of_random_weights_says_that_there_is_no_file(run: Run) -> None:
    answer = run("weights", "check", VIT, "random")
    assert (answer.code, answer.out.splitlines()[0]) == (0, "random weights: there is no file to check")


def test_check_prints_what_is_loaded_and_what_is_not(run: Run, tmp_path: Path) -> None:
    write(mae, VIT, tmp_path / "w.pth")
    answer = run("weights", "check", VIT, tmp_path / "w.pth", "--json")
    assert (answer.json["loaded"], answer.json["license"], answer.json["mean"]) == (30, None, list(IMAGENET_MEAN))
    text = run("weights", "check", VIT, tmp_path / "w.pth").out
    assert text.startswith(f"{tmp_path}/w.pth fits {VIT}: 30 tensors loaded\nmean / std: ImageNet\nlicense: unknown\n")
    assert text.endswith("unused tensors (3): mask_token, decoder_pos_embed, decoder_pred.weight\n")
    assert Weights.from_record(json.loads(json.dumps(resolve(VIT, str(tmp_path / "w.pth")).record())))
