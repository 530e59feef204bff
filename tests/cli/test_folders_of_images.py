"""Commands on folders as users have them: plain folders as data, subfolders and pairs of one stem, up to pictures and maps."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import Run, make_category, one_line

NETWORK = ("efficientnet_lite0", "blocks.1.1.add", "--image-size", 64)
HELD_OUT = "adbench: warning: {} has no test split: good images, chosen by their names, are held out from training"


@pytest.fixture
def flat(parts: Path, tmp_path: Path) -> Path:
    """A folder with nothing but good images."""
    return Path(shutil.copytree(parts / "alpha/train/good", tmp_path / "flat"))


@pytest.fixture
def sorted_parts(parts: Path, tmp_path: Path) -> Path:
    """A folder with the folders good and bad."""
    shutil.copytree(parts / "alpha/train/good", tmp_path / "sorted/good")
    shutil.copytree(parts / "alpha/test/spot", tmp_path / "sorted/bad")
    return tmp_path / "sorted"


def test_commands_take_a_plain_folder(run: Run, flat: Path) -> None:
    entries = run("extract", *NETWORK, "--data", flat, "--json").json["entries"]
    assert [(e["category"], e["split"], e["shape"][0]) for e in entries] == [("flat", "train", 5)]
    trained = run("train", "mahalanobis", *NETWORK, "--data", flat, "--model", "m.safetensors", "--json").json
    assert (trained["job"]["dataset"], trained["job"]["category"]) == ("plain", "flat")
    made = run("synth", "--data", flat, "--out", "made", "--count", 2, "--json").json
    assert (made["category"], made["train"], made["good"]) == ("flat", 4, 1)
    reason = one_line(run("select", "--data", flat, "--layers", "blocks.1.1.add", "--image-sizes", 64), 3)
    assert reason == "category 'flat' has 5 good training images; select needs 10 or more"  # it was read


def test_good_and_bad_folders_are_measured(run: Run, sorted_parts: Path) -> None:
    trained = run("train", "mahalanobis", *NETWORK, "--data", sorted_parts, "--model", "m.safetensors")
    assert trained.code == 0
    result = run("eval", "m.safetensors", "--data", sorted_parts, "--json").json
    assert result["metrics"]["image_auroc"] == 1
    assert result["metrics"]["aupro"] is None


def test_what_is_held_out_is_said_once(run: Run, sorted_parts: Path) -> None:
    err = "".join(run("extract", *NETWORK, "--data", sorted_parts).err for _ in range(2))
    assert err.count(HELD_OUT.format(sorted_parts)) == 1
    assert "sorted 1 of 5" in err


def test_pictures_of_one_stem_do_not_overwrite_each_other(run: Run, parts: Path, models: Path, tmp_path: Path) -> None:
    root = make_category(tmp_path / "data/alpha", 1)
    (root / "test/spot/001.png").rename(root / "test/spot/000.bmp")
    (root / "ground_truth/spot/001_mask.png").rename(root / "ground_truth/spot/000_mask.bmp")
    (root / "test/spot/cam").mkdir()
    (root / "test/spot/002.png").rename(root / "test/spot/cam/000.png")
    (root / "ground_truth/spot/cam").mkdir()
    (root / "ground_truth/spot/002_mask.png").rename(root / "ground_truth/spot/cam/000_mask.png")
    answer = run("eval", models / "without.safetensors", "--data", root, "--heatmaps", "maps", "--json")
    assert answer.json["metrics"] == run("eval", models / "without.safetensors", "--data", parts, "--json").json["metrics"]
    drawn = sorted(path.relative_to("maps").as_posix() for path in Path("maps").rglob("*.png"))
    assert drawn == ["good/000.png", "good/001.png", "good/002.png", "spot/000-2.png", "spot/000.png", "spot/cam/000.png"]


@pytest.fixture
def twins(tmp_path: Path) -> Path:
    """A category whose test images 000.png and 000.bmp differ in their suffix alone, and one in a subfolder."""
    root = make_category(tmp_path / "data/alpha", 1, bad=3)
    for place, end in (("test/spot", ""), ("ground_truth/spot", "_mask")):
        (root / f"{place}/001{end}.png").rename(root / f"{place}/000{end}.bmp")
        (root / f"{place}/cam").mkdir()
        (root / f"{place}/002{end}.png").rename(root / f"{place}/cam/000{end}.png")
    return tmp_path


def write_maps(folder: Path, names: list[str]) -> None:
    for number, name in enumerate(names):
        path = folder / "maps/alpha/test" / f"{name}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, np.full((8, 8), number, np.float32))


def test_maps_mirror_subfolders_and_whole_names(run: Run, twins: Path) -> None:
    write_maps(twins, ["good/000", "good/001", "good/002", "spot/000.png", "spot/000.bmp", "spot/cam/000"])
    found = run("eval-maps", "--maps", "maps", "--data", "data", "--json")
    assert json.loads(found.out)[0]["metrics"]["image_auroc"] == 1


def test_a_map_for_two_images_is_named(run: Run, twins: Path) -> None:
    write_maps(twins, ["good/000", "good/001", "good/002", "spot/000", "spot/cam/000"])
    line = one_line(run("eval-maps", "--maps", "maps", "--data", "data"), 3)
    assert line == (
        "maps: one map for several test images: alpha/test/spot/000.bmp, alpha/test/spot/000.png; "
        "name each map like its image, e.g. 000.bmp.npy"
    )


def test_copies_of_images_of_one_name_are_told_apart(run: Run, parts: Path, tmp_path: Path) -> None:
    for lot in ("a/1", "b/1", "c/2"):
        shutil.copytree(parts / "alpha/train/good", tmp_path / "data/bolt/train/good" / lot)
    (image,) = (tmp_path / "data/bolt/train/good/c/2").glob("000.png")
    image.write_bytes((parts / "alpha/test/good/000.png").read_bytes())
    made = run("synth", "--data", "data", "--out", "made", "--count", 1, "--json").json
    copies = [path.name for path in Path("made/bolt/train/good").iterdir()]
    assert len(copies) == made["train"] >= 9


def test_categories_that_look_like_numbers(run: Run, tmp_path: Path) -> None:
    for name in ("01", "02", "10"):
        make_category(tmp_path / "data" / name, int(name), train=1, good=1, bad=1)
    (tmp_path / "s.yaml").write_text("categories: [01, 02]\nbackbones: [{name: efficientnet_lite0, weights: random}]\n")
    assert run("sweep", "--spec", "s.yaml", "--data", "data", "--dry-run", "--json").json["planned"] == 2 * 4
