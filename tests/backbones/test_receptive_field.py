"""Receptive fields: the analytic ones against Table 2 and against gradients, the estimated ones against the analytic ones."""

from copy import deepcopy
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from timm.models import create_model
from timm.models._features_fx import create_feature_extractor as timm_extractor
from torch import nn
from torch.fx import GraphModule
from torch.nn import functional
from torchvision import models
from torchvision.models.feature_extraction import create_feature_extractor
from torchvision.ops import SqueezeExcitation

from adbench.backbones.layers import describe
from adbench.backbones.network import Network
from adbench.backbones.receptive_field import measure as measuring
from adbench.backbones.receptive_field.figure import figure
from adbench.backbones.receptive_field.graph import AnalyticField, analytic
from adbench.backbones.receptive_field.measure import (
    OBJECTIVES,
    EstimatedField,
    LeanNorms,
    Measure,
    bounding_box,
    estimated,
    receptive_fields,
    remembered,
)
from adbench.backbones.weights import resolve
from adbench.core.errors import DataError, UsageError

RESNET = {"layer1.2.relu_2": 35, "layer2.3.relu_2": 91, "layer3.5.relu_2": 267, "layer4.2.relu_2": 427}
TABLE_2 = {
    "resnet50": RESNET,
    "wide_resnet50_2": RESNET,
    "densenet201": dict(zip([f"features.denseblock{i}.cat" for i in (1, 2, 3, 4)], [59, 255, 1799, 3863], strict=True)),
    "efficientnet_b5": {"features.2.4.add": 51, "features.3.4.add": 195, "features.5.6.add": 851, "features.6.8.add": 1939},
}
LITE0 = {"blocks.1.1.add": 19, "blocks.2.1.add": 67, "blocks.4.2.add": 339, "blocks.6.0.bn3": 851}
SUPPORTS = [
    ("alexnet", "features.5", 160),
    ("convnext_tiny", "features.1.1.add", 96),
    ("densenet121", "features.transition1.conv", 128),
    ("googlenet", "inception3a.cat", 160),
    ("inception_v3", "Mixed_5b.cat", 160),
    ("mnasnet0_5", "layers.8.2.add", 96),
    ("mobilenet_v2", "features.5.add", 128),
    ("mobilenet_v3_small", "features.5.add", 192),
    ("regnet_y_400mf", "trunk_output.block2.block2-0.activation", 64),
    ("resnet18", "layer2.1.relu_1", 160),
    ("shufflenet_v2_x0_5", "stage2.1.view_1", 96),
    ("squeezenet1_1", "features.6.cat", 96),
    ("vgg11", "features.10", 96),
]


def extractor(name: str, *layers: str) -> GraphModule:
    torch.manual_seed(0)
    extra = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    network = models.get_model(name, weights=None, **extra).eval()
    return create_feature_extractor(network, {layer: layer for layer in layers}, suppress_diff_warning=True)


def lite0(*layers: str) -> GraphModule:
    torch.manual_seed(0)
    return timm_extractor(create_model("tf_efficientnet_lite0").eval(), {layer: layer for layer in layers})


def traced(network: nn.Module, layer: str) -> GraphModule:
    return create_feature_extractor(network.eval(), {layer: layer})


def exact(module: GraphModule, layer: str) -> AnalyticField:
    return analytic(module, [layer])[layer]


def cut_global_paths(module: nn.Module) -> None:
    """Stop gradients at the pooled values of squeeze-excitation, which the analytic field ignores."""
    for part in module.modules():
        if isinstance(part, SqueezeExcitation):
            part.avgpool.register_forward_hook(lambda module, args, output: output.detach())


def support(module: nn.Module, layer: str, size: int, draws: int = 4) -> tuple[list[int], int]:
    """Return the box of all pixels with a gradient from the central cell, and its index; a max pool has one path per draw."""
    cut_global_paths(module)
    module.double().requires_grad_(False)
    reached = torch.zeros(size, size, dtype=torch.bool)
    for _ in range(draws):
        image = torch.randn(1, 3, size, size, dtype=torch.float64, requires_grad=True)
        values = module(image)[layer]
        center = values.shape[2] // 2
        cell = values[0, :, center, center]
        (gradient,) = torch.autograd.grad((cell * torch.randn_like(cell)).sum(), image)
        reached |= gradient[0].ne(0).any(0)
    ys, xs = reached.any(1).nonzero(), reached.any(0).nonzero()
    return [int(xs[0]), int(ys[0]), int(xs[-1]) + 1, int(ys[-1]) + 1], center


@pytest.mark.parametrize("name", ["resnet50", "densenet201", "efficientnet_b5"])
def test_analytic_fields_of_table_2(name: str) -> None:
    fields = analytic(extractor(name, *TABLE_2[name]), list(TABLE_2[name]))
    assert {layer: field.size for layer, field in fields.items()} == TABLE_2[name]
    assert [field.stride for field in fields.values()] == [4, 8, 16, 32]
    assert [field.offset for field in fields.values()] == ([0, 2, 6, 14] if name == "densenet201" else [0, 0, 0, 0])


def test_analytic_fields_of_a_network_with_same_padding() -> None:
    fields = analytic(lite0(*LITE0), list(LITE0))
    assert {layer: field.size for layer, field in fields.items()} == LITE0
    assert [(field.stride, field.offset) for field in fields.values()] == [(4, 3), (8, 7), (16, 15), (32, 31)]


@pytest.mark.parametrize(("name", "layer", "size"), SUPPORTS, ids=[s[0] for s in SUPPORTS])
def test_analytic_field_is_the_support_of_the_gradient(name: str, layer: str, size: int) -> None:
    module = extractor(name, layer)
    field = exact(module, layer)
    box, cell = support(module, layer, size)
    assert (box[2] - box[0], box[3] - box[1]) == (field.width, field.height)
    assert (box[0] + box[2] - 1) / 2 == field.stride * cell + field.offset


def test_same_padding_lies_where_the_gradient_does() -> None:
    module = lite0("blocks.2.1.add")
    field = exact(module, "blocks.2.1.add")
    box, cell = support(module, "blocks.2.1.add", 128)
    assert box[2] - box[0] == field.size == 67
    assert (box[0] + box[2] - 1) / 2 == 8 * cell + 7


class Functions(nn.Module):
    """Every rule of functions and methods that torchvision's networks do not reach, on kernels that are not square."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, (1, 5), padding="same", dilation=2)
        self.weight = nn.Parameter(torch.randn(8, 1, 3, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.pad(self.conv(x), [1, 0, 2, 0]).relu_()
        x = functional.conv2d(x, self.weight, None, 2, groups=8)
        first, second = x.split([4, 4], dim=1)
        x = torch.stack([first, functional.avg_pool2d(second, 3, 1, 1)], dim=1).flatten(1, 2)
        x = x[:, :, 1::2, ::2]
        gate = x.mean((2, 3), keepdim=True).sigmoid().detach().expand_as(x)
        x = torch.addcmul(x, x, gate).permute(0, 2, 3, 1)
        return functional.layer_norm(x, (8,)).transpose(1, 3).transpose(2, 3)


def test_functions_and_methods_follow_the_gradient() -> None:
    torch.manual_seed(0)
    module = traced(Functions(), "transpose_1")
    field = exact(module, "transpose_1")
    assert (field.height, field.width, field.stride) == (7, 15, 4)
    box, cell = support(module, "transpose_1", 48)
    assert (box[3] - box[1], box[2] - box[0]) == (7, 15)
    assert (box[0] + box[2] - 1) / 2 == 4 * cell + field.offset


class Sequence(nn.Module):
    def __init__(self, *parts: nn.Module) -> None:
        super().__init__()
        self.first, self.second, self.third = parts

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.third(self.second(self.first(x)))


@pytest.mark.parametrize(
    ("part", "operation"),
    [
        (nn.Upsample(scale_factor=2), "Upsample"),
        (nn.AdaptiveAvgPool2d(7), "AdaptiveAvgPool2d"),
        (nn.ConvTranspose2d(4, 4, 2, 2), "ConvTranspose2d"),
        (nn.Flatten(), "Flatten"),
        (nn.Softmax(dim=2), "Softmax"),
        (type("OwnConv", (nn.Conv2d,), {"__module__": "torch.nn.x"})(4, 4, 1), None),
        (type("OddConv", (nn.Conv2d,), {"forward": lambda self, x: x.flip(2)})(4, 4, 1), "flip"),
    ],
    ids=lambda value: str(value)[:12],
)
def test_unknown_operations_are_named(part: nn.Module, operation: str | None) -> None:
    module = traced(Sequence(nn.Conv2d(3, 4, 3), part, nn.ReLU()), "third")
    if operation is None:
        assert exact(module, "third").size == 3
        return
    node = "flip" if operation == "flip" else "second"
    with pytest.raises(UsageError) as caught:
        exact(module, "third")
    assert str(caught.value) == (
        f"layer 'third': no rule for the receptive field of operation '{operation}' at node '{node}'; "
        "choose a layer in front of it"
    )


def test_a_join_of_two_strides_is_refused() -> None:
    class Join(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[:, :, ::2, ::2] + functional.max_pool2d(x, 1)[:, :, :128, :160]

    with pytest.raises(UsageError, match=r"operation 'add' at node 'add': maps of different strides or layouts are joined"):
        exact(traced(Join(), "add"), "add")


def test_layers_that_are_no_maps_are_refused() -> None:
    module = extractor("resnet18", "avgpool")
    with pytest.raises(UsageError, match=r"^layer 'avgpool' is no feature map \(computed from the whole image"):
        exact(module, "avgpool")
    with pytest.raises(UsageError, match="unknown layer 'avgpol'; did you mean 'avgpool'"):
        exact(module, "avgpol")


def test_estimates_lie_between_stride_and_analytic_field_and_grow() -> None:
    module = extractor("resnet50", *list(RESNET)[:3])
    analytic_fields = analytic(module, list(RESNET)[:3])
    fields = {layer: estimated(module, layer, Measure(320)) for layer in analytic_fields}
    boxes = [field.px for field in fields.values()]
    assert boxes == sorted(set(boxes))
    assert not any(field.saturated for field in fields.values())
    assert all(analytic_fields[layer].size / 2 < field.px <= analytic_fields[layer].size for layer, field in fields.items())


def test_a_field_larger_than_the_input_is_saturated() -> None:
    field = estimated(extractor("resnet18", "layer2.1.relu_1"), "layer2.1.relu_1", Measure(64, margin=4))
    assert field.saturated
    assert field.px <= 56


def test_an_empty_image_through_random_weights_measures_nothing() -> None:
    field = estimated(extractor("resnet18", "layer1.1.relu_1"), "layer1.1.relu_1", Measure(96, image="zeros"))
    assert (field.px, field.bbox, field.saturated) == (0, (0, 0, 0, 0), False)


def test_absolute_norms_are_those_that_max_divides() -> None:
    module = extractor("resnet18", "layer1.1.relu_1")
    absolute = estimated(module, "layer1.1.relu_1", Measure(96, normalize="none"))
    shown = estimated(module, "layer1.1.relu_1", Measure(96))
    np.testing.assert_allclose(absolute.gradient / absolute.gradient.max(), shown.gradient)


def test_signs_keep_what_a_sum_over_channels_cancels() -> None:
    module = extractor("convnext_tiny", "features.2.0.permute_1")
    field = estimated(module, "features.2.0.permute_1", Measure(128, normalize="none"))
    assert field.px == 4  # the previous blocks start with a layer scale of 1e-6


@pytest.fixture
def transformer() -> Network:
    return Network("test_vit", resolve("test_vit", "random"))


def test_a_transformers_field_is_measured_at_the_nearest_size_that_fits(transformer: Network) -> None:
    found = receptive_fields(transformer, describe("test_vit"), ["blocks.0", "blocks.1.norm"], [64, 128], Measure(70, margin=0))
    assert found["input_size"] == 64
    assert [row["layer"] for row in found["layers"]] == ["blocks.0", "blocks.1.norm"]
    for row in found["layers"]:
        assert row["analytic_px"] is None and row["every_pixel"]
        assert row["estimated_px"] >= 16
        assert row["rrf"] == {"64": row["estimated_px"] / 64, "128": row["estimated_px"] / 128}


def test_rrf_is_of_the_estimated_field_also_if_the_analytic_one_is_known() -> None:
    network = Network("resnet18", resolve("resnet18", "random"))
    (row,) = receptive_fields(network, describe("resnet18"), ["layer2"], [256], Measure(256))["layers"]
    assert row["estimated_px"] < row["analytic_px"] == 99
    assert row["rrf"] == {"256": row["estimated_px"] / 256} and not row["every_pixel"]


def test_attention_that_outweighs_the_patch_itself_sees_every_pixel(transformer: Network) -> None:
    module = deepcopy(transformer.cut(["blocks.0"], (128, 128)))
    local = estimated(module, "blocks.0", Measure(128, margin=0))
    module.network.blocks[0].attn.proj.weight.mul_(1000)
    everywhere = estimated(module, "blocks.0", Measure(128, margin=0))
    assert local.px < 128 == everywhere.px
    assert local.everywhere and everywhere.everywhere  # attention reaches each patch, however little of it


def test_blocks_that_are_computed_again_give_the_same_gradient(transformer: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    module = transformer.cut(["blocks.2"], (64, 64))
    again = estimated(module, "blocks.2", Measure(64))
    blocks = list(measuring._blocks(module))
    assert blocks == list(transformer.module.blocks)
    assert not any("forward" in vars(block) for block in blocks)
    monkeypatch.setattr(measuring, "_blocks", lambda module: [])
    np.testing.assert_array_equal(estimated(module, "blocks.2", Measure(64)).gradient, again.gradient)


def test_a_field_is_remembered_for_a_network_and_a_size(
    transformer: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = remembered(transformer, ["blocks.0"], {}, (64, 64), tmp_path)
    threads, asked, each = torch.get_num_threads(), [], measuring._each

    def noted(network: Network, layers: list[str], measure: Measure) -> object:
        asked.append((layers, measure.input_size, torch.get_num_threads()))
        return each(network, layers, measure)

    monkeypatch.setattr(measuring, "_each", noted)
    both = remembered(transformer, ["blocks.0", "blocks.2"], {}, (64, 64), tmp_path)
    assert both["blocks.0"] == first["blocks.0"] and asked == [(["blocks.2"], 64, 1)]
    assert remembered(transformer, ["blocks.0", "blocks.2"], {}, (64, 64), tmp_path) == both and len(asked) == 1
    remembered(transformer, ["blocks.2"], {}, (32, 32), tmp_path)
    assert asked[1:] == [(["blocks.2"], 32, 1)] and torch.get_num_threads() == threads


def test_an_image_as_large_as_the_analytic_field_gives_the_box_of_the_papers_image(tmp_path: Path) -> None:
    network, layers = Network("resnet18", resolve("resnet18", "random")), ["layer1.1.relu_1", "layer2.1.relu_1"]
    description = describe("resnet18")
    papers = receptive_fields(network, description, layers, [], Measure())["layers"]  # 1024 px
    found = remembered(network, layers, description.fields, (64, 64), tmp_path)
    assert found == {row["layer"]: row["estimated_px"] for row in papers}
    assert [measuring._side(description.fields[layer]) for layer in layers] == [192, 256]


def test_a_network_that_would_fill_the_memory_is_measured_at_half_the_side(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network("resnet18", resolve("resnet18", "random"))
    needed = measuring.activation_bytes(network.cut(["layer2.1.relu_1"]), 512)
    for memory, side in ((2 * needed, 512), (2 * needed - 2, 256), (1, 128)):
        monkeypatch.setattr(measuring, "memory_bytes", lambda memory=memory: memory)
        assert measuring._within_memory(network, ["layer2.1.relu_1"], 512) == side


def test_the_objective_is_the_sum_the_mean_or_random_signs_of_the_channels() -> None:
    module = extractor("resnet18", "layer1.1.relu_1")
    of = {kind: estimated(module, "layer1.1.relu_1", Measure(96, normalize="none", objective=kind)) for kind in OBJECTIVES}
    np.testing.assert_allclose(of["sum"].gradient, 64 * of["mean"].gradient, rtol=1e-4)
    assert of["mean"].px < of["sum"].px
    assert abs(of["signs"].gradient - of["sum"].gradient).max() > 0.1 * of["sum"].gradient.max()


def test_lean_batch_normalization_equals_torchs() -> None:
    norm = nn.BatchNorm2d(5).eval()
    for value in (norm.weight.data, norm.bias.data, norm.running_mean, norm.running_var):
        value.uniform_(0.5, 2)
    x = torch.randn(2, 5, 7, 7)
    with LeanNorms():
        lean = norm(x)
    torch.testing.assert_close(lean, norm(x))


def test_bounding_box_by_hand() -> None:
    norms: NDArray[np.float64] = np.zeros((8, 10))
    norms[3, 4] = norms[5, 6] = 0.5
    norms[0, 0] = 1.0  # in the margin
    norms[4, 7] = 0.4  # below the threshold
    assert bounding_box(norms, 0.5, 1) == ((4, 3, 7, 6), False)
    assert bounding_box(norms, 0.4, 2) == ((4, 3, 8, 6), True)
    assert bounding_box(norms, 2, 1) == ((0, 0, 0, 0), False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"input_size": 32}, "input size 32 leaves nothing between two margins of 16 px; choose a larger one"),
        ({"threshold": 0.0}, "threshold 0.0 keeps every pixel; choose one above 0"),
        ({"normalize": "maxx"}, "unknown normalization 'maxx'; did you mean 'max'?"),
        ({"objective": "max"}, "unknown objective 'max'; choose from: mean, signs, sum"),
        ({"image": "photo"}, "unknown image 'photo'; choose from: noise, zeros"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        Measure(**options)  # type: ignore[arg-type]
    assert str(caught.value) == message


def field_of(box: tuple[int, int, int, int]) -> EstimatedField:
    gradient = np.zeros((64, 64))
    gradient[box[1] : box[3], box[0] : box[2]] = 1
    return EstimatedField(f"layer{box[0]}", box, False, gradient)


def test_figure_has_a_panel_and_a_box_for_every_layer(tmp_path: Path) -> None:
    backend = matplotlib.rcParams._get_backend_or_none()
    figure([(field_of((28, 28, 36, 36)), None), (field_of((8, 8, 56, 56)), None)], tmp_path / "f.png", "both")
    figure([(field_of((28, 28, 36, 36)), None)], tmp_path / "f.svg", "one")
    assert matplotlib.rcParams._get_backend_or_none() == backend
    pixels = np.asarray(Image.open(tmp_path / "f.png").convert("RGB")).astype(int)
    red = (pixels[..., 0] - pixels[..., 1]) > 100
    left, right = red[:, : red.shape[1] // 2].sum(), red[:, red.shape[1] // 2 :].sum()
    assert 0 < left * 3 < right
    assert "<svg" in (tmp_path / "f.svg").read_text()


def test_a_small_field_is_enlarged_and_boxes_are_named(tmp_path: Path) -> None:
    figure([(field_of((30, 30, 34, 34)), AnalyticField(8, 8, 4, 0)), (field_of((8, 8, 56, 56)), None)], tmp_path / "f.svg", "")
    drawn = (tmp_path / "f.svg").read_text()
    assert "<!-- estimated -->" in drawn and "<!-- analytic -->" in drawn
    assert drawn.count("<!-- 20 px -->") == 1  # the side of the inset: 2.5 times the analytic field, at most twice the other


def test_figures_that_cannot_be_written_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"its suffix must be one of \.png, \.svg, \.pdf"):
        figure([(field_of((1, 1, 2, 2)), None)], tmp_path / "f.bmp", "")
    with pytest.raises(DataError, match=r"cannot be written \(No such file or directory\); choose another path"):
        figure([(field_of((1, 1, 2, 2)), None)], tmp_path / "none" / "f.png", "")
