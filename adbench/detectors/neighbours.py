"""Exact nearest neighbours of queries in a bank of rows, by Euclidean distance."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Rows = NDArray[np.floating] | Tensor
BLOCK_ELEMENTS = 1 << 21  # of one block of products


class NearestNeighbours:
    """A bank (M, d) float32 that answers which of its rows lie nearest to a query."""

    def __init__(self, bank: Rows, *, device: torch.device | str | None = None) -> None:
        self.bank = torch.as_tensor(bank).detach().float().contiguous().to(device or "cpu")
        if self.bank.ndim != 2 or not len(self.bank):
            raise ValueError(f"a bank must be a non-empty (M, d) array, not one of shape {tuple(self.bank.shape)}")
        self.centre = self.bank.mean(0)
        self.centred = self.bank - self.centre
        self.norms = self.centred.square().sum(1)

    def __len__(self) -> int:
        return len(self.bank)

    def query(self, queries: Rows, k: int = 1) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return distances (Q, k) float32 (L2, not squared), nearest first, and the bank rows' indices (Q, k) int64."""
        if not 1 <= k <= len(self):
            raise ValueError(f"k must be within 1..{len(self)}, the number of rows of the bank, not {k}")
        rows = torch.as_tensor(queries).detach().float().to(self.bank.device)
        if rows.ndim != 2 or rows.shape[1] != self.bank.shape[1]:
            raise ValueError(f"queries must be (Q, {self.bank.shape[1]}) like the bank, not {tuple(rows.shape)}")
        step = max(1, BLOCK_ELEMENTS // len(self))
        with torch.no_grad():
            found = [self._query(block, k) for block in torch.split(rows, step)]
        distances, indices = (torch.cat(parts) for parts in zip(*found, strict=True))
        return distances.cpu().numpy(), indices.cpu().numpy()

    def _query(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        product = torch.addmm(self.norms, queries - self.centre, self.centred.T, alpha=-2)
        index = product.argmin(1, keepdim=True) if k == 1 else product.topk(k, largest=False).indices
        gap = (queries[:, None] - self.bank[index]).square_().sum(2).sqrt_()
        gap, order = gap.sort(dim=1, stable=True)
        return gap, index.gather(1, order)
