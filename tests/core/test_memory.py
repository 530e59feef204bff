"""Where memory runs out, smaller parts are tried, and the same numbers come out; then a reason says what to do."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adbench.backbones.weights import resolve
from adbench.core.memory import in_parts, out_of_memory
from adbench.detectors.patchcore import PatchCore
from adbench.features import extraction
from adbench.features.extraction import Network, extract
from adbench.features.feature_maps import FeatureMaps
from adbench.features.tiling import Tiling
from adbench.features.view import View
from adbench.sweep.pipeline import failure, score_in_parts
from adbench.types import Job

CPU = torch.device("cpu")
ERRORS = [MemoryError(), torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate memory")]


def short_of(error: Exception, most: int, call: Callable[..., Any], count: Callable[..., int]) -> Callable[..., Any]:
    """Return `call`, failing with `error` for more than `most` images."""

    def wrapped(*arguments: Any, **options: Any) -> Any:
        if count(*arguments) > most:
            raise error
        return call(*arguments, **options)

    return wrapped


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_every_kind_of_it_is_known(error: Exception) -> None:
    assert out_of_memory(error)


def test_torch_says_it_as_is_expected() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60)
    assert out_of_memory(caught.value)


def test_other_errors_are_not_tried_again() -> None:
    calls: list[slice] = []

    def call(rows: slice) -> None:
        calls.append(rows)
        raise ValueError("something else")

    with pytest.raises(ValueError, match="something else"):
        in_parts(call, slice(0, 8))
    assert calls == [slice(0, 8)]


def test_a_single_row_that_is_too_much_ends_it() -> None:
    with pytest.raises(MemoryError):
        in_parts(short_of(MemoryError(), 0, lambda rows: rows, lambda rows: rows.stop - rows.start), slice(0, 5))


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_scores_in_parts_are_the_same_bits(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    maps = FeatureMaps((np.random.default_rng(0).normal(size=(7, 8, 6, 6)).astype(np.float16),))
    detector = PatchCore(coreset_fraction=0.5).fit(maps, device=CPU)
    whole = score_in_parts(detector, maps, CPU)
    monkeypatch.setattr(detector, "score", short_of(error, 2, detector.score, len))
    parts = score_in_parts(detector, maps, CPU)
    np.testing.assert_array_equal(parts.image, whole.image)
    np.testing.assert_array_equal(parts.maps, whole.maps)


def test_a_batch_is_halved(parts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, network = sorted(parts.rglob("alpha/*/*/*.png")), Network("resnet18", resolve("resnet18", "random"))
    how = (network, images, ["layer1.1.bn2"], Tiling.whole(View(64)), CPU)
    expected = np.concatenate([maps["layer1.1.bn2"] for maps in extract(*how)])
    short = short_of(MemoryError(), 1, extraction.launched, lambda *arguments: len(arguments[-1]))
    monkeypatch.setattr(extraction, "launched", short)
    found = np.concatenate([maps["layer1.1.bn2"] for maps in extract(*how)])
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_the_reason_says_what_to_do() -> None:
    job = Job("parts", "f", "nut", "resnet18", "random", "random-0", ("layer1",), 64, 64, "patchcore", {}, 1, 0)
    result = failure(job, torch.OutOfMemoryError("tried to allocate 20 GB"))
    assert result.status == "failed"
    assert result.reason
    assert "out of memory" in result.reason
    assert "--jobs" in result.reason
    assert "tried to allocate 20 GB" in result.reason
