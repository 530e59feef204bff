"""Features: the same bits on any number of threads; batches in order, a few ahead and no more."""

import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from adbench.backbones.weights import resolve
from adbench.core.threads import in_background, ordered_map
from adbench.features import extraction
from adbench.features.extraction import BYTES_PER_PIXEL, Network, _to_host, batch_size, extract, one_late
from adbench.features.tiling import Tiling
from adbench.features.view import View

CPU = torch.device("cpu")
LAYERS = ["layer1.1.bn2", "layer2.1.relu_1"]


@pytest.fixture(scope="module")
def network() -> Network:
    return Network("resnet18", resolve("resnet18", "random"))


@pytest.fixture
def images(parts: Path) -> list[Path]:
    return sorted(parts.rglob("alpha/*/*/*.png"))


def features(network: Network, images: list[Path], threads: int) -> dict[str, np.ndarray]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        batches = list(extract(network, images, LAYERS, Tiling.whole(View(64)), CPU))
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    return {layer: np.concatenate([batch[layer] for batch in batches]) for layer in LAYERS}


@pytest.mark.parametrize("threads", [2, 3])
def test_passes_side_by_side_give_the_bits_of_one(network: Network, images: list[Path], threads: int) -> None:
    one, several = features(network, images, 1), features(network, images, threads)
    for layer in LAYERS:
        np.testing.assert_array_equal(several[layer], one[layer])


def test_an_image_alone_has_the_features_that_it_has_among_others(network: Network, images: list[Path]) -> None:
    every, alone = features(network, images, 2), features(network, images[3:4], 2)
    for layer in LAYERS:
        np.testing.assert_allclose(alone[layer][0], every[layer][3], rtol=1e-5, atol=1e-6)


def test_progress_counts_images(network: Network, images: list[Path]) -> None:
    steps: list[int] = []
    list(extract(network, images, LAYERS, Tiling.whole(View(64)), CPU, lambda done, total, note: steps.append(done)))
    assert steps == sorted(steps)
    assert steps[-1] == len(images)


@pytest.mark.parametrize(
    ("images", "size", "side_by_side", "expected"),
    [(100, 256, 2, 4), (12, 256, 2, 3), (100, 1024, 2, 1), (100, 64, 1, 64), (3, 256, 3, 1), (1, 256, 1, 1)],
)
def test_images_per_pass(images: int, size: int, side_by_side: int, expected: int) -> None:
    assert batch_size(images, (size, size), CPU, side_by_side) == expected


def test_passes_that_do_not_fit_into_memory_side_by_side_follow_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    monkeypatch.setattr(extraction, "memory_bytes", lambda: 16 << 30)
    assert extraction._side_by_side(100, (256, 256), CPU) == 4
    assert extraction._side_by_side(100, (1024, 1024), CPU) == 1
    assert extraction._side_by_side(3, (256, 256), CPU) == 1


def test_outcomes_come_in_order_and_a_few_ahead() -> None:
    taken, asked = 0, []

    def items() -> Iterator[int]:
        for item in range(20):
            asked.append(item)
            assert item <= taken + 3
            yield item

    for outcome in ordered_map(lambda item: 2 * item, items(), 4, 3):
        assert outcome == 2 * taken
        taken += 1
    assert (taken, asked) == (20, list(range(20)))


def test_what_is_not_taken_is_not_begun() -> None:
    begun, held = [], threading.Event()

    def call(item: int) -> int:
        begun.append(item)
        return item if item < 1 else held.wait(0.2) or item

    outcomes = ordered_map(call, range(100), 1, 5)
    assert next(outcomes) == 0
    outcomes.close()  # type: ignore[attr-defined]
    assert len(begun) <= 3


def test_an_error_comes_at_its_place() -> None:
    outcomes = ordered_map(lambda item: 6 // item, [3, 0], 2, 2)
    assert next(outcomes) == 2
    with pytest.raises(ZeroDivisionError):
        next(outcomes)


def test_an_outcome_is_asked_for_after_the_next_launch() -> None:
    events: list[str] = []

    def launch(item: int):  # type: ignore[no-untyped-def]
        events.append(f"launch {item}")
        return lambda: events.append(f"wait {item}") or item

    assert list(one_late(launch, range(3))) == [0, 1, 2]
    assert events == ["launch 0", "launch 1", "wait 0", "launch 2", "wait 1", "wait 2"]


def test_features_come_in_float16_where_a_batch_fits(network: Network, images: list[Path]) -> None:
    exact = next(iter(extract(network, images, LAYERS, Tiling.whole(View(64)), CPU)))
    half = next(iter(extract(network, images, LAYERS, Tiling.whole(View(64)), CPU, half=True)))
    for layer in LAYERS:
        assert half[layer].dtype == np.float16
        np.testing.assert_array_equal(half[layer], exact[layer].astype(np.float16))


@pytest.mark.parametrize(("value", "dtype"), [(65504.0, np.float16), (65505.0, np.float32), (np.nan, np.float32)])
def test_what_does_not_fit_into_float16_stays_as_it_is(value: float, dtype: type) -> None:
    found = _to_host(torch.tensor([1.0, -value, 2.0]), half=True)()
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, np.array([1, -value, 2], dtype))


def test_what_a_thread_makes_comes_in_order_and_its_error_too() -> None:
    def made() -> Iterator[int]:
        assert threading.current_thread() is not threading.main_thread()
        yield from range(3)
        raise ZeroDivisionError

    taken = []
    with pytest.raises(ZeroDivisionError):
        for item in in_background(made()):
            taken.append(item)
    assert taken == [0, 1, 2]
    assert list(in_background(iter("ab"))) == ["a", "b"]
    assert next(in_background(iter(range(100)))) == 0  # whoever stops early leaves no thread that waits


def test_a_transformer_in_bfloat16_has_nearly_the_features_of_float32(images: list[Path]) -> None:
    network = Network("test_vit", resolve("test_vit", "random"))
    exact, coarse = (
        np.concatenate(
            [
                batch["blocks.3.norm"]
                for batch in extract(network, images, ["blocks.3.norm"], Tiling.whole(View(64)), CPU, precision=dtype)
            ]
        )
        for dtype in (torch.float32, torch.bfloat16)
    )
    assert network.module.cls_token.dtype is torch.float32  # the network itself stays as it is
    error = np.linalg.norm(coarse - exact) / np.linalg.norm(exact)
    assert 1e-4 < error < 0.03


class Live(TorchDispatchMode):
    """Counts the bytes of all tensors that exist at once, without the given ones."""

    def __init__(self, known: set[int]) -> None:
        super().__init__()
        self.known, self.bytes, self.peak = known, 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for storage in {t.untyped_storage() for t in tree_leaves(result) if isinstance(t, torch.Tensor)}:
            if storage._cdata not in self.known:
                self._count(storage._cdata, storage.nbytes())
                weakref.finalize(storage, self._forget, storage._cdata, storage.nbytes())
        return result

    def _count(self, key: int, size: int) -> None:
        self.known.add(key)
        self.bytes += size
        self.peak = max(self.peak, self.bytes)

    def _forget(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.bytes -= size


def test_a_pass_of_a_transformer_with_small_patches_stays_within_its_memory() -> None:
    network, size = Network("vit_small_patch8_224", resolve("vit_small_patch8_224", "random")), 96
    module = network.cut([f"blocks.{i}" for i in range(12)], (size, size))
    live = Live({t.untyped_storage()._cdata for t in module.parameters()})
    with torch.inference_mode(), live:
        module(torch.zeros(1, 3, size, size))
    width = 384 / 768  # of that of ViT-B, whose maps take twice as much
    assert 100 < live.peak / size**2 < width * BYTES_PER_PIXEL
