"""Threads, batches and block sizes move no metric by more than 1e-6, nor does the seed of a detector that draws nothing."""

from pathlib import Path

import pytest
import torch

from adbench.detectors import mahalanobis, padim, patchcore
from adbench.detectors.search import bounds, coreset, nearest
from adbench.features import extraction
from adbench.features.view import View
from adbench.metrics.support import curves
from adbench.models.training import TrainingRequest, evaluate_model, train_model
from adbench.sweep.workspace import Workspace

SIDE = 64
DETECTORS = ("patchcore", "padim", "mahalanobis")


def metrics(parts: Path, folder: Path, detector: str, seed: int = 0, **params: float) -> dict[str, float]:
    """Extract, fit and score anew, into an empty cache."""
    workspace = Workspace(str(parts), folder / "cache", ("alpha",), "cpu")
    choices = TrainingRequest(detector, "efficientnet_lite0", "blocks.2.1.add", view=View(SIDE), eval_size=SIDE, seed=seed)
    train_model(workspace, choices, params, folder / "model.safetensors")
    found = evaluate_model(workspace, folder / "model.safetensors").metrics
    defined = {name: value for name, value in found.items() if value is not None}
    assert found.keys() - defined.keys() == {"au_spro", "aupimo"}  # no saturation areas, and too few pixels
    return defined


@pytest.fixture(scope="module")
def usual(parts: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, float]]:
    return {detector: metrics(parts, tmp_path_factory.mktemp(detector), detector) for detector in DETECTORS}


@pytest.mark.parametrize("detector", DETECTORS)
@pytest.mark.parametrize("threads", [1, 3])
def test_threads_move_no_metric(
    usual: dict[str, dict[str, float]], parts: Path, tmp_path: Path, detector: str, threads: int
) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert metrics(parts, tmp_path, detector) == pytest.approx(usual[detector], abs=1e-6)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("detector", DETECTORS)
def test_block_sizes_move_no_metric(
    usual: dict[str, dict[str, float]], parts: Path, tmp_path: Path, detector: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extraction, "HOST_BATCH", 3 * SIDE**2)
    monkeypatch.setitem(nearest.TILE, "cpu", 50)
    monkeypatch.setattr(coreset, "ROWS", 37)
    monkeypatch.setattr(bounds, "BLOCK", 1 << 12)
    monkeypatch.setattr(curves, "BLOCK", 1000)
    for module in (patchcore, padim, mahalanobis):
        monkeypatch.setattr(module, "_BATCH", 2)
    assert metrics(parts, tmp_path, detector) == pytest.approx(usual[detector], abs=1e-6)


def test_the_seed_moves_no_metric_where_nothing_is_drawn(usual: dict[str, dict[str, float]], parts: Path, tmp_path: Path) -> None:
    assert metrics(parts, tmp_path / "0", "mahalanobis", seed=7) == usual["mahalanobis"]
    whole = metrics(parts, tmp_path / "1", "patchcore", coreset_fraction=1)
    assert metrics(parts, tmp_path / "2", "patchcore", seed=7, coreset_fraction=1) == whole
