"""`adbench extract`: its answer, and data, weights and cache entries that cannot be used."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Run, make_category, one_line
from PIL import Image

LAYER = "blocks.2.1.add"


SMALL = ("--image-size", 64)


def extract(*more: Any, backbone: str = "efficientnet_lite0", layer: str = LAYER) -> tuple[Any, ...]:
    return ("extract", backbone, layer, *SMALL, *more)


def test_extract_answers_with_paths_and_shapes(run: Run, parts: Path) -> None:
    found = run(*extract("--data", parts, "--category", "alpha", "--json")).json
    assert [(e["category"], e["split"], e["layer"], e["shape"], e["dtype"]) for e in found["entries"]] == [
        ("alpha", "train", LAYER, [5, 40, 8, 8], "float16"), ("alpha", "test", LAYER, [6, 40, 8, 8], "float16"),
    ]  # fmt: skip
    assert all(Path(e["path"]).is_file() for e in found["entries"])


def test_no_data_at_all(run: Run) -> None:
    assert one_line(run(*extract()), 3) == (
        "no data in data: no such folder; give --data (or ADBENCH_DATA) a folder that holds CATEGORY/train/good/*.png "
        "(and CATEGORY/test/KIND/*.png), or good/*.png (and bad/*.png), or good images only, or give the word demo"
    )


def test_a_missing_folder(run: Run) -> None:
    assert one_line(run(*extract("--data", "nowhere")), 3).startswith("no data in nowhere: no such folder; give --data")


def test_an_empty_folder(run: Run, tmp_path: Path) -> None:
    assert "no image in it" in one_line(run(*extract("--data", tmp_path)), 3)


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    return make_category(tmp_path / "data" / "part", 7)


def test_all_damaged_images_are_named_before_any_work(run: Run, damaged: Path) -> None:
    broken, empty = damaged / "train" / "good" / "000.png", damaged / "test" / "spot" / "001.png"
    broken.write_bytes(broken.read_bytes()[:200])
    empty.write_bytes(b"")
    message = one_line(run(*extract("--data", damaged.parent, "--cache", "c")), 3)
    assert message.startswith("2 problems in the data: ")
    assert str(broken) in message
    assert str(empty) in message
    assert not Path("c/features").exists()


def test_a_mask_of_another_size_is_named(run: Run, damaged: Path) -> None:
    mask = damaged / "ground_truth" / "spot" / "000_mask.png"
    Image.open(mask).resize((32, 32)).save(mask)
    assert one_line(run(*extract("--data", damaged.parent)), 3) == (
        f"mask {mask} has 32 x 32 pixels, its image {damaged}/test/spot/000.png has 64 x 64; make them the same"
    )


def test_a_checkpoint_that_does_not_fit(run: Run, parts: Path, tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(2)}, tmp_path / "w.pth")
    message = one_line(run(*extract("--data", parts, "--weights", "w.pth", backbone="resnet18", layer="layer1")), 3)
    assert message.startswith("weights w.pth do not fit resnet18: keys 100 missing (bn1.bias, bn1.running_mean, ")


def test_weights_that_cannot_be_had(run: Run, parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    message = one_line(run(*extract("--data", parts, "--offline", backbone="resnet18", layer="layer1")), 3)
    assert f"{tmp_path}/home/hub/checkpoints/resnet18-f37072fd.pth is not there; get it from https://" in message


def test_a_damaged_cache_entry_is_made_again(run: Run, parts: Path) -> None:
    command = extract("--data", parts, "--category", "alpha", "--cache", "own", "--json")
    path = Path(run(*command).json["entries"][0]["path"])
    os.truncate(path, 500)
    again = run(*command)
    assert (again.code, [e["cached"] for e in again.json["entries"]]) == (0, [False, True])
    assert again.err.startswith(f"adbench: warning: cache entry {path.name} is damaged (")
