"""Transformers: their layers equal what their own library computes, on square and on other grids; sizes that do not fit."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torchvision.models import get_model

from adbench.backbones.families import find
from adbench.backbones.layers import describe
from adbench.backbones.network import Network
from adbench.backbones.weights import resolve

Grid = tuple[int, int]
FIRST = "encoder.layers.encoder_layer_0"
SWIN = {"depths": (1, 1, 2, 1)}
SHALLOW = {"depth": 3}  # three blocks of a network show as much as twelve, in less time


def hooked(module: nn.Module, images: Tensor, names: list[str]) -> list[Tensor]:
    """Return what some submodules return in the network's own forward pass."""
    found: dict[str, Tensor] = {}
    for name in names:
        module.get_submodule(name).register_forward_hook(lambda *args, name=name: found.update({name: args[-1]}))
    with torch.no_grad():
        module.eval()(images)
    return [found[name] for name in names]


def as_map(tokens: Tensor, grid: Grid, prefix: int) -> Tensor:
    """Return tokens (B, prefix + h * w, C), row by row, as a map (B, C, h, w)."""
    assert tokens.shape[1] == prefix + grid[0] * grid[1]
    rows = tokens[:, prefix:].unflatten(1, grid)
    return rows.permute(0, 3, 1, 2)


def channels_last(values: Tensor, grid: Grid, prefix: int) -> Tensor:
    """Return a map of (B, h, w, C) as (B, C, h, w)."""
    assert values.shape[1:3] == grid
    return values.permute(0, 3, 1, 2)


Turn = Callable[[Tensor, Grid, int], Tensor]
NORMED = {"blocks.1": "blocks.1", "blocks.2.norm": "norm"}
BLOCKS = {"blocks.0": "blocks.0", "blocks.2": "blocks.2"}
CASES: list[tuple[str, dict[str, Any], int, int, Turn, Grid, Grid, dict[str, str]]] = [
    # backbone, how timm makes it small, patch, prefix tokens, turn, two sizes, {layer: module of the library}
    ("vit_small_patch14_dinov2", SHALLOW, 14, 1, as_map, (252, 252), (112, 140), NORMED),
    ("vit_small_patch14_reg4_dinov2", SHALLOW, 14, 5, as_map, (112, 112), (140, 84), NORMED),
    ("vit_small_patch16_dinov3", SHALLOW, 16, 5, as_map, (128, 128), (96, 160), NORMED),
    ("vit_base_patch32_clip_quickgelu_224", SHALLOW, 32, 1, as_map, (224, 224), (128, 192), BLOCKS),
    ("vit_base_patch16_siglip_224", SHALLOW, 16, 0, as_map, (224, 224), (64, 96), NORMED),
    ("beit_base_patch16_224", SHALLOW, 16, 1, as_map, (224, 224), (96, 128), BLOCKS),
    ("deit_tiny_distilled_patch16_224", SHALLOW, 16, 2, as_map, (224, 224), (96, 64), NORMED),
    ("timm/swin_tiny_patch4_window7_224", SWIN, 32, 0, channels_last, (224, 224), (128, 192), {"layers.3": "layers.3"}),
    ("swin_t", {}, 32, 0, channels_last, (224, 224), (128, 192), {"features.7": "features.7"}),
    ("vit_b_32", {}, 32, 1, as_map, (224, 224), (128, 128), {"blocks.0": FIRST, "blocks.11.norm": "encoder.ln"}),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=[case[0] for case in CASES])
@pytest.mark.parametrize("second", [False, True], ids=["square", "second"])
def test_layers_equal_the_forward_pass_of_the_library(
    case: tuple[Any, ...], second: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, small, stride, prefix, turn, *sizes, layers = case
    size = sizes[second]
    monkeypatch.setattr(timm, "create_model", partial(timm.create_model, **small))
    network = Network(name, resolve(name, "random"))
    module = network.at(size)
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        maps = network.cut(list(layers), size)(images)
    grid = size[0] // stride, size[1] // stride
    for (layer, found), theirs in zip(maps.items(), hooked(module, images, list(layers.values())), strict=True):
        torch.testing.assert_close(
            found, turn(theirs, grid, prefix), atol=1e-6, rtol=1e-6, msg=lambda text, at=layer: f"{at}: {text}"
        )


def test_hiera_stages_are_in_the_order_of_pixels() -> None:
    network = Network("hiera_tiny_224", resolve("hiera_tiny_224", "random"))
    images = torch.zeros(1, 3, 224, 224)
    images[:, :, :32, 96:128] = 3  # cells 24 to 31 of the first eight rows, and their neighbors in the patch embedding
    with torch.no_grad():
        (plain,), (bright,) = (network.cut(["blocks.0"], (224, 224))(x).values() for x in (torch.zeros_like(images), images))
        (theirs,) = network.module.forward_intermediates(images, indices=[0], intermediates_only=True)  # type: ignore[operator]
    torch.testing.assert_close(bright, theirs, atol=1e-6, rtol=1e-6)
    rows, columns = torch.nonzero((bright - plain)[0].norm(dim=0) > 1e-3).T
    assert (rows.min(), rows.max()) == (0, 15) and (columns.min(), columns.max()) == (24, 39)  # windows of 8 x 8 that see it


def test_position_tables_are_those_of_the_library_at_another_size() -> None:
    name = "vit_tiny_patch16_224"
    network = Network(name, resolve(name, "random"))
    fixed = timm.create_model(name, img_size=(96, 160))
    fixed.load_state_dict(timm.models.vision_transformer.checkpoint_filter_fn(network.module.state_dict(), fixed))
    images = torch.randn(1, 3, 96, 160)
    with torch.no_grad():
        (ours,) = network.cut(["blocks.11"], (96, 160))(images).values()
        (theirs,) = fixed.eval().forward_intermediates(images, indices=[11], intermediates_only=True)
    assert torch.equal(ours, theirs)


@pytest.mark.filterwarnings("error::UserWarning")
def test_remarks_on_the_code_of_the_library_reach_no_user() -> None:
    network = timm.create_model("beit_base_patch16_224", depth=1, embed_dim=12, num_heads=1)
    larger = timm.create_model("beit_base_patch16_224", depth=1, embed_dim=12, num_heads=1, img_size=64)
    assert find("beit_base_patch16_224")[0].resized(network.state_dict(), larger).keys() == larger.state_dict().keys()


def test_one_pass_serves_all_blocks_and_ends_behind_the_deepest() -> None:
    network = Network("vit_tiny_patch16_224", resolve("vit_tiny_patch16_224", "random"))
    ran: list[int] = []
    for index, block in enumerate(network.module.blocks):  # type: ignore[arg-type,union-attr]
        block.register_forward_hook(lambda *args, index=index: ran.append(index))
    with torch.no_grad():
        maps = network.cut(["blocks.3", "blocks.1", "blocks.3.norm"])(torch.randn(1, 3, 224, 224))
    assert list(maps) == ["blocks.3", "blocks.1", "blocks.3.norm"] and ran == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("backbone", "layers", "stride"),
    [("vit_small_patch14_dinov2", ["blocks.2", "blocks.5", "blocks.8", "blocks.11"], [14] * 4),
     ("vit_small_patch16_dinov3", ["blocks.2", "blocks.5", "blocks.8", "blocks.11"], [16] * 4),
     ("vit_b_16", ["blocks.2", "blocks.5", "blocks.8", "blocks.11"], [16] * 4),
     ("swin_t", ["features.1", "features.3", "features.5", "features.7"], [4, 8, 16, 32]),
     ("hiera_tiny_224", ["blocks.0", "blocks.2", "blocks.9", "blocks.11"], [4, 8, 16, 32])],
)  # fmt: skip
def test_default_layers(backbone: str, layers: list[str], stride: list[int], cache: Path) -> None:
    description = describe(backbone, cache / "backbones")
    assert list(description.stages) == layers
    assert [description.layer(name).stride for name in layers] == stride
    assert all(description.layer(name).field is None for name in layers)


def test_the_final_norm_is_a_layer_only_where_it_norms() -> None:
    assert "blocks.11.norm" in [layer.name for layer in describe("vit_tiny_patch16_224").layers]
    assert not [layer.name for layer in describe("beit_base_patch16_224").layers if layer.name.endswith(".norm")]


def test_torchvisions_names_of_blocks_are_accepted() -> None:
    description = describe("vit_b_32")
    assert description.layer("encoder.layers.encoder_layer_3").name == "blocks.3"
    assert description.layer("encoder.layers.encoder_layer_3.norm").name == "blocks.3.norm"
    assert get_model("vit_b_32").get_submodule("encoder.layers.encoder_layer_3") is not None


def test_networks_with_a_graph_keep_its_nodes() -> None:
    assert "stages.3.blocks.0.add" in [layer.name for layer in describe("test_convnext").layers]
    assert find("test_convnext")[0].stages(timm.create_model("test_convnext"))  # although timm knows their stages


def test_the_weights_in_use_end_behind_the_deepest_block() -> None:
    network = Network("test_vit", resolve("test_vit", "random"))
    sizes = [sum(t.numel() for t in network.cut([f"blocks.{n}"]).used_tensors()) for n in (0, 1, 5)]  # type: ignore[operator]
    block = sum(t.numel() for t in network.module.get_submodule("blocks.1").parameters())
    assert sizes[1] - sizes[0] == block and sizes[2] - sizes[0] == 5 * block
