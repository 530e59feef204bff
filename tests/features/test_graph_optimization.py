"""The fast graph against the plain one: the same layers, whatever is asked for beside them."""

from functools import lru_cache
from pathlib import Path

import pytest
import torch
from torch import Tensor, fx, nn

from adbench.backbones.families.torchvision_models import TorchvisionModels
from adbench.backbones.weights import resolve
from adbench.features import graph_optimization as fusing
from adbench.features.extraction import Network
from adbench.features.graph_optimization import FusedConvolution, fast_graph, inference_module, is_plain_convolution
from adbench.features.latency import forward_times
from adbench.features.tiling import Tiling
from adbench.features.view import View

CPU = torch.device("cpu")
BACKBONES = ["resnet18", "efficientnet_lite0", "mobilenet_v3_small", "timm/resnetv2_18"]
INPUT = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module", params=BACKBONES)
def network(request: pytest.FixtureRequest) -> Network:
    """A backbone whose batch norms do something."""
    weights = resolve(request.param, "imagenet" if request.param == "efficientnet_lite0" else "random")
    made = Network(request.param, weights).drawn_by(1)
    draw = torch.Generator().manual_seed(1)
    for module in made.module.modules():
        if isinstance(module, nn.BatchNorm2d) and request.param != "efficientnet_lite0":
            module.running_mean.normal_(0, 0.1, generator=draw)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 2, generator=draw)  # type: ignore[union-attr]
            module.bias.data.normal_(0, 0.1, generator=draw)
    return made


@lru_cache
def layers_of(network: Network) -> list[str]:
    """Every node that is a feature map."""
    output = next(node for node in network.whole().graph.nodes if node.op == "output")
    with torch.inference_mode():
        values = network.whole()(INPUT)
    return [name for name in output.args[0] if isinstance(values[name], Tensor) and values[name].dim() == 4]


def plain(network: Network, layers: list[str]) -> dict[str, Tensor]:
    """The layers by the network as it was published, nothing in place."""
    cut = network.cut(layers)
    changed = [module for module in cut.modules() if getattr(module, "inplace", False)]
    for module in changed:
        module.inplace = False  # type: ignore[assignment]
    with torch.inference_mode():
        values: dict[str, Tensor] = cut(INPUT)
    for module in changed:
        module.inplace = True  # type: ignore[assignment]
    return values


def fast(network: Network, layers: list[str], dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    with torch.inference_mode():
        values: dict[str, Tensor] = fast_graph(network.whole(), layers, CPU, dtype)(INPUT.to(dtype))
    return values


def relative(values: Tensor, expected: Tensor) -> float:
    return float((values.float() - expected).abs().max() / expected.abs().max())


def test_every_layer_is_that_of_the_plain_graph(network: Network) -> None:
    layers = layers_of(network)
    expected, found = plain(network, layers), fast(network, layers)
    assert {layer for layer in layers if relative(found[layer], expected[layer]) > 1e-4} == set()


def test_without_fused_convolutions_too(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fusing, "has_fused_convolutions", lambda: False)
    layers = layers_of(network)
    module = fast_graph(network.whole(), layers, CPU, torch.float32)
    assert not any(isinstance(part, FusedConvolution) for part in module.modules())
    expected, found = plain(network, layers), fast(network, layers)
    assert {layer for layer in layers if relative(found[layer], expected[layer]) > 1e-4} == set()


def test_a_layer_has_the_same_bits_whatever_else_is_asked_for(network: Network) -> None:
    layers = layers_of(network)
    every = fast(network, layers)
    for some in (layers[: len(layers) // 3 : 5], layers[-1:]):
        assert all(torch.equal(value, every[layer]) for layer, value in fast(network, some).items())


def test_the_network_stays_as_it_was(network: Network) -> None:
    before = {key: value.clone() for key, value in network.module.state_dict().items()}
    fast(network, layers_of(network), torch.bfloat16)
    torch.testing.assert_close(network.module.state_dict(), before, rtol=0, atol=0)


def test_bfloat16_is_near(network: Network) -> None:
    layer = layers_of(network)[len(layers_of(network)) // 2]
    found = fast(network, [layer], torch.bfloat16)[layer]
    assert found.dtype == torch.bfloat16
    assert 1e-5 < relative(found, plain(network, [layer])[layer]) < 0.05


class Toy(nn.Module):
    """A convolution that a batch norm and a sum need, and an activation in place behind that norm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.relu = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return self.relu(self.norm(y)) + y


def test_a_convolution_that_others_need_is_not_folded_even_if_they_are_cut_off() -> None:
    graph = fx.symbolic_trace(Toy().eval())
    nodes = {node.name: node for node in graph.graph.nodes if node.op != "output"}
    next(node for node in graph.graph.nodes if node.op == "output").args = (nodes,)
    graph.recompile()
    module = fast_graph(graph, ["norm"], CPU, torch.float32)
    assert any(isinstance(part, nn.BatchNorm2d) for part in module.modules())
    with torch.inference_mode():
        assert module(INPUT)["norm"].min() < 0  # and what the activation would overwrite is kept
        assert fast_graph(graph, ["norm", "add"], CPU, torch.float32)(INPUT)["norm"].min() < 0


def test_a_convolution_that_changes_its_weights_is_left_alone() -> None:
    class Standardised(nn.Conv2d):
        pass

    assert is_plain_convolution(nn.Conv2d(3, 3, 1))
    assert not is_plain_convolution(Standardised(3, 3, 1))
    assert not is_plain_convolution(nn.Conv2d(3, 3, 3, padding=1, padding_mode="reflect"))


def test_the_graph_is_traced_once_for_extraction_and_latency(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    traced: list[int] = []
    cut = TorchvisionModels.cut

    def counted(self: TorchvisionModels, module: nn.Module, layers: dict[str, str]) -> nn.Module:
        traced.append(len(layers))
        return cut(self, module, layers)

    monkeypatch.setattr(TorchvisionModels, "cut", counted)
    made = Network("resnet18", resolve("resnet18", "random")).drawn_by(2)
    for size in (32, 64):
        inference_module(made, ["layer1.0.relu"], (size, size), CPU, torch.float32)
    forward_times(made, ["layer1.0.relu"], Tiling.whole(View(32)), "float32", CPU, tmp_path)
    assert len(traced) == 1
