"""Nearest neighbors of queries in a bank of rows, by Euclidean distance: exact, or with faiss's inverted file.

One nearest row: on a CPU by lower bounds (bounds.py) where the bank allows it, else by a tiled matrix product with a running
minimum. In some hundred dimensions that is within a fifth of faiss either way, both near the peak of the product; in fewer,
and for few queries, it is twice as fast. Several nearest rows: faiss's `IndexFlatL2` on a CPU, whose heap beats a partial sort
of the products; `topk` on a GPU. benchmarks/neighbors.py and benchmarks/scoring.py measure them.
M rows of the bank, d dimensions, Q queries. Distances are plain, not squared, where nothing else is said.
"""

import math
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adbench.core.threads import workers
from adbench.detectors.search.bounds import Bounds, argmin, make_bounds

Rows = NDArray[np.generic] | Tensor
TILE = {"cpu": 512}  # rows and queries of one product: on a CPU 1 MB, which stays in the cache
MOST = 1024  # queries that lower bounds take at a time
DEVICE_TILE = 8192
FEWEST = 32  # queries of one product
REFINED = 1 << 18  # elements of one block of differences, likewise
SMALL = 1 << 26  # multiply-adds that take about as long as to start threads and to wait for them
SPARE = 4  # rows looked at beyond the k asked for, as products may swap rows that are equally near within rounding
CANCELS = 1 / 16  # of the squared norm: below that share float32 products give distances to less than 1e-6
LISTS, LEAST_PROBED = 4, 8  # an inverted file has LISTS sqrt(M) lists, of which a query searches so many at least
ROUNDS, PER_LIST = 10, 64  # of k-means, and rows for each of its centers


class NearestNeighbors:
    """A bank (M, d) that answers which of its rows are nearest to a query. Raise ValueError if it has no rows.

    All is taken relative to the bank's mean, so that less cancels in |q|^2 + |b|^2 - 2qb (distances stay the same). That
    form only finds the rows; the distances returned are those of differences: 0 for a query that is in the bank.
    """

    def __init__(self, bank: Rows, *, device: torch.device | str | None = None) -> None:
        self.bank = as_float32(bank).to(device or "cpu").contiguous()
        if self.bank.ndim != 2 or not self.bank.numel():
            raise ValueError(f"a bank must be a non-empty (M, d) array, not one of shape {tuple(self.bank.shape)}")
        self.center = self.bank.mean(0)
        self.centered = self.bank - self.center
        self.norms = self.centered.square().sum(1)
        self.tile = TILE.get(self.bank.device.type, DEVICE_TILE)

    @cached_property
    def _bounds(self) -> Bounds | None:
        return make_bounds(self.bank) if self.bank.device.type == "cpu" else None

    def __len__(self) -> int:
        return len(self.bank)

    def query(self, queries: Rows, k: int = 1) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return distances (Q, k) float32, nearest first, and the bank rows' indices (Q, k) int64.

        Equal distances come by index. Raise ValueError for a k outside of 1..M or queries (Q, d) of another d.
        """
        distances, indices = self.find(queries, k)
        return distances.cpu().numpy(), indices.cpu().numpy()

    def find(self, queries: Rows, k: int = 1) -> tuple[Tensor, Tensor]:
        """Return what `query` does, as tensors on the bank's device."""
        if not 1 <= k <= len(self):
            raise ValueError(f"k must be within 1..{len(self)}, the number of rows of the bank, not {k}")
        rows = as_float32(queries).to(self.bank.device).contiguous()  # patches of one image lie channel by channel
        if rows.ndim != 2 or rows.shape[1] != self.bank.shape[1]:
            raise ValueError(f"queries must be (Q, {self.bank.shape[1]}) like the bank, not {tuple(rows.shape)}")
        distances = torch.empty(len(rows), k, device=rows.device)
        indices = torch.empty(len(rows), k, dtype=torch.int64, device=rows.device)
        with torch.inference_mode():
            candidates = self._candidates(rows, k)
            if candidates is not None:
                work = float(candidates.shape[1] * rows.shape[1])
            else:  # the bounds are made here, not by several threads at once
                work = self._bounds.work if self._bounds else self.bank.numel()
            worth = len(rows) * work > SMALL
            step = self._step(len(rows), candidates, torch.get_num_threads() if worth else 1)

            def answer(start: int) -> None:
                part = slice(start, start + step)
                found = candidates[part] if candidates is not None else self._nearest(rows[part])[:, None]
                distances[part], indices[part] = self._refine(rows[part], found, k)

            with workers(rows.device, worth) as spread:
                spread(answer, range(0, len(rows), step))
        return distances, indices

    def _candidates(self, queries: Tensor, k: int) -> Tensor | None:
        """Return the indices (Q, >= k) of rows that hold the k nearest, in any order; None for one row: see `_nearest`."""
        if k == 1:
            return None
        count, centered = min(k + SPARE, len(self)), queries - self.center
        if self.bank.device.type == "cpu":
            return torch.from_numpy(self._index.search(centered.numpy(), count)[1])
        return by_topk(self.centered, centered, count)

    @cached_property
    def _index(self) -> Any:
        import faiss  # slow to import, and one nearest row needs none

        index = faiss.IndexFlatL2(self.bank.shape[1])
        index.add(self.centered.numpy())
        return index

    def _step(self, queries: int, candidates: Tensor | None, threads: int) -> int:
        """Return how many queries a thread takes at a time: some for each thread, and few if they have `candidates`.

        On a GPU, whose host waits after each step, as many as memory allows.
        """
        numbers = (1 if candidates is None else candidates.shape[1]) * self.bank.shape[1]
        if self.bank.device.type != "cpu":
            return max(1, min(self.tile, DEVICE_TILE**2 // numbers))
        share = max(FEWEST, math.ceil(queries / threads))
        if candidates is not None:
            return max(1, min(self.tile, share, REFINED // numbers))
        return min(share, MOST if self._bounds else self.tile)

    def _nearest(self, queries: Tensor) -> Tensor:
        """Return the index of the nearest row (Q,)."""
        if self._bounds is None or _is_rough():
            return self._by_products(queries)
        index = self._bounds.nearest(queries)
        many = torch.nonzero(index < 0)[:, 0]
        if len(many):
            index[many] = self._by_products(queries[many])
        return index

    def _by_products(self, queries: Tensor) -> Tensor:
        """Return the index of the nearest row (Q,), measured again where its float32 product may have cancelled."""
        value, index, norms = self._search(queries, torch.float32)
        close = torch.nonzero(torch.ones_like(norms) if _is_rough() else value < norms * (CANCELS - 1))[:, 0]
        if len(close) and self.bank.device.type == "cpu" and not _is_rough():
            index[close] = self._measured(queries[close] - self.center, value[close], norms[close])
        elif len(close) and self.bank.device.type != "mps":
            index[close] = self._search(queries[close], torch.float64)[1]
        return index

    def _measured(self, centered: Tensor, value: Tensor, norms: Tensor) -> Tensor:
        """Return the index of the nearest row (Q,), by differences to all rows that products cannot exclude.

        value: the least |b|^2 - 2qb of each query (Q,), norms: its |q|^2, both relative to the bank's mean.
        """
        from adbench.detectors.search.kernels import nearest_within  # slow to import

        # float32 products of d numbers round squared distances by up to that much: several times what was measured
        rounding = (
            2 * (centered.shape[1] + 32) * torch.finfo(torch.float32).eps * (norms.sqrt() + self.norms.max().sqrt()).square()
        )
        limit = value + 2 * rounding
        squared, index = torch.full_like(norms, torch.inf), torch.full((len(norms),), -1)
        for first in range(0, len(self), self.tile):
            bank, squares = self._tile(first, torch.float32)
            values = torch.addmm(squares, centered, bank.T, alpha=-2).numpy()
            nearer = index - first
            nearest_within(values, limit.numpy(), bank.numpy(), centered.numpy(), squared.numpy(), nearer.numpy())
            index = nearer + first
        return index

    def _search(self, queries: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """Return the least |b|^2 - 2qb of each query, the row's index, and |q|^2, all relative to the bank's mean, (Q,)."""
        centered, found = queries.to(dtype) - self.center.to(dtype), list[tuple[Tensor, Tensor]]()
        for first in range(0, len(self), self.tile):
            bank, norms = self._tile(first, dtype)
            product = torch.addmm(norms, centered, bank.T, alpha=-2)
            which = argmin(product)
            found.append((product.gather(1, which[:, None])[:, 0], which + first if first else which))
        value, index = found[0]
        for least, which in found[1:]:
            nearer = least < value
            value, index = torch.where(nearer, least, value), torch.where(nearer, which, index)
        return value, index, centered.square_().sum(1)

    def _tile(self, first: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Return some rows of the bank relative to its mean, and their squared norms."""
        rows = slice(first, first + self.tile)
        if dtype == torch.float32:
            return self.centered[rows], self.norms[rows]
        bank = self.bank[rows].to(dtype) - self.center.to(dtype)
        return bank, bank.square().sum(1)

    def _refine(self, queries: Tensor, found: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Return the k smallest distances by differences (Q, k) among the rows `found` (Q, >= k), and their indices."""
        if found.shape[1] == 1 and self.bank.device.type == "cpu":
            from adbench.detectors.search import kernels  # slow to import

            distances = torch.empty(len(queries), 1)
            kernels.distances(self.bank.numpy(), queries.numpy(), found[:, 0].numpy(), distances[:, 0].numpy())
            return distances, found
        several = found.shape[1] > 1
        found = found.sort(dim=1).values if several else found
        rows = self.bank.index_select(0, found.flatten()).view(*found.shape, queries.shape[1])  # bank[found] is slower
        distances = rows.sub_(queries[:, None]).square_().sum(2).sqrt_()
        if not several:
            return distances, found
        distances, order = distances.sort(dim=1, stable=True)
        return distances[:, :k], found.gather(1, order[:, :k])


class InvertedFile(NearestNeighbors):
    """An approximate search on the CPU for banks that are too large for an exact one: faiss's `IndexIVFFlat`.

    The rows are divided among 4 sqrt(M) lists by the nearest of as many centers (at most M / 39: k-means wants 39 rows each).
    A query searches the sqrt(lists) / 2 lists whose centers are nearest, at least 8: about M^(3/4) / 4 rows and 4 sqrt(M)
    centers. If these hold too few rows, it is searched exactly. `centers` (lists, d), relative to the bank's mean, are made
    by k-means on one thread, so that the seed alone decides them.
    """

    def __init__(self, bank: Rows, seed: int = 0, centers: Tensor | None = None) -> None:
        super().__init__(bank)
        import faiss  # slow to import

        rows, lists = self.centered.numpy(), max(1, min(round(LISTS * math.sqrt(len(self))), len(self) // 39))
        flat = faiss.IndexFlatL2(rows.shape[1])
        threads = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(1)  # on several, sums are formed in another order
        try:
            if centers is None:
                limits = {"min_points_per_centroid": 1, "max_points_per_centroid": PER_LIST}
                means = faiss.Kmeans(rows.shape[1], lists, niter=ROUNDS, seed=seed, **limits)
                means.train(rows)
                centers = torch.from_numpy(np.array(means.centroids))
            flat.add(centers.numpy())
            self._lists = faiss.IndexIVFFlat(flat, rows.shape[1], len(centers))
            self._lists.train(rows)  # has its centers already
            self._lists.add(rows)
        finally:
            faiss.omp_set_num_threads(threads)
        self.centers, self._lists.nprobe = centers, min(len(centers), max(LEAST_PROBED, round(math.sqrt(len(centers)) / 2)))

    def _candidates(self, queries: Tensor, k: int) -> Tensor:
        centered, count = queries - self.center, min(k + SPARE, len(self)) if k > 1 else 1
        found = torch.from_numpy(self._lists.search(centered.numpy(), count)[1])
        short = torch.nonzero(found.amin(1) < 0)[:, 0]
        if len(short):
            found[short] = by_topk(self.centered, centered[short], count)
        return found

    def recall(self, queries: Tensor) -> float:
        """Return recall@1: the share of queries (Q, d) whose nearest row is found. A query's own row does not count."""
        k = min(2, len(self))
        with torch.inference_mode():
            exact = by_topk(self.centered, queries - self.center, min(k + SPARE, len(self)))
            least = self._refine(queries, exact, k)[0]
            hits = self.find(queries, k)[0] <= least * (1 + 1e-6)
        other = (least[:, :1] == 0).long() * (k - 1)
        return float(hits.gather(1, other).float().mean())


def _is_rough() -> bool:
    """Return whether the caller allows TF32 or bfloat16 products, which are not precise enough here."""
    return torch.get_float32_matmul_precision() != "highest"


def by_topk(bank: Tensor, queries: Tensor, count: int) -> Tensor:
    """Return the indices (Q, count) of the rows of `bank` nearest to each of `queries`, in any order, on any device."""
    norms, step = bank.square().sum(1), max(1, DEVICE_TILE**2 // len(bank))
    products = (torch.addmm(norms, part, bank.T, alpha=-2) for part in torch.split(queries, step))
    return torch.cat([product.topk(count, largest=False).indices for product in products])


def as_float32(rows: Rows) -> Tensor:
    """Return `rows` as a float32 tensor that shares their memory where it can (read-only arrays are copied)."""
    if isinstance(rows, Tensor):
        return rows.detach().float()
    array = np.asarray(rows, np.float32)
    return torch.from_numpy(array if array.flags.writeable else array.copy())
