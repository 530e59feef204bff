"""The coreset: the same picks as the textbook loop, whatever the data."""

import numpy as np
import pytest

from adbench.detectors.coreset import greedy_coreset, project


def textbook(points, num_picks, start=0):
    points = points.astype(np.float64)
    picks, gap = [start], np.full(len(points), np.inf)
    while len(picks) < num_picks:
        gap = np.minimum(gap, ((points - points[picks[-1]]) ** 2).sum(1))
        gap[picks] = -1
        picks.append(int(gap.argmax()))
    return picks


def clusters(rng, spread):
    centres = rng.normal(size=(20, 16))
    return np.repeat(centres, 60, 0) + spread * rng.normal(size=(1200, 16))


DATA = {
    "random": lambda rng: rng.normal(size=(3000, 24)),
    "low rank": lambda rng: rng.normal(size=(3000, 4)) @ rng.normal(size=(4, 64)),
    "far from zero": lambda rng: 1000 + rng.normal(size=(2000, 8)),
    "integers": lambda rng: rng.integers(0, 3, size=(3000, 6)),
    "bits": lambda rng: rng.integers(0, 2, size=(3000, 5)),
    "line": lambda rng: np.arange(2000)[:, None],
    "duplicates": lambda rng: np.repeat(rng.normal(size=(50, 8)), 6, 0),
    "constant": lambda rng: np.ones((200, 3)),
    "clusters": lambda rng: clusters(rng, 1e-2),
    "tight clusters": lambda rng: clusters(rng, 1e-5),
}


@pytest.mark.parametrize("kind", DATA)
def test_picks_are_those_of_the_textbook_loop(kind):
    points = DATA[kind](np.random.default_rng(0)).astype(np.float32)
    num_picks = len(points) // 5
    assert greedy_coreset(points, num_picks, 7).tolist() == textbook(points, num_picks, 7)


def test_all_points_can_be_picked():
    points = np.random.default_rng(0).normal(size=(300, 5)).astype(np.float32)
    assert greedy_coreset(points, 300).tolist() == textbook(points, 300)


def test_projection_only_where_it_shrinks():
    points = np.random.default_rng(0).normal(size=(50, 20)).astype(np.float32)
    assert project(points, 8, 0).shape == (50, 8)
    assert (project(points, 20, 0) == points).all()
    assert (project(points, 8, 0) == project(points, 8, 0)).all()
