"""Tiles and native sizes from images to reports: the same numbers cached or not, resumed, by train and eval, and by predict."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Run, make_category, one_line
from PIL import Image

LAYER = "blocks.1.1.add"
SPEC = f"layers: [{LAYER}]\nimage_sizes: [native, native/2]\ntile: 64\noverlap: 0.5\neval_size: 64\nweights: [random]\n"
VIEW = ("--image-size", "native", "--tile", "64", "--overlap", "0.5", "--weights", "random", "--eval-size", "64")


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A category of 150 x 200 px images, one of them of another size."""
    root = tmp_path_factory.mktemp("wide")
    make_category(root / "gamma", 3, train=4, good=2, bad=2)
    for path in root.rglob("*.png"):
        image = Image.open(path)
        image.resize((400, 300) if path.parts[-3:] == ("train", "good", "003.png") else (200, 150), 0).save(path)
    return root


def metrics(run: Run, out: str) -> dict[Any, Any]:
    records = run("report", out, "--json").json
    return {(r["image_size"], r["tile"]): r["metrics"] for r in records}


def test_every_way_to_the_numbers_gives_the_same(run: Run, wide: Path, tmp_path: Path, workers_here: None) -> None:
    (tmp_path / "spec.yaml").write_text(SPEC)
    sweep = ("sweep", "--spec", tmp_path / "spec.yaml", "--data", wide, "--json")
    first = run(*sweep, "--out", "a", "--cache", "one", "--limit", "1")
    assert first.json["done"] == 1 and "training images have 2 sizes, 150 x 200 to 300 x 400 px; 'native' resizes" in first.err
    assert run(*sweep, "--out", "a", "--cache", "one").json == {
        "planned": 2, "done": 1, "cached": 1, "skipped": 0, "failed": 0, "out": "a"
    }  # fmt: skip
    run(*sweep, "--out", "b", "--cache", "two", "--jobs", "2")
    found = metrics(run, "a")
    assert found == metrics(run, "b") and set(found) == {("native", 64), ("native/2", 64)}
    run("train", "patchcore", "efficientnet_lite0", LAYER, "--data", wide, *VIEW, "--model", "m.safetensors", "--cache", "one")
    evaluated = run("eval", "m.safetensors", "--data", wide, "--cache", "one", "--heatmaps", "heat", "--json").json
    assert evaluated["metrics"] == found["native", 64] and evaluated["details"]["input_px"] == [150, 200]
    assert len(list(Path("heat").rglob("*.png"))) == 4
    scores = run(
        "predict", "m.safetensors", wide / "gamma/test", "--out", "p", "--cache", "one", "--overlays", "all", "--json"
    ).json
    single = run("predict", "m.safetensors", wide / "gamma/test/spot/000.png", "--out", "q", "--cache", "one", "--json").json
    known = {row["path"]: row["score"] for row in scores["predictions"]}
    assert known[single["predictions"][0]["path"]] == pytest.approx(single["predictions"][0]["score"], rel=1e-6)
    good = [value for path, value in known.items() if "/good/" in path]
    order = np.mean([[high > low for low in good] for path, high in known.items() if "/spot/" in path])
    assert order == evaluated["metrics"]["image_auroc"]


WRONG = {
    (
        "--image-size",
        "0x256",
    ): "--image-size '0x256': write pixels from 32 to 4096, height x width such as 512x1240, 'native', or "
    "a part of it such as native/2",
    ("--image-size", "128", "--tile", "256"): "tile 256 is larger than the image, 128 x 128 px; take a smaller tile, or a larger "
    "image size",
    (
        "--image-size",
        "native",
        "--tile",
        "512",
    ): "category 'gamma': tile 512 is larger than the image, 150 x 200 px; take a smaller tile, or a larger image size",
    (
        "--tile",
        "128",
        "--overlap",
        "1",
    ): "--overlap 1: the share of a tile that overlaps must be 0 or more and below 1, e.g. 0.25",
    ("--tile", "20"): "--tile 20: write pixels from 32 to 4096, or 0 for no tiles",
    ("--tile", "0", "--overlap", "0"): "--overlap 0 needs tiles; add e.g. --tile 256",
    ("--tile", "100"): "tile 100 does not fit efficientnet_lite0; take 96 or 128",
}


@pytest.mark.parametrize("options", WRONG)
def test_wrong_views_are_one_line(run: Run, wide: Path, options: tuple[str, ...]) -> None:
    made = run(
        "train",
        "patchcore",
        "efficientnet_lite0",
        LAYER,
        "--data",
        wide,
        "--weights",
        "random",
        *options,
        "--model",
        "m.safetensors",
    )
    assert one_line(made, 2) == WRONG[options]


def test_a_size_that_a_network_cannot_take(run: Run, wide: Path) -> None:
    made = run("extract", "test_vit", "blocks.0", "--data", wide, "--weights", "random", "--image-size", "100x160")
    assert one_line(made, 2) == "image size 100x160 does not fit test_vit; take 96x160 or 112x160"


def test_a_sweep_without_a_fitting_view_ends_before_any_work(run: Run, wide: Path, tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(f"layers: [{LAYER}]\nimage_sizes: [native, 512]\ntile: [512]\nweights: [random]\n")
    sweep = ("sweep", "--spec", tmp_path / "spec.yaml", "--data", wide, "--out", "o")
    assert "cannot run: category 'gamma': tile 512 is larger than the image, 150 x 200 px" in run(*sweep, "--dry-run").out
    assert one_line(run(*sweep, "--set", "image_sizes=native"), 2).startswith(
        "category 'gamma': tile 512 is larger than the image, 150 x 200 px"
    )
