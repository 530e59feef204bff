"""Exact nearest neighbours of queries in a bank of rows, by Euclidean distance.

One nearest row: on a CPU by lower bounds (pruning.py) where the bank allows it, else by a tiled matrix product with a running
minimum, no heap: where the dimension is some hundred it is within a fifth of faiss either way, both near the peak of the
product; below that, and for few queries, it is twice as fast.
Several nearest rows: faiss `IndexFlatL2` on a CPU, whose heap beats a partial sort of the products; `topk` on a GPU.
benchmarks/neighbours.py and benchmarks/scoring.py measure them.
"""

import math
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adbench.core.threads import workers
from adbench.detectors.search.bounds import Bounds, argmin, make_bounds, rounding

Rows = NDArray[np.generic] | Tensor
TILE = {"cpu": 512}  # rows and queries of one product: on a CPU 1 MB, which stays in the cache
MOST = 1024  # queries that lower bounds take at a time
DEVICE_TILE = 8192
FEWEST = 32  # queries of one product
REFINED = 1 << 18  # elements of one block of differences, likewise
SMALL = 1 << 26  # multiply-adds that take about as long as to start threads and to wait for them
SPARE = 4  # rows looked at beyond the k asked for, as products may swap rows that are equally near within rounding
CANCELS = 1 / 16  # of the squared norm: below that share a float32 product tells distances apart to less than 1e-6


class NearestNeighbours:
    """A bank (M, d) that answers which of its rows lie nearest to a query. Raise ValueError if it has no rows.

    All is taken relative to the bank's mean, so that less cancels in |q|^2 + |b|^2 - 2qb (distances stay the same). That
    form only finds the rows; the distances returned are those of differences: 0 for a query that is in the bank.
    """

    def __init__(self, bank: Rows, *, device: torch.device | str | None = None) -> None:
        self.bank = as_float32(bank).to(device or "cpu").contiguous()
        if self.bank.ndim != 2 or not self.bank.numel():
            raise ValueError(f"a bank must be a non-empty (M, d) array, not one of shape {tuple(self.bank.shape)}")
        self.centre = self.bank.mean(0)
        self.centred = self.bank - self.centre
        self.norms = self.centred.square().sum(1)
        self.tile = TILE.get(self.bank.device.type, DEVICE_TILE)

    @cached_property
    def _bounds(self) -> Bounds | None:
        return make_bounds(self.bank) if self.bank.device.type == "cpu" else None

    def __len__(self) -> int:
        return len(self.bank)

    def query(self, queries: Rows, k: int = 1) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return distances (Q, k) float32 (L2, not squared), nearest first, and the bank rows' indices (Q, k) int64.

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
            several = None if k == 1 else self._several(rows, min(k + SPARE, len(self)))
            worth = len(rows) * self._work(several) > SMALL
            step = self._step(len(rows), several, torch.get_num_threads() if worth else 1)

            def answer(start: int) -> None:
                part = slice(start, start + step)
                found = several[part] if several is not None else self._nearest(rows[part])[:, None]
                distances[part], indices[part] = self._refine(rows[part], found, k)

            with workers(rows.device, worth) as spread:
                spread(answer, range(0, len(rows), step))
        return distances, indices

    def _work(self, several: Tensor | None) -> float:
        """Return the multiply-adds that a query counts as, of which `several` (Q, n) rows have been found, if any."""
        if several is not None:
            return several.shape[1] * self.bank.shape[1]
        return self._bounds.work if self._bounds else self.bank.numel()  # made here, not by several threads at once

    def _step(self, queries: int, several: Tensor | None, threads: int) -> int:
        """Return how many queries a thread takes at a time: some for each thread, and few if `several` rows are found.

        On a GPU, whose host waits after each step, as many as memory reaches for.
        """
        numbers = (1 if several is None else several.shape[1]) * self.bank.shape[1]
        if self.bank.device.type != "cpu":
            return max(1, min(self.tile, DEVICE_TILE**2 // numbers))
        share = max(FEWEST, math.ceil(queries / threads))
        if several is not None:
            return max(1, min(self.tile, share, REFINED // numbers))
        return min(share, MOST if self._bounds else self.tile)

    def _nearest(self, queries: Tensor) -> Tensor:
        """Return the index of the nearest row (Q,)."""
        if self._bounds is None or _rough():
            return self._by_products(queries)
        index = self._bounds.nearest(queries)
        many = torch.nonzero(index < 0)[:, 0]
        if len(many):
            index[many] = self._by_products(queries[many])
        return index

    def _by_products(self, queries: Tensor) -> Tensor:
        """Return the index of the nearest row (Q,); where its float32 product may have cancelled, by a second look."""
        value, index, norms = self._search(queries, torch.float32)
        close = torch.nonzero(torch.ones_like(norms) if _rough() else value < norms * (CANCELS - 1))[:, 0]
        if len(close) and self.bank.device.type == "cpu" and not _rough():
            index[close] = self._measured(queries[close] - self.centre, value[close], norms[close])
        elif len(close) and self.bank.device.type != "mps":
            index[close] = self._search(queries[close], torch.float64)[1]
        return index

    def _measured(self, centred: Tensor, value: Tensor, norms: Tensor) -> Tensor:
        """Return the index of the nearest row (Q,), by differences to all rows that are as near as products can tell.

        value: the least |b|^2 - 2qb of each query (Q,), norms: its |q|^2, both relative to the bank's mean.
        """
        from adbench.detectors.search.kernels import nearest_within  # slow to import

        limit = value + 2 * rounding(norms, self.norms.max().sqrt(), centred.shape[1])
        gap, index = torch.full_like(norms, torch.inf), torch.full((len(norms),), -1)
        for first in range(0, len(self), self.tile):
            bank, squares = self._tile(first, torch.float32)
            values = torch.addmm(squares, centred, bank.T, alpha=-2).numpy()
            nearer = index - first
            nearest_within(values, limit.numpy(), bank.numpy(), centred.numpy(), gap.numpy(), nearer.numpy())
            index = nearer + first
        return index

    def _search(self, queries: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """Return the least |b|^2 - 2qb of each query, the row's index, and |q|^2, all relative to the bank's mean, (Q,)."""
        centred, found = queries.to(dtype) - self.centre.to(dtype), list[tuple[Tensor, Tensor]]()
        for first in range(0, len(self), self.tile):
            bank, norms = self._tile(first, dtype)
            product = torch.addmm(norms, centred, bank.T, alpha=-2)
            which = first_smallest(product)
            found.append((product.gather(1, which[:, None])[:, 0], which + first if first else which))
        value, index = found[0]
        for least, which in found[1:]:
            nearer = least < value
            value, index = torch.where(nearer, least, value), torch.where(nearer, which, index)
        return value, index, centred.square_().sum(1)

    def _tile(self, first: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Return some rows of the bank relative to its mean, and their squared norms."""
        rows = slice(first, first + self.tile)
        if dtype == torch.float32:
            return self.centred[rows], self.norms[rows]
        bank = self.bank[rows].to(dtype) - self.centre.to(dtype)
        return bank, bank.square().sum(1)

    @cached_property
    def _index(self) -> Any:
        return faiss_index(self.centred)

    def _several(self, queries: Tensor, count: int) -> Tensor:
        """Return the indices of the `count` nearest rows (Q, count) in any order."""
        centred = queries - self.centre
        if self.bank.device.type == "cpu":
            return torch.from_numpy(self._index.search(centred.numpy(), count)[1])
        return by_topk(self.centred, centred, count)

    def _refine(self, queries: Tensor, found: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Return the k smallest distances by differences (Q, k) among the rows `found` (Q, >= k), and their indices."""
        if found.shape[1] == 1 and self.bank.device.type == "cpu":
            from adbench.detectors.search.kernels import distances  # slow to import

            gap = torch.empty(len(queries), 1)
            distances(self.bank.numpy(), queries.numpy(), found[:, 0].numpy(), gap[:, 0].numpy())
            return gap, found
        several = found.shape[1] > 1
        found = found.sort(dim=1).values if several else found
        rows = self.bank.index_select(0, found.flatten()).view(*found.shape, queries.shape[1])  # bank[found] is slower
        gap = rows.sub_(queries[:, None]).square_().sum(2).sqrt_()
        if not several:
            return gap, found
        gap, order = gap.sort(dim=1, stable=True)
        return gap[:, :k], found.gather(1, order[:, :k])


def _rough() -> bool:
    """Whether the caller allows TF32 or bfloat16 products, which are good for nothing here."""
    return torch.get_float32_matmul_precision() != "highest"


def faiss_index(bank: Tensor) -> Any:
    """Return a faiss index of `bank` (M, d), which lies on the CPU."""
    import faiss  # slow to import, and one nearest row needs none

    index = faiss.IndexFlatL2(bank.shape[1])
    index.add(bank.numpy())
    return index


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


def first_smallest(product: Tensor) -> Tensor:
    """Return the first smallest column of each row."""
    return argmin(product) if product.device.type == "cpu" else product.argmin(1)
