"""Nearest neighbours: as by brute force, near zero too, and the same however the queries are cut."""

import faiss
import numpy as np
import pytest
import torch

from adbench.detectors.search.nearest import InvertedFile, NearestNeighbours, by_topk

RNG = np.random.default_rng(0)
BANK = (5 + RNG.normal(size=(1300, 20))).astype(np.float32)
QUERIES = (5 + RNG.normal(size=(700, 20))).astype(np.float32)


def brute_force(bank, queries, k):
    gap = np.linalg.norm(queries[:, None].astype(np.float64) - bank, axis=2)
    order = np.argsort(gap, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(gap, order, 1), order


@pytest.mark.parametrize("k", [1, 2, 9])
def test_as_by_brute_force(k):
    distances, indices = NearestNeighbours(BANK).query(QUERIES, k)
    expected, order = brute_force(BANK, QUERIES, k)
    assert distances.dtype == np.float32 and indices.dtype == np.int64
    np.testing.assert_allclose(distances, expected, rtol=1e-6)
    assert (indices == order).all()


def test_by_hand():
    distances, indices = NearestNeighbours(np.array([[0.0, 0], [3, 4], [6, 8]])).query(np.array([[3.0, 0]]), 3)
    assert indices.tolist() == [[0, 1, 2]]
    np.testing.assert_allclose(distances, [[3, 4, 73**0.5]], rtol=1e-6)


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("offset", [0, 1000])
def test_a_row_of_the_bank_is_at_distance_zero(k, offset):
    bank = BANK + np.float32(offset)
    distances, indices = NearestNeighbours(bank).query(bank, k)
    assert (distances[:, 0] == 0).all()
    assert (indices[:, 0] == np.arange(len(bank))).all()


def test_rows_far_closer_to_each_other_than_to_the_mean_are_told_apart():
    near = np.repeat(BANK[:50], 8, 0) + 1e-4 * RNG.normal(size=(400, 20)).astype(np.float32)
    distances, indices = NearestNeighbours(near).query(near[:100])
    assert (distances == 0).all() and (indices[:, 0] == np.arange(100)).all()


@pytest.mark.parametrize("k", [1, 5])
def test_the_batch_size_changes_nothing(k):
    nearest = NearestNeighbours(BANK)
    whole, _ = nearest.query(QUERIES, k)
    parts = [nearest.query(part, k)[0] for part in np.array_split(QUERIES, 40)]
    np.testing.assert_allclose(np.concatenate(parts), whole, rtol=1e-6)


@pytest.mark.parametrize("k", [1, 2])
def test_equal_rows_come_by_index(k):
    twice = np.concatenate([BANK[:600], BANK[:600]])
    _, indices = NearestNeighbours(twice).query(BANK[:600], k)
    assert (indices == np.arange(600)[:, None] + [0, 600][:k]).all()


def test_products_of_low_precision_are_not_trusted():
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        indices = NearestNeighbours(BANK).query(QUERIES)[1]
    finally:
        torch.set_float32_matmul_precision(before)
    assert (indices == brute_force(BANK, QUERIES, 1)[1]).all()


def test_the_size_of_a_tile_changes_nothing():
    nearest = NearestNeighbours(BANK)
    nearest.tile = 300
    assert (nearest.query(QUERIES)[1] == brute_force(BANK, QUERIES, 1)[1]).all()


def test_the_accelerators_way_to_several_neighbours():
    found = by_topk(torch.from_numpy(BANK - 5), torch.from_numpy(QUERIES - 5), 4).sort(1).values
    assert (found.numpy() == np.sort(brute_force(BANK, QUERIES, 4)[1], axis=1)).all()


@pytest.mark.parametrize(
    ("bank", "queries", "k", "message"),
    [
        (BANK[:0], QUERIES, 1, "a bank must be a non-empty (M, d) array, not one of shape (0, 20)"),
        (BANK, QUERIES, 0, "k must be within 1..1300, the number of rows of the bank, not 0"),
        (BANK, QUERIES[:, :3], 1, "queries must be (Q, 20) like the bank, not (700, 3)"),
    ],
)
def test_what_does_not_fit_is_refused(bank, queries, k, message):
    with pytest.raises(ValueError) as error:
        NearestNeighbours(bank).query(queries, k)
    assert str(error.value) == message


def test_no_queries_give_no_answers():
    distances, indices = NearestNeighbours(BANK).query(QUERIES[:0])
    assert distances.shape == indices.shape == (0, 1)


def low_rank(count, seed, dim=32):
    """Points that vary along 6 directions, as features do."""
    draw, directions = np.random.default_rng(seed), np.random.default_rng(9).normal(size=(6, dim))
    return (draw.normal(size=(count, 6)) @ directions + 0.1 * draw.normal(size=(count, dim))).astype(np.float32)


@pytest.mark.parametrize("k", [1, 3])
def test_an_inverted_file_finds_most_nearest_rows_at_their_distances(k):
    bank, queries = low_rank(6000, 0), low_rank(400, 1)
    distances, indices = InvertedFile(bank).query(queries, k)
    exact, rows = NearestNeighbours(bank).query(queries, k)
    same = indices[:, 0] == rows[:, 0]
    assert 0.9 < same.mean() < 1  # it does not look at all rows
    np.testing.assert_allclose(distances[same, 0], exact[same, 0], rtol=1e-6)
    assert (distances >= exact * (1 - 1e-6)).all()


def test_the_recall_is_the_share_of_nearest_rows_found():
    bank, queries = low_rank(6000, 0), torch.from_numpy(low_rank(400, 1))
    index = InvertedFile(bank)
    same = index.query(queries)[1] == NearestNeighbours(bank).query(queries)[1]
    assert index.recall(queries) == pytest.approx(same.mean(), abs=1e-6)
    own = index.recall(torch.from_numpy(bank[:400]))  # of the nearest OTHER row
    second = index.query(bank[:400], 2)[1][:, 1] == NearestNeighbours(bank).query(bank[:400], 2)[1][:, 1]
    assert own == pytest.approx(second.mean(), abs=1e-6)
    assert 0.9 < own < 1


def test_the_seed_alone_decides_an_inverted_file():
    bank, queries, found = low_rank(6000, 0), low_rank(400, 1), []
    before, threads = faiss.omp_get_max_threads(), (1, 3)
    try:
        for number in threads:
            faiss.omp_set_num_threads(number)
            found.append(InvertedFile(bank, seed=5).query(queries))
            assert faiss.omp_get_max_threads() == number
    finally:
        faiss.omp_set_num_threads(before)
    np.testing.assert_array_equal(found[0], found[1])
    assert (InvertedFile(bank, seed=6).query(queries)[0] != found[0][0]).any()


@pytest.mark.parametrize("rows", [1, 2, 50, 300])
def test_an_inverted_file_of_few_or_equal_rows_answers(rows):
    for bank in (BANK[:rows], np.ones((rows, 20), np.float32)):
        k = min(3, rows)
        expected = brute_force(bank, QUERIES[:30], k)[0]
        np.testing.assert_allclose(InvertedFile(bank).query(QUERIES[:30], k)[0], expected, rtol=1e-5)
