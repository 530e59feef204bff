"""Time of the nearest-neighbor search against faiss and a plain distance matrix.

Run: python benchmarks/neighbors.py [THREADS]
"""

import os
import statistics
import sys
import time
from collections.abc import Callable

THREADS = sys.argv[1] if len(sys.argv) > 1 else "1"
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = THREADS  # before numpy and torch read them

import faiss  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402

from adbench.detectors.search.nearest import NearestNeighbors  # noqa: E402

REPEATS = 9
PAUSE = 0.3  # seconds in which one library's idle threads stop to wait for work on the cores that the next needs
QUERIES = 1024  # one image of 256 px at stride 8
CASES = ((410, 152), (4096, 40), (4096, 152), (4096, 1024), (40_960, 152))  # (rows, dimension)
SIZES = (2048, 4096, 8192, 16_384, 32_768)


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def plain(bank: torch.Tensor, queries: torch.Tensor, k: int) -> torch.Tensor:
    """Return the k smallest of the whole distance matrix."""
    return torch.cdist(queries, bank).topk(k, largest=False).values


def data(rows: int, dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    return torch.randn(rows, dim, generator=draw), torch.randn(QUERIES, dim, generator=draw)


def compare(rows: int, dim: int, k: int) -> None:
    bank, queries = data(rows, dim)
    nearest, index = NearestNeighbors(bank), faiss.IndexFlatL2(dim)
    index.add(bank.numpy())
    calls = {
        "ours": lambda: nearest.query(queries, k),
        "faiss": lambda: index.search(queries.numpy(), k),
        "plain": lambda: plain(bank, queries, k),
    }
    times: dict[str, list[float]] = {}
    for name, call in calls.items():
        time.sleep(PAUSE)
        times[name] = [seconds(call) for _ in range(REPEATS + 1)][1:]
    middle = {name: statistics.median(values) for name, values in times.items()}
    print(f"{rows:6,} x {dim:4}, k = {k}:", *(f"{name} {1e3 * value:7.1f} ms" for name, value in middle.items()), end="")
    print(f"; ours / faiss {middle['ours'] / middle['faiss']:.2f}, ours / plain {middle['ours'] / middle['plain']:.2f}")


def growth() -> None:
    """Print the exponent of the bank's rows that fits the time of one neighbor."""
    times = []
    for rows in SIZES:
        bank, queries = data(rows, 152)
        nearest = NearestNeighbors(bank)
        times.append(statistics.median(seconds(lambda near=nearest, q=queries: near.query(q)) for _ in range(REPEATS)))
    print(f"exponent of the rows, {SIZES[0]:,} to {SIZES[-1]:,}: {np.polyfit(np.log(SIZES), np.log(times), 1)[0]:.2f}")


if __name__ == "__main__":
    torch.set_num_threads(int(THREADS))
    faiss.omp_set_num_threads(int(THREADS))
    print(f"{THREADS} thread(s), {QUERIES:,} queries")
    for k in (1, 9):
        for rows, dim in CASES:
            compare(rows, dim, k)
    growth()
