"""What products of lower bounds are computed in, and how far their numbers may be off: adbench/loops/factors.py lays them out."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

HALF = torch.bfloat16


class Precision(NamedTuple):
    """bits: an integer of the size of `dtype`. drop: bits that it lacks to a float32. spare: what a rounded product may lack."""

    dtype: torch.dtype
    bits: torch.dtype
    drop: int
    spare: float

    def slack(self, norms: NDArray[np.float32], longest: float, columns: int) -> NDArray[np.float32]:
        """Return what rounding may take of half a squared distance (Q,), some times what was found: of sums of `columns` numbers.

        norms: squared, of the queries (Q,); longest: norm of the longest row.
        """
        exact = self.dtype == torch.float64 or torch.get_float32_matmul_precision() == "highest" or self.drop
        kind = (torch.float32 if self.drop else self.dtype) if exact else HALF  # TF32 and bfloat16 products round more
        return np.float32((columns + 32) * torch.finfo(kind).eps) * np.square(np.sqrt(norms) + np.float32(longest))

    def limits(self) -> tuple[float, NDArray[np.floating], NDArray[np.signedinteger], int]:
        """Return what a loop needs to tell the bits of a limit: `spare`, a number, the same memory as an integer, and `drop`."""
        number = torch.empty(1, dtype=torch.float32 if self.drop else self.dtype)
        bits = number.view(torch.int64 if number.dtype == torch.float64 else torch.int32)
        return self.spare, number.numpy(), bits.numpy(), self.drop


PRECISIONS = (
    Precision(HALF, torch.int16, 16, 1.01),
    Precision(torch.float32, torch.int32, 0, 1 + 1e-6),
    Precision(torch.float64, torch.int64, 0, 1 + 1e-12),
)


def are_fast() -> bool:
    """Return whether this CPU has tiles for bfloat16."""
    return bool(torch.cpu.get_capabilities().get("amx_bf16"))
