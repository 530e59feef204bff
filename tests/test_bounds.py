"""Lower bounds never exceed a distance, and the rows that they leave hold the nearest one."""

import numpy as np
import pytest
import torch
from torch import Tensor

from adbench.detectors.bounds import GROUP, Bounds, make_bounds, rounding, strongest
from adbench.detectors.neighbours import NearestNeighbours


def features(count: int, dim: int = 160, rank: int = 12, seed: int = 0) -> Tensor:
    """(count, dim) rows that vary along `rank` directions, and a little along all."""
    draw, shape = np.random.default_rng(seed), np.random.default_rng(99).normal(size=(rank, dim))
    return torch.from_numpy(
        (draw.normal(size=(count, rank)) @ shape + 0.3 * draw.normal(size=(count, dim))).astype("f4")
    )


def brute(queries: Tensor, bank: Tensor) -> Tensor:
    return torch.cdist(queries.double(), bank.double())


@pytest.fixture(scope="module")
def bounds() -> Bounds:
    bank = features(1000)
    made = make_bounds(bank - bank.mean(0))
    assert made is not None
    return made


def test_directions_are_orthonormal_and_the_strongest() -> None:
    bank = features(1000)
    bank -= bank.mean(0)
    found = strongest(bank, 32)
    torch.testing.assert_close(found.T @ found, torch.eye(32), atol=1e-6, rtol=0)
    best = torch.linalg.svdvals(bank)[:12].square().sum()
    assert (bank @ found[:, :12]).square().sum() > 0.999 * best


def test_no_bound_exceeds_its_distance(bounds: Bounds) -> None:
    for scale in (1e-3, 1.0, 1e3):
        queries = features(64, seed=1) * scale
        reduced, gaps = bounds.reduce(queries).double(), brute(queries, bounds.bank).square()
        bound = torch.cdist(reduced, bounds.reduced.double()).square()
        slack = rounding(queries.square().sum(1), bounds.longest, reduced.shape[1])[:, None].double()
        assert (bound <= gaps + slack).all()
        assert (slack < 1e-3 * gaps.mean()).all()  # else it would be the rounding that makes it true


def test_the_nearest_row_is_that_of_brute_force(bounds: Bounds) -> None:
    queries = torch.cat([features(500, seed=2), bounds.bank[:30]])
    found = bounds.nearest(queries)
    known = found >= 0
    assert known.float().mean() > 0.95
    assert torch.equal(found[known], brute(queries, bounds.bank).argmin(1)[known])


def test_of_equal_rows_the_first_counts(bounds: Bounds) -> None:
    twice = torch.cat([bounds.bank, bounds.bank])
    assert torch.equal(Bounds(twice, bounds.directions).nearest(bounds.bank), torch.arange(len(bounds.bank)))


def test_a_query_that_is_far_from_all_is_left_open(bounds: Bounds) -> None:
    aside = torch.from_numpy(np.random.default_rng(0).normal(size=(4, 160)).astype("f4"))
    aside -= aside @ bounds.directions @ bounds.directions.T  # the bounds see its length alone
    far = 100 * aside / aside.norm(dim=1, keepdim=True)
    bank = features(100 * GROUP)
    assert (Bounds(bank, bounds.directions).nearest(far) == -1).all()
    assert (Bounds(bank, bounds.directions).nearest(torch.full((1, 160), torch.nan)) == -1).all()
    index = NearestNeighbours(bank)
    np.testing.assert_array_equal(index.query(far)[1][:, 0], brute(far, bank).argmin(1))


def test_a_bank_without_strong_directions_has_no_bounds() -> None:
    noise = torch.from_numpy(np.random.default_rng(0).normal(size=(2000, 160)).astype("f4"))
    assert make_bounds(noise) is None
    assert make_bounds(features(100)) is None  # too small to be worth it
    assert make_bounds(features(20_000, dim=16)) is None  # nothing to leave out


@pytest.mark.parametrize("threads", [1, 2])
def test_products_find_the_same_rows(threads: int) -> None:
    bank, queries = features(3000), torch.cat([features(300, seed=3), 5 * torch.randn(20, 160), features(3000)[:50]])
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        index = NearestNeighbours(bank)
        np.testing.assert_array_equal(index.query(queries)[1][:, 0], index._by_products(queries))
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("dim", [3, 20])
def test_where_products_cancel_differences_decide(dim: int) -> None:
    bank = torch.from_numpy(np.random.default_rng(0).normal(size=(1500, dim)).astype("f4"))
    queries = bank[:600] + 1e-4 * torch.randn(600, dim, generator=torch.Generator().manual_seed(0))
    assert make_bounds(bank) is None
    np.testing.assert_array_equal(NearestNeighbours(bank).query(queries)[1][:, 0], brute(queries, bank).argmin(1))


def test_a_query_has_the_same_bits_alone(bounds: Bounds) -> None:
    queries = features(40, seed=4)
    index = NearestNeighbours(bounds.bank)
    together = index.query(queries)[0]
    alone = np.concatenate([index.query(queries[i : i + 1])[0] for i in range(len(queries))])
    np.testing.assert_array_equal(together, alone)
