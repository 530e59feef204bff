"""Forward passes: images from disk through a backbone's graph, all requested layers at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache, partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from adbench.backbones.families import Size
from adbench.backbones.network import Network
from adbench.core.environment import memory_bytes
from adbench.core.memory import in_parts, out_of_memory
from adbench.core.threads import Item, Outcome, in_background, ordered_map
from adbench.data.images import White
from adbench.data.pixels import Pixels, read_pixels
from adbench.features.graph_optimization import inference_module
from adbench.features.tiling import Tiling
from adbench.types import OnStep, ignore_step

Features = dict[str, NDArray[np.floating]]  # (B, C, h, w) by layer; float32, or float16 on request
Read = Callable[[Path, Size, float, White], Pixels]  # of a file, as `read_pixels` does
Launch = Callable[[Tensor], Callable[[], Features]]  # starts a batch of pixels; the returned function waits for its features
HOST_BATCH, DEVICE_BATCH = 4 * 256**2, 64 * 256**2  # pixels of a pass: on a CPU its maps should stay in the caches
BYTES_PER_PIXEL = 2048  # of all maps that a pass holds at once: twice what the widest backbones need
_AHEAD = 2  # batches decoded before the network asks for them
_DECODED_BYTES, _BYTES_DECODING = 1 << 29, 16  # bytes of large images that are decoded ahead; per pixel, while one is decoded


def extract_for(
    use: Callable[[Features], Outcome], network: Network, paths: Sequence[Path], layers: Sequence[str], tiling: Tiling,
    device: torch.device, on_step: OnStep = ignore_step, read: Read = read_pixels,
    precision: torch.dtype = torch.float32, half: bool = False,
) -> Iterator[Outcome]:  # fmt: skip
    """Yield the results of `use` on {layer: (B, C, h, w)} of each batch of images, in order.

    One forward pass for all layers, computed in `precision`; a few batches are in memory at once. Images are resized to the size
    of the tiling's view, bilinear and antialiased. If passes run in parallel, so does `use`, with one torch thread each: it must
    be thread-safe. Tiles of several images share a pass; their joined maps come one image at a time, and `use` runs between them.
    `read` replaces `read_pixels` for a caller who needs more of an image than its features; it runs in threads.
    half: a batch comes in float16 if all its values fit. Raise what `read` raises: DataError for an unreadable image.
    If memory runs out, a batch is halved, which may move the last bits of its features.
    """
    how = (network, paths, tuple(layers), tiling, device, on_step, read, precision, half)
    yield from _passes(use, *how) if tiling.is_whole else map(use, tiling.joined(_passes(_itself, *how)))


def _passes(
    use: Callable[[Features], Outcome], network: Network, paths: Sequence[Path], layers: tuple[str, ...], tiling: Tiling,
    device: torch.device, on_step: OnStep, read: Read, precision: torch.dtype, half: bool,
) -> Iterator[Outcome]:  # fmt: skip
    """Yield the results of `use` on the maps of each batch of inputs; arguments as in `extract_for`."""
    module, total = _fast(network, layers, tiling.inputs, device, precision), len(paths) * tiling.count
    side_by_side = _side_by_side(total, tiling.inputs, device)
    size = batch_size(total, tiling.inputs, device, side_by_side)
    launch: Launch = partial(_in_halves, partial(launched, network, module, device, precision, half))
    size_of, crop, white = tiling.view.size, tiling.view.crop, tiling.view.levels
    decoded = ordered_map(lambda path: read(path, size_of, crop, white), paths, *_readers(tiling, size))
    inputs = decoded if tiling.is_whole else chain.from_iterable(map(tiling.cut, decoded))
    groups = iter(lambda: list(islice(inputs, size)), [])
    on_gpu = device.type == "cuda"
    batches = in_background(map(partial(stacked, pinned=True), groups)) if on_gpu else map(stacked, groups)
    done, threads = 0, torch.get_num_threads()

    def start(batch: Tensor) -> Callable[[], tuple[int, Outcome]]:
        wait = launch(batch)
        return lambda: (len(batch), use(wait()))

    def finish(batch: Tensor) -> tuple[int, Outcome]:
        torch.set_num_threads(1)
        return start(batch)()

    passes = ordered_map(finish, batches, side_by_side, side_by_side) if side_by_side > 1 else one_late(start, batches)
    try:
        for count, outcome in passes:
            done += count
            on_step(done, total, f"{network.backbone} at {tiling.view}")
            yield outcome
    finally:
        torch.set_num_threads(threads)  # other threads have set it for all that MKL does


def _itself(maps: Features) -> Features:
    return maps


extract = partial(extract_for, cast(Callable[[Features], Features], _itself))  # yields the features themselves


def _readers(tiling: Tiling, size: int) -> tuple[int, int]:
    """Return the threads that decode images, and how many decoded images wait at most, for passes of `size` inputs."""
    threads, ahead = torch.get_num_threads(), _AHEAD * size
    if tiling.is_whole:
        return threads, ahead
    held = max(1, _DECODED_BYTES // _bytes(tiling))
    return min(threads, held), min(math.ceil(ahead / tiling.count), held)


def decoded_bytes(tiling: Tiling) -> int:
    """Return the bytes of the large images that are decoded while others pass the network."""
    return sum(_readers(tiling, 1)) * _bytes(tiling)


def _bytes(tiling: Tiling) -> int:
    return _BYTES_DECODING * math.prod(tiling.view.size)


def _in_halves(launch: Launch, batch: Tensor) -> Callable[[], Features]:
    """Launch a batch, or its halves one after the other if memory runs out."""
    try:
        return launch(batch)
    except Exception as error:
        if not out_of_memory(error):
            raise
    parts = in_parts(lambda rows: launch(batch[rows])(), slice(0, len(batch)))
    return lambda: {layer: np.concatenate([part[layer] for part in parts]) for layer in parts[0]}


def precision_of(dtype: str) -> torch.dtype:
    """Return the precision of the passes for features of a dtype."""
    return torch.bfloat16 if dtype == "bfloat16" else torch.float32


@lru_cache(maxsize=2)  # both splits of a group, in one precision or two
def _fast(network: Network, layers: tuple[str, ...], size: Size, device: torch.device, precision: torch.dtype) -> nn.Module:
    """Return the network for one input size, for which the weights of a graph are laid out."""
    return inference_module(network, layers, size, device, precision)


def _side_by_side(images: int, size: Size, device: torch.device) -> int:
    """Return how many passes run in parallel, each on one CPU thread; 1 = one after the other, on all threads.

    Parallel passes never wait for each other, and give the same bits on any number of threads.
    """
    threads = torch.get_num_threads()
    needed = threads * max(HOST_BATCH, math.prod(size)) * BYTES_PER_PIXEL
    return threads if device.type == "cpu" and images >= threads and needed < memory_bytes() / 2 else 1


def batch_size(images: int, size: Size, device: torch.device, side_by_side: int = 1) -> int:
    """Return the images per forward pass: the same on one machine for the same images, whatever its load."""
    pixels = HOST_BATCH
    if device.type == "cuda":
        pixels = min(DEVICE_BATCH, torch.cuda.get_device_properties(device).total_memory // (2 * BYTES_PER_PIXEL))
    most = max(1, pixels // math.prod(size))
    if side_by_side > 1:  # in the last round each thread has one, or some would idle
        rounds = math.ceil(images / (most * side_by_side))
        return max(1, math.ceil(images / (rounds * side_by_side)))
    return min(most, max(1, images))


def one_late(launch: Callable[[Item], Callable[[], Outcome]], items: Iterable[Item]) -> Iterator[Outcome]:
    """Yield what each launch's function returns, called after the next launch: a GPU computes on while its host waits."""
    earlier: Callable[[], Outcome] | None = None
    for item in items:
        later = launch(item)
        if earlier:
            yield earlier()
        earlier = later
    if earlier:
        yield earlier()


def stacked(images: Sequence[Pixels], pinned: bool = False) -> Tensor:
    """Return images as one tensor (B, H, W, 3); pinned: in page-locked memory, which a GPU copies asynchronously."""
    batch = torch.empty((len(images), *images[0].shape), dtype=torch.int16, pin_memory=pinned)
    np.stack(images, out=batch.numpy())
    return batch


@torch.inference_mode()
def launched(
    network: Network, module: nn.Module, device: torch.device, precision: torch.dtype, half: bool, pixels: Tensor
) -> Callable[[], Features]:
    """Start the pass of some images (B, H, W, 3) and the copies of their maps; the returned function waits for the copies."""
    on_gpu = device.type == "cuda"
    # no TF32, whatever torch's default: float32 means float32
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        maps = module(network.normalize(pixels.to(device, non_blocking=on_gpu)).to(precision))
    fetches = {layer: _to_host(values.float().contiguous(), half) for layer, values in maps.items()}
    finished: Any = torch.cuda.Event() if on_gpu else None  # type: ignore[no-untyped-call]
    if finished:
        finished.record(torch.cuda.current_stream(device))

    def wait() -> Features:
        if finished:
            finished.synchronize()
        return {layer: fetch() for layer, fetch in fetches.items()}

    return wait


def _to_host(values: Tensor, half: bool) -> Callable[[], NDArray[np.floating]]:
    """Start a copy to the host's memory; the returned function waits for it and returns it, in float16 if its values fit."""
    if not half:
        return _copied(values).numpy
    bounds, rounded = _copied(torch.stack(values.aminmax())), _copied(values.half())

    def fetch() -> NDArray[np.floating]:
        least, most = bounds.tolist()  # NaN if any value is
        fits = max(-least, most) <= torch.finfo(torch.float16).max
        return (rounded if fits else values.cpu()).numpy()

    return fetch


def _copied(values: Tensor) -> Tensor:
    """Return a copy in the host's memory; from a GPU it may still be in progress."""
    if values.device.type != "cuda":
        return values.cpu()
    return torch.empty(values.shape, dtype=values.dtype, pin_memory=True).copy_(values, non_blocking=True)
