"""Maps of other programs: measured as they are, named when they are missing or damaged."""

from pathlib import Path

import numpy as np
import pytest
from conftest import Run
from PIL import Image

from adbench.metrics.support import external_maps as foreign_maps


@pytest.fixture
def maps(parts: Path, tmp_path: Path) -> Path:
    """Maps that equal the masks of category alpha: NPY for defects, TIFF and PNG for good images."""
    rng = np.random.default_rng(0)
    for image in sorted((parts / "alpha" / "test").rglob("*.png")):
        target = tmp_path / "maps" / "alpha" / "test" / image.parent.name
        target.mkdir(parents=True, exist_ok=True)
        if image.parent.name == "spot":
            mask = np.asarray(Image.open(parts / "alpha" / "ground_truth" / "spot" / f"{image.stem}_mask.png")) > 0
            np.save(target / f"{image.stem}.npy", mask + rng.uniform(0, 0.1, mask.shape))
        elif image.stem == "000":
            Image.fromarray(rng.uniform(0, 0.1, (64, 64)).astype(np.float32)).save(target / "000.tiff")
        else:
            Image.fromarray(np.zeros((64, 64), np.uint8)).save(target / image.name)
    return tmp_path / "maps"


def test_maps_that_know_the_masks_are_perfect(run: Run, parts: Path, maps: Path) -> None:
    found = run("eval-maps", "--maps", maps, "--data", parts, "--category", "alpha", "--json").json
    assert [item["category"] for item in found] == ["alpha"]
    assert found[0]["reason"] is None
    assert list(found[0]["metrics"].values()) == pytest.approx([1.0] * 7, abs=1e-12)


def test_maps_of_another_size_are_resized(run: Run, parts: Path, maps: Path) -> None:
    answer = run("eval-maps", "--maps", maps, "--data", parts, "--category", "alpha", "--eval-size", 128, "--json").json
    assert answer[0]["metrics"]["image_auroc"] == 1
    assert answer[0]["metrics"]["aupro"] > 0.95


def test_missing_maps_are_named(run: Run, parts: Path, maps: Path) -> None:
    (maps / "alpha" / "test" / "spot" / "001.npy").unlink()
    answer = run("eval-maps", "--maps", maps, "--data", parts, "--category", "alpha")
    assert (answer.code, answer.out) == (3, "")
    assert answer.err == (
        f"adbench: error: {maps}: no map for 1 test images: alpha/test/spot/001.png; "
        "write CATEGORY/test/KIND/NAME.npy, .tiff or .png\n"
    )


@pytest.mark.parametrize("content", [np.zeros((4, 4, 3)), np.full((4, 4), np.nan)])
def test_a_map_must_be_one_finite_plane(content: np.ndarray, run: Run, parts: Path, maps: Path) -> None:
    path = maps / "alpha" / "test" / "spot" / "001.npy"
    np.save(path, content)
    answer = run("eval-maps", "--maps", maps, "--data", parts, "--category", "alpha")
    assert answer.err == (f"adbench: error: map {path}: must be one finite two-dimensional array, not of shape {content.shape}\n")


def test_a_damaged_map_is_named(run: Run, parts: Path, maps: Path) -> None:
    path = maps / "alpha" / "test" / "spot" / "001.npy"
    path.write_bytes(b"no array")
    answer = run("eval-maps", "--maps", maps, "--data", parts, "--category", "alpha")
    assert answer.code == 3
    assert answer.err.startswith(f"adbench: error: map {path}: cannot be read (")


def test_maps_that_do_not_fit_into_memory_are_measured_just_so(
    run: Run, parts: Path, maps: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("eval-maps", "--maps", maps, "--data", parts, "--category", "alpha", "--eval-size", 96, "--json")
    held = run(*command).json
    monkeypatch.setattr(foreign_maps, "memory_bytes", lambda: 1000)
    assert run(*command).json == held
