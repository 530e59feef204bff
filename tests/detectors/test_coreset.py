"""The coreset: the same picks as the textbook loop, whatever the data."""

import numpy as np
import pytest
import torch

from adbench.detectors.search import bounds, coreset, coreset_gpu, greedy_coreset, project
from adbench.types import ignore_step

RNG = np.random.default_rng(0)


def textbook(points, num_picks, start=0):
    points = points.astype(np.float64)
    picks, gap = [start], np.full(len(points), np.inf)
    while len(picks) < num_picks:
        gap = np.minimum(gap, ((points - points[picks[-1]]) ** 2).sum(1))
        gap[picks] = -1
        picks.append(int(gap.argmax()))
    return picks


def clusters(rng, spread):
    centers = rng.normal(size=(20, 16))
    return np.repeat(centers, 60, 0) + spread * rng.normal(size=(1200, 16))


DATA = {
    "random": lambda rng: rng.normal(size=(3000, 24)),
    "low rank": lambda rng: rng.normal(size=(3000, 4)) @ rng.normal(size=(4, 64)),
    "far from zero": lambda rng: 1000 + rng.normal(size=(2000, 8)),
    "integers": lambda rng: rng.integers(0, 3, size=(3000, 6)),
    "bits": lambda rng: rng.integers(0, 2, size=(3000, 5)),
    "line": lambda rng: np.arange(2000)[:, None],
    "duplicates": lambda rng: np.repeat(rng.normal(size=(50, 8)), 6, 0),
    "constant": lambda rng: np.ones((200, 3)),
    "two heaps": lambda rng: rng.normal(size=(4000, 8)) + np.repeat([[0], [100]], 2000, 0),
    "clusters": lambda rng: clusters(rng, 1e-2),
    "tight clusters": lambda rng: clusters(rng, 1e-5),
}


@pytest.mark.parametrize("kind", DATA)
def test_picks_are_those_of_the_textbook_loop(kind):
    points = DATA[kind](np.random.default_rng(0)).astype(np.float32)
    num_picks = len(points) // 5
    assert greedy_coreset(points, num_picks, 7).tolist() == textbook(points, num_picks, 7)


def test_by_hand():
    assert greedy_coreset(np.array([[0.0], [1], [5], [6]]), 4, start=1).tolist() == [1, 3, 0, 2]  # 0 and 2 tie


def test_all_points_can_be_picked():
    points = RNG.normal(size=(300, 5)).astype(np.float32)
    assert greedy_coreset(points, 300).tolist() == textbook(points, 300)


def test_duplicates_come_last_and_by_index():
    points = np.array([[2.0], [0], [0], [2], [1]])
    assert greedy_coreset(points, 5, start=3).tolist() == [3, 1, 4, 0, 2]


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_scale_does_not_matter(scale):
    points = RNG.normal(size=(500, 6)).astype(np.float32)
    scaled = points * np.float32(scale)
    assert greedy_coreset(scaled, 50).tolist() == textbook(scaled, 50)


@pytest.mark.parametrize("precision", ["high", "medium"])
def test_products_of_low_precision_change_nothing(precision):
    points = RNG.normal(size=(2000, 30)).astype(np.float32)
    expected = greedy_coreset(points, 200)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        assert (greedy_coreset(points, 200) == expected).all()
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("precision", bounds.PRECISIONS, ids=lambda precision: str(precision.dtype))
@pytest.mark.parametrize("kind", DATA)
def test_bounds_of_any_precision_change_nothing(kind, precision, monkeypatch):
    points = DATA[kind](np.random.default_rng(2)).astype(np.float32)
    num_picks = len(points) // 8
    monkeypatch.setattr(coreset, "PRECISIONS", (precision,))
    monkeypatch.setattr(coreset, "has_bfloat16_tiles", lambda: True)  # so it starts with the first one
    assert greedy_coreset(points, num_picks, 3).tolist() == textbook(points, num_picks, 3)


def test_where_bounds_tell_little_they_become_more_precise(monkeypatch):
    turned, set_precision = [], coreset.SelectionOnCpu._set_precision
    monkeypatch.setattr(
        coreset.SelectionOnCpu, "_set_precision", lambda self, number: (turned.append(number), set_precision(self, number))
    )
    monkeypatch.setattr(coreset, "has_bfloat16_tiles", lambda: True)
    greedy_coreset(DATA["random"](np.random.default_rng(0)), 600)
    assert turned == [0]
    tight = np.repeat(RNG.normal(size=(4, 16)), 500, 0) + 1e-5 * RNG.normal(size=(2000, 16))
    greedy_coreset(tight, 600)
    assert turned == [0, 0, 1, 2]


@pytest.mark.parametrize(("name", "value"), [("ROWS", 37), ("CHUNK", 32), ("AMONG", 20), ("HELD", (3, 20, 40))])
def test_block_sizes_change_nothing(name, value, monkeypatch):
    points = RNG.normal(size=(2000, 10)).astype(np.float32)
    expected = greedy_coreset(points, 300)
    monkeypatch.setattr(coreset, name, value)
    assert (greedy_coreset(points, 300) == expected).all()


def test_the_sample_of_a_level_changes_nothing(monkeypatch):
    points = RNG.normal(size=(2000, 10)).astype(np.float32)
    expected = greedy_coreset(points, 300)
    monkeypatch.setattr(coreset, "SAMPLE", 50)
    assert (greedy_coreset(points, 300) == expected).all()


def test_threads_change_nothing():
    points = RNG.normal(size=(4000, 20)).astype(np.float32)
    before, picks = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            picks.append(greedy_coreset(points, 300).tolist())
    finally:
        torch.set_num_threads(before)
    assert picks[0] == picks[1]


@pytest.mark.parametrize("at_once", [coreset_gpu.MOST_AT_ONCE, 0])
@pytest.mark.parametrize("kind", ["random", "integers", "tight clusters", "duplicates"])
def test_the_accelerators_way_agrees(kind, at_once, monkeypatch):
    points = DATA[kind](np.random.default_rng(1)).astype(np.float32)
    monkeypatch.setattr(coreset_gpu, "BLOCK", 999)
    monkeypatch.setattr(coreset_gpu, "MOST_AT_ONCE", at_once)
    with torch.inference_mode():
        picks = coreset_gpu.SelectionOnGpu(torch.from_numpy(points), len(points) // 3, 0).run(ignore_step)
    assert picks.tolist() == textbook(points, len(points) // 3)


def test_a_tensor_or_a_read_only_array_will_do():
    points = RNG.normal(size=(100, 4)).astype(np.float32)
    picks = greedy_coreset(torch.from_numpy(points), 9)
    points.flags.writeable = False
    assert picks.dtype == np.int64
    assert (greedy_coreset(points, 9) == picks).all()


def test_progress_is_reported_a_few_dozen_times():
    steps = []
    greedy_coreset(RNG.normal(size=(3000, 3)), 2000, on_step=lambda *step: steps.append(step))
    assert 1 <= len(steps) <= 40
    assert steps[-1] == (2000, 2000, "coreset")


@pytest.mark.parametrize(
    ("points", "num_picks", "start", "message"),
    [
        (np.ones(3), 1, 0, "points must be a non-empty (N, d) array, not one of shape (3,)"),
        (np.ones((3, 2)), 4, 0, "num_picks must be within 1..3, the number of points, not 4"),
        (np.ones((3, 2)), 0, 0, "num_picks must be within 1..3, the number of points, not 0"),
        (np.ones((3, 2)), 1, 3, "start must be within 0..2, not 3"),
        (np.array([[np.nan], [1]]), 1, 0, "points must be finite, but some values are NaN or infinite"),
        (np.array([[np.inf], [1]]), 1, 0, "points must be finite, but some values are NaN or infinite"),
    ],
)
def test_what_does_not_fit_is_refused(points, num_picks, start, message):
    with pytest.raises(ValueError) as error:
        greedy_coreset(points, num_picks, start)
    assert str(error.value) == message


def test_a_projection_keeps_distances_and_follows_the_seed():
    points = RNG.normal(size=(50, 2000)).astype(np.float32)
    small = project(points, 1000, seed=3)
    ratio = np.linalg.norm(small[1:] - small[0], axis=1) / np.linalg.norm(points[1:] - points[0], axis=1)
    np.testing.assert_allclose(ratio, 1, atol=0.12)
    assert (small == project(points, 1000, seed=3)).all()
    assert not (small == project(points, 1000, seed=4)).any()


def test_nothing_is_projected_where_that_would_not_shrink():
    points = RNG.normal(size=(50, 20)).astype(np.float32)
    assert (project(points, 20, 0) == points).all()
