"""Forward passes on a GPU, each launched as one CUDA graph.

Launched one by one, the hundreds of kernels of a small network wait for Python, and Python for the threads that decode
images. In a graph the batch is always of one size: a last, smaller one is filled up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adbench.pixels import Pixels

Features = dict[str, NDArray[np.floating]]  # (B, C, h, w) by layer
Launch = Callable[[Sequence[Pixels]], Callable[[], Features]]  # starts a batch; what it returns waits for its features


class RecordedPasses:
    """Launches batches of at most `batch` images.

    compute: (B, H, W, 3) uint8 to {layer: (B, C, h, w)}, on the GPU. narrow: features come as float16, which halves what is
    copied; a batch that holds larger numbers, or none at all, is left to `exact`.
    """

    @torch.inference_mode()
    def __init__(
        self,
        compute: Callable[[Tensor], dict[str, Tensor]],
        exact: Launch,
        batch: int,
        image_size: int,
        device: torch.device,
        narrow: bool,
    ) -> None:
        self._exact, self._narrow = exact, narrow
        self._pixels = torch.zeros(batch, image_size, image_size, 3, dtype=torch.uint8, device=device)
        self._graph = torch.cuda.CUDAGraph()
        stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.device(device), torch.cuda.stream(stream):
            self._computed(compute)  # what a first pass allocates cannot be recorded
            with torch.cuda.graph(self._graph, stream=stream, capture_error_mode="thread_local"):
                self._maps, self._fits = self._computed(compute)
        torch.cuda.current_stream(device).wait_stream(stream)

    def _computed(self, compute: Callable[[Tensor], dict[str, Tensor]]) -> tuple[dict[str, Tensor], Tensor]:
        """Return the maps and whether each image's are finite."""
        maps = {layer: values.half() if self._narrow else values for layer, values in compute(self._pixels).items()}
        fits = [values.isfinite().flatten(1).all(1) for values in maps.values()]
        return maps, torch.stack(fits).all(0)

    @torch.inference_mode()
    def __call__(self, batch: Sequence[Pixels]) -> Callable[[], Features]:
        """Start the pass of some images and the copies of their maps; the returned function waits for these."""
        count, device = len(batch), self._pixels.device
        staged = torch.empty(count, *self._pixels.shape[1:], dtype=torch.uint8, pin_memory=True)
        np.stack(list(batch), out=staged.numpy())
        self._pixels[:count].copy_(staged, non_blocking=True)
        self._graph.replay()
        copies = {layer: to_host(values[:count]) for layer, values in self._maps.items()}
        fits = to_host(self._fits[:count])
        finished = torch.cuda.Event()  # type: ignore[no-untyped-call]
        finished.record(torch.cuda.current_stream(device))

        def wait() -> Features:
            finished.synchronize()
            if self._narrow and not bool(fits.all()):
                return self._exact(batch)()
            return {layer: copy.numpy() for layer, copy in copies.items()}

        return wait


def to_host(values: Tensor) -> Tensor:
    """Return a copy in pinned memory of the host, still on its way from the GPU."""
    return torch.empty(values.shape, dtype=values.dtype, pin_memory=True).copy_(values, non_blocking=True)
