"""Latency: what is timed and what is not, shown by a clock that counts its readings; memory's peaks."""

import subprocess
import sys
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import fx, nn

from adbench.backbones.weights import resolve
from adbench.detectors import make_detector
from adbench.features import latency
from adbench.features.extraction import Network
from adbench.features.feature_maps import FeatureMaps
from adbench.features.latency import Forward, forward_times, repeated, score_times
from adbench.features.tiling import Tiling
from adbench.features.view import View

CPU = torch.device("cpu")
LAYERS = ["blocks.1.1.add", "blocks.2.1.add"]


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every look at the clock takes a second."""
    monkeypatch.setattr(latency.time, "perf_counter", count().__next__)


@pytest.fixture(scope="module")
def network() -> Network:
    return Network("efficientnet_lite0", resolve("efficientnet_lite0", "random"))


class Steps(nn.Module):
    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        first = x + 1
        return {"first": first, "second": first * 2}


@pytest.mark.usefixtures("readings")
def test_the_clock_leaves_out_copies_of_earlier_layers() -> None:
    clock = latency._Clock()
    module = latency._clocked(fx.symbolic_trace(Steps()), clock)
    clock.start()
    found = module(torch.ones(2))
    assert {name: values.tolist() for name, values in found.items()} == {"first": [2, 2], "second": [4, 4]}
    assert clock.seconds == {"first": 2, "second": 3}  # start, computed, copied; computed, copied less one copy


@pytest.mark.usefixtures("readings")
def test_deeper_blocks_of_a_transformer_take_longer_and_keep_no_hook() -> None:
    network = Network("test_vit", resolve("test_vit", "random"))
    layers = ["blocks.0", "blocks.2", "blocks.5.norm"]
    found = latency._timed(network, layers, Tiling.whole(View(32)), "float32", CPU)
    assert [found[layer].p50_ms - found["blocks.0"].p50_ms for layer in layers] == [0, 1000, 2000]
    assert not any(block._forward_hooks for block in network.module.blocks)


@pytest.mark.usefixtures("readings")
def test_a_layer_whose_module_returns_no_tensor_has_the_time_of_the_whole_pass() -> None:
    class Pair(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x, x

    clock, part = latency._Clock(), Pair()
    clock.hook(part, "pair")
    clock.start()
    part(torch.ones(2))
    assert clock.seconds == {}
    clock.unhook()
    assert not part._forward_hooks


@pytest.mark.usefixtures("readings")
def test_passes_are_repeated_until_the_budget_is_spent() -> None:
    assert repeated(count().__next__, 2, 20, 3, budget_s=3) == [2, 3, 4, 5, 6]
    assert repeated(count().__next__, 0, 20, 3, budget_s=0) == [0, 1, 2]
    assert repeated(count().__next__, 1, 4, 3, budget_s=99) == [1, 2, 3, 4]


def test_each_layer_is_timed_once_per_machine(network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "BUDGET_S", 0)
    first = forward_times(network, LAYERS[:1], Tiling.whole(View(32)), "float16", CPU, tmp_path)
    asked = []

    def timed(network: Network, layers: list[str], *rest: object) -> dict[str, Forward]:
        asked.append(layers)
        return {layer: Forward(1, 2, 4, 0.5) for layer in layers}

    monkeypatch.setattr(latency, "_timed", timed)
    both = forward_times(network, LAYERS, Tiling.whole(View(32)), "float16", CPU, tmp_path)
    assert asked == [LAYERS[1:]] and both == first | {LAYERS[1]: Forward(1, 2, 4, 0.5)}
    assert forward_times(network, LAYERS, Tiling.whole(View(32)), "float16", CPU, tmp_path) == both and len(asked) == 1
    forward_times(network, LAYERS[:1], Tiling.whole(View(64)), "float16", CPU, tmp_path)
    assert asked == [LAYERS[1:], LAYERS[:1]]


def test_a_damaged_memo_is_made_again(network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "_timed", lambda *_: {LAYERS[0]: Forward(1, 2, 4, 0.5)})
    forward_times(network, LAYERS[:1], Tiling.whole(View(32)), "float16", CPU, tmp_path)
    (memo,) = tmp_path.iterdir()
    for damage in ("{", "[]", '{"a": {"p50_ms": 1}}'):
        memo.write_text(damage)
        assert forward_times(network, LAYERS[:1], Tiling.whole(View(32)), "float16", CPU, tmp_path) == {
            LAYERS[0]: Forward(1, 2, 4, 0.5)
        }


@pytest.mark.usefixtures("readings")
def test_scoring_is_timed_image_by_image() -> None:
    maps = FeatureMaps((np.random.default_rng(0).normal(size=(6, 4, 8, 8)).astype(np.float32),))
    detector = make_detector("mahalanobis", {}, 0).fit(maps, device=CPU)
    seen = []
    score = detector.score
    detector.score = lambda features, device: seen.append(len(features)) or score(features, device=device)  # type: ignore
    assert score_times(lambda one: detector.score(one, device=CPU), maps) == (1000, 1000)
    assert set(seen) == {1} and len(seen) == 1 + latency.LEAST


@pytest.mark.skipif(sys.platform != "linux", reason="peaks begin anew on Linux only")
def test_peaks_of_memory_begin_anew() -> None:
    code = (  # in a process of its own: what other tests have freed would be taken up again without notice
        "import numpy as np\nfrom adbench.core import environment\n"
        "block = np.ones(300_000_000, np.uint8)\nwith_block = environment.peak_memory_mb()\ndel block\n"
        "environment.reset_peak_memory()\nprint(with_block - environment.peak_memory_mb())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) > 250
