"""Lower bounds never exceed a distance, and the rows that they leave hold the nearest one."""

import numpy as np
import pytest
import torch
from torch import Tensor

from adbench.detectors.search import bounds as bounds_module
from adbench.detectors.search.bounds import GROUP, STEP, Bfloat16Bounds, Bounds, DirectionBounds, make_bounds
from adbench.detectors.search.bounds import strongest_directions as strongest
from adbench.detectors.search.nearest import NearestNeighbours


def features(count: int, dim: int = 160, rank: int = 12, seed: int = 0) -> Tensor:
    """(count, dim) rows that vary along `rank` directions, and a little along all."""
    draw, shape = np.random.default_rng(seed), np.random.default_rng(99).normal(size=(rank, dim))
    return torch.from_numpy((draw.normal(size=(count, rank)) @ shape + 0.3 * draw.normal(size=(count, dim))).astype("f4"))


def brute(queries: Tensor, bank: Tensor) -> Tensor:
    return torch.cdist(queries.double(), bank.double())


@pytest.fixture(scope="module", params=[DirectionBounds, Bfloat16Bounds])
def bounds(request: pytest.FixtureRequest) -> Bounds:
    bank = features(1000)
    bank -= bank.mean(0)
    return Bfloat16Bounds(bank) if request.param is Bfloat16Bounds else DirectionBounds(bank, strongest(bank, 64))


@pytest.fixture
def no_bfloat16_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU without tiles for bfloat16."""
    monkeypatch.setattr(bounds_module, "has_bfloat16_tiles", lambda: False)


def test_directions_are_orthonormal_and_the_strongest() -> None:
    bank = features(1000)
    bank -= bank.mean(0)
    found = strongest(bank, 32)
    torch.testing.assert_close(found.T @ found, torch.eye(32), atol=1e-6, rtol=0)
    best = torch.linalg.svdvals(bank)[:12].square().sum()
    assert (bank @ found[:, :12]).square().sum() > 0.999 * best


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_no_bound_exceeds_its_distance(bounds: Bounds, scale: float) -> None:
    queries = features(64, seed=1) * scale
    gaps = brute(queries, bounds.bank).square()
    matrix = bounds.matrix(queries)
    for column in range(len(bounds.bank)):
        assert (matrix.bits[:, column] <= bounds.limits(matrix, gaps[:, column].float())).all()
    behind = matrix.bits[:, len(bounds.bank) :]  # no row of the bank
    assert (behind > bounds.limits(matrix, gaps.amax(1).float())[:, None]).all()


def test_what_is_added_for_rounding_is_small(bounds: Bounds) -> None:
    queries = features(64, seed=1)
    gaps, added = brute(queries, bounds.bank).square(), bounds.matrix(queries).slack
    assert (added[:, None] < 1e-3 * gaps.mean()).all()  # else it would be this that makes the bounds true


def test_of_rounded_products_few_rows_are_left() -> None:
    noise = torch.from_numpy(np.random.default_rng(0).normal(size=(2000, 160)).astype("f4"))
    assert 0.5 < Bfloat16Bounds(noise).left(torch.arange(0, 2000, 10)) < 5


@pytest.mark.parametrize(("rows", "dim"), [(1, 1), (40, 3), (1000, 7), (GROUP * STEP + 1, 33)])
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e6])
def test_rounded_products_of_any_shape_find_the_nearest_row(rows: int, dim: int, scale: float) -> None:
    draw = np.random.default_rng(5)
    bank = torch.from_numpy((scale * draw.normal(size=(rows, dim))).astype("f4"))
    queries = torch.cat([torch.from_numpy((scale * draw.normal(size=(70, dim))).astype("f4")), bank[:9]])
    found = Bfloat16Bounds(bank).nearest(queries)
    known = found >= 0
    assert known.any()
    gaps = brute(queries, bank)
    torch.testing.assert_close(gaps[known].gather(1, found[known, None])[:, 0], gaps[known].amin(1), rtol=1e-6, atol=0)


def test_the_nearest_row_is_that_of_brute_force(bounds: Bounds) -> None:
    queries = torch.cat([features(500, seed=2), bounds.bank[:30]])
    found = bounds.nearest(queries)
    known = found >= 0
    assert known.float().mean() > 0.95
    assert torch.equal(found[known], brute(queries, bounds.bank).argmin(1)[known])


def test_of_equal_rows_the_first_counts(bounds: Bounds) -> None:
    twice = torch.cat([bounds.bank, bounds.bank])
    doubled = DirectionBounds(twice, bounds.directions) if isinstance(bounds, DirectionBounds) else Bfloat16Bounds(twice)
    assert torch.equal(doubled.nearest(bounds.bank), torch.arange(len(bounds.bank)))


def test_a_query_that_is_far_from_all_is_left_open(no_bfloat16_tiles: None) -> None:
    bank = features(100 * GROUP)
    directions = strongest(bank - bank.mean(0), 64)
    aside = torch.from_numpy(np.random.default_rng(0).normal(size=(4, 160)).astype("f4"))
    aside -= aside @ directions @ directions.T  # the bounds see its length alone
    far = 100 * aside / aside.norm(dim=1, keepdim=True)
    assert (DirectionBounds(bank, directions).nearest(far) == -1).all()
    index = NearestNeighbours(bank)
    np.testing.assert_array_equal(index.query(far)[1][:, 0], brute(far, bank).argmin(1))


def test_a_query_without_a_number_is_left_open(bounds: Bounds) -> None:
    assert (bounds.nearest(torch.full((2, 160), torch.nan)) == -1).all()


def test_the_bounds_of_least_cost_are_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    flat = torch.from_numpy(np.random.default_rng(0).normal(size=(2000, 160)).astype("f4"))
    for fast, kinds in ((True, (Bfloat16Bounds, Bfloat16Bounds)), (False, (type(None), DirectionBounds))):
        monkeypatch.setattr(bounds_module, "has_bfloat16_tiles", lambda fast=fast: fast)
        assert (type(make_bounds(flat)), type(make_bounds(features(2000)))) == kinds


def test_a_bank_without_strong_directions_has_no_bounds(no_bfloat16_tiles: None) -> None:
    noise = torch.from_numpy(np.random.default_rng(0).normal(size=(2000, 160)).astype("f4"))
    assert make_bounds(noise) is None
    assert make_bounds(features(100)) is None  # too small to be worth it
    assert make_bounds(features(20_000, dim=16)) is None  # nothing to leave out


@pytest.mark.parametrize("threads", [1, 2])
def test_products_find_the_same_rows(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    bank, queries = features(3000), torch.cat([features(300, seed=3), 5 * torch.randn(20, 160), features(3000)[:50]])
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        by_bounds = NearestNeighbours(bank).query(queries)[1]
        monkeypatch.setattr(bounds_module, "SMALLEST", bank.numel() + 1)  # no bounds for a bank of this size
        np.testing.assert_array_equal(by_bounds, NearestNeighbours(bank).query(queries)[1])
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("dim", [3, 20])
def test_where_products_cancel_differences_decide(dim: int, no_bfloat16_tiles: None) -> None:
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


def test_without_a_folder_for_machine_code_it_is_compiled_in_each_process(monkeypatch: pytest.MonkeyPatch) -> None:
    import numba

    from adbench.core import compiled as loops

    def njit(cache: bool = False, **options: object) -> object:
        if cache:
            raise RuntimeError("no locator available")
        return plain(**options)

    plain = numba.njit
    monkeypatch.setattr(numba, "njit", njit)
    square = loops.compiled(lambda number: number * number)
    assert square(3) == 9
    assert square.nopython_signatures  # type: ignore[attr-defined]


def test_a_query_that_is_no_number_is_near_no_row(bounds: Bounds) -> None:
    queries = features(8, seed=1)
    queries[3, 5] = torch.nan
    found = bounds.nearest(queries)
    assert found[3] == -1
    assert (found[torch.arange(8) != 3] >= 0).all()
