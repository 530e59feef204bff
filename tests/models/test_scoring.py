"""Scores of new images: the bits of eval, on any number of threads."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from adbench.data.pixels import read_pixels
from adbench.features.feature_maps import FeatureMaps
from adbench.models.files import load_model
from adbench.models.prediction import Scorer, first_call_alone, rounded
from adbench.sweep.pipeline import score
from adbench.sweep.workspace import Workspace
from adbench.types import Scores


@pytest.fixture
def scorer(workspace: Workspace, model: Path) -> Scorer:
    return Scorer.of(load_model(model), model, workspace)


def test_a_caller_may_decode_images_its_own_way(scorer: Scorer, parts: Path) -> None:
    paths = sorted((parts / "alpha/test").rglob("*.png"))[:3]
    seen = {}

    def read(path: Path, size: tuple[int, int], crop: float, white: float) -> np.ndarray:
        seen[path] = size
        return read_pixels(paths[0], size)

    maps = np.concatenate([scores.maps for scores in scorer.score(paths, read=read)])
    assert seen == dict.fromkeys(paths, (64, 64))
    assert maps.shape == (3, 16, 16)
    assert np.array_equal(maps[0], maps[2])


@pytest.fixture(params=[1, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_scores_are_those_of_eval(scorer: Scorer, workspace: Workspace, threads: int) -> None:
    inputs = workspace.single()
    expected, _ = score(workspace.runtime(), scorer.network, inputs, scorer.job, scorer.detector)
    found = list(scorer.score([sample.path for sample in inputs.category.test]))
    assert len(found) >= threads
    assert torch.get_num_threads() == threads
    assert np.array_equal(np.concatenate([part.image for part in found]), expected.image)
    assert np.array_equal(np.concatenate([part.maps for part in found]), expected.maps)


def test_batches_are_scored_by_the_threads_of_their_passes(scorer: Scorer, parts: Path, threads: int) -> None:
    seen = []

    def note(features: FeatureMaps, device: torch.device) -> Scores:
        seen.append((threading.current_thread() is threading.main_thread(), torch.get_num_threads()))
        return scorer.detector.score(features, device=device)

    listening = replace(scorer, detector=SimpleNamespace(score=note))
    found = list(listening.score(sorted((parts / "alpha/test").rglob("*.png"))))
    assert len(seen) == len(found)
    assert set(seen) == {(threads == 1, 1)}


def test_the_first_call_is_over_before_others_begin() -> None:
    made: list[int] = []
    started = threading.Barrier(4)

    def call(item: int) -> int:
        if not made:
            time.sleep(0.05)
            made.append(item)
        return item * made[0]

    def ask(item: int) -> int:
        started.wait()
        return alone(item)

    alone = first_call_alone(call)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(ask, range(1, 5)))
    assert len(made) == 1
    assert found == [item * made[0] for item in range(1, 5)]


def test_features_are_rounded_as_the_cache_rounds_them() -> None:
    features = np.array([[1 / 3, 1e5, -7e4, 65504.0]], np.float32)
    assert rounded(features, "float16").tolist() == [[np.float32(np.float16(1 / 3)), 1e5, -7e4, 65504.0]]
    assert rounded(features, "float32") is features
