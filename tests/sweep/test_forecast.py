"""A forecast tries things out for a moment, and says before any work what cannot fit."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from adbench.backbones.layers import describe, map_shapes
from adbench.backbones.network import Network
from adbench.backbones.weights import resolve
from adbench.detectors.fastflow import FastFlow
from adbench.detectors.patchcore import PatchCore
from adbench.sweep import forecast as forecasting
from adbench.sweep.forecast import made_up, probe

CPU = torch.device("cpu")
Run = Callable[..., Any]


@pytest.fixture
def command(parts: Path, tmp_path: Path) -> tuple[Any, ...]:
    spec = tmp_path / "spec.yaml"
    spec.write_text(
        "backbones: [resnet18]\nweights: [random]\nlayers: [layer2]\nimage_sizes: [64]\neval_size: 64\n"
        "detectors: [patchcore]\nseeds: [0]\n"
    )
    return ("sweep", "--spec", spec, "--data", parts, "--cache", tmp_path / "cache", "--dry-run")


@pytest.mark.parametrize(("name", "size"), [("test_vit", 96), ("swin_t", 250), ("hiera_tiny_224", 224)])
def test_shapes_of_a_forecast_are_those_of_the_features(name: str, size: int, cache: Path) -> None:
    description = describe(name, cache / "backbones")
    network, layers = Network(name, resolve(name, "random")), list(description.stages)
    with torch.inference_mode():
        maps = network.cut(layers, (size, size))(torch.zeros(1, 3, size, size))
    assert map_shapes(description, layers, size, cache / "backbones") == [tuple(maps[layer].shape[1:]) for layer in layers]


def test_made_up_patches_all_differ() -> None:
    (maps,) = made_up([(6, 4, 5)], 7).layers
    assert maps.shape == (7, 6, 4, 5)
    patches = np.array(maps).transpose(0, 2, 3, 1).reshape(-1, 6)
    assert len(np.unique(patches, axis=0)) == len(patches)


def test_a_short_fit_is_run_to_its_end_and_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    detector = PatchCore()
    cost = probe(detector, [(8, 4, 4)], 5, CPU, tmp_path)
    assert cost.reason is None
    assert 0 < cost.fit_s < 60
    assert cost.score_s > 0
    assert cost.memory_bytes >= detector.memory_bytes(5, [(8, 4, 4)]) > 0
    monkeypatch.setattr(forecasting, "try_out", None)
    assert probe(PatchCore(), [(8, 4, 4)], 5, CPU, tmp_path) == cost
    for file in tmp_path.iterdir():
        file.write_text("{")
    with pytest.raises(TypeError):  # a damaged memo is tried anew
        probe(PatchCore(), [(8, 4, 4)], 5, CPU, tmp_path)


def test_a_long_fit_is_stopped_and_reckoned_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, steps = [0.0], []
    monkeypatch.setattr(forecasting.time, "perf_counter", lambda: now[0])

    def fit(self: FastFlow, features: Any, *, device: torch.device, on_step: Callable[..., None]) -> None:
        for done in range(1, 1001):
            now[0] += 0.25
            steps.append(done)
            on_step(done, 1000, "loss")

    monkeypatch.setattr(FastFlow, "fit", fit)
    cost = probe(FastFlow(), [(8, 4, 4)], 5, CPU, tmp_path)
    assert len(steps) < 10
    assert cost.fit_s == pytest.approx(250)
    assert cost.score_s == 0


def test_a_short_first_phase_is_run_to_its_end_and_the_next_reckoned_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(forecasting.time, "perf_counter", lambda: now[0])

    def fit(self: FastFlow, features: Any, *, device: torch.device, on_step: Callable[..., None]) -> None:
        for total, seconds in ((10, 0.4), (1000, 0.3)):
            for done in range(1, total + 1):
                now[0] += seconds
                on_step(done, total, "")

    monkeypatch.setattr(FastFlow, "fit", fit)
    assert probe(FastFlow(), [(8, 4, 4)], 5, CPU, tmp_path).fit_s == pytest.approx(4 + 300)


def test_a_fit_that_cannot_be_has_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adbench.detectors.patchcore.memory_bytes", lambda: 1000)
    reason = probe(PatchCore(), [(8, 4, 4)], 5, CPU, tmp_path).reason
    assert reason
    assert "take a deeper layer" in reason


def test_a_full_disk_is_told_beforehand(run: Run, command: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecasting.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    done = run(*command)
    assert done.code == 1
    assert "do not fit into the 0.0 GB that are free; free some, name another folder by --cache" in done.err
    assert "jobs planned" in done.out
    assert len(run(*command, "--json").json["obstacles"]) == 1


def test_a_cache_limit_lets_more_fit(run: Run, command: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    groups = run(*command, "--json").json["per_group"]
    free = sum(group["cache_bytes"] for group in groups) - 1
    monkeypatch.setattr(forecasting.shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    assert run(*command).code == 1
    assert run(*command, "--cache-limit", 0).code == 0


def test_too_many_workers_are_told_beforehand(run: Run, command: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    needed = run(*command, "--json").json["memory_bytes"]
    monkeypatch.setattr(forecasting, "memory_bytes", lambda: int(1.5 * needed))
    assert run(*command).code == 0
    done = run(*command, "--jobs", 2)
    assert done.code == 1
    assert "take fewer --jobs" in done.err


def test_a_detector_that_does_not_fit_is_an_obstacle_said_once(
    run: Run, command: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adbench.detectors.patchcore.PatchCore.unsupported", lambda self, shapes: "too small")
    found = run(*command, "--json").json
    (entry,) = found["cannot_run"]
    assert (entry["reason"], entry["jobs"]) == ("too small", sum(group["jobs"] for group in found["per_group"]))
    assert found["obstacles"] == [f"{entry['jobs']} jobs cannot run: too small"]
    done = run(*command)
    assert (done.code, done.out.count("too small"), done.err.count("too small")) == (1, 1, 0)
