"""Folder layouts, the choice of categories, and the check of all files before any work."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import opened_paths
from PIL import Image

from adbench.core.errors import DataError, UsageError
from adbench.data.check import category_fingerprint, check_files, split_fingerprint
from adbench.data.datasets import open_dataset, open_training
from adbench.data.layouts import DATASETS, Dataset

REMEDY = (
    "give --data (or ADBENCH_DATA) a folder that holds CATEGORY/train/good/*.png (and CATEGORY/test/KIND/*.png), or "
    "good/*.png (and bad/*.png), or good images only, or give the word demo"
)


def put(path: Path, value: int = 0, size: tuple[int, int] = (6, 4)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, value).save(path)
    return path


def mvtec(root: Path, *names: str) -> Path:
    for category in names or ("bolt",):
        folder = root / category
        for k in range(2):
            put(folder / f"train/good/{k:03d}.png", k + 1)
        put(folder / "test/good/000.png", 3)
        put(folder / "test/cut/000.png", 4)
        put(folder / "ground_truth/cut/000_mask.png", 255)
    return root


def opened(root: Path, *names: str):
    return open_dataset(str(root), root / "cache", names)


def test_mvtec_layout(tmp_path):
    (category,) = opened(mvtec(tmp_path))
    assert (category.dataset, category.name) == ("mvtec", "bolt")
    assert [s.name for s in category.train] == ["train/good/000.png", "train/good/001.png"]
    cut, good = category.test
    assert (cut.name, cut.defect, cut.anomalous) == ("test/cut/000.png", "cut", True)
    assert cut.masks == (tmp_path / "bolt/ground_truth/cut/000_mask.png",)
    assert (good.name, good.defect, good.masks) == ("test/good/000.png", "good", ())


def test_training_alone_leaves_the_test_folders_unlisted(tmp_path):
    whole = opened(mvtec(tmp_path, "bolt", "nail"))
    with opened_paths() as listed:
        found = open_training(str(tmp_path), tmp_path / "cache", ["nail"])
    assert any("train" in Path(path).parts for path in listed)
    assert not [path for path in listed if {"test", "ground_truth"} & set(Path(path).parts)]
    assert [(c.dataset, c.name, c.train, c.test) for c in found] == [("mvtec", "nail", whole[1].train, ())]


def test_hidden_and_other_files_are_skipped(tmp_path):
    mvtec(tmp_path)
    for name in (".DS_Store", "._000.png", "Thumbs.db", "readme.txt"):
        (tmp_path / "bolt/train/good" / name).write_text("x")
    (tmp_path / "bolt/train/good/folder.png").mkdir()
    (tmp_path / ".hidden/train/good").mkdir(parents=True)
    assert [len(category.train) for category in opened(tmp_path)] == [2]


def test_a_single_category_is_the_same_as_within_its_dataset(tmp_path):
    mvtec(tmp_path)
    assert opened(tmp_path / "bolt") == opened(tmp_path)


def test_a_category_given_as_a_relative_folder_has_its_real_name(tmp_path, monkeypatch):
    monkeypatch.chdir(mvtec(tmp_path) / "bolt")
    assert open_dataset(".", tmp_path)[0].name == "bolt"


def test_btad_words_and_mask_suffixes(tmp_path):
    put(tmp_path / "01/train/ok/0.BMP"), put(tmp_path / "01/test/ok/1.bmp"), put(tmp_path / "01/test/ko/2.bmp")
    mask = put(tmp_path / "01/ground_truth/ko/2.png")
    (category,) = opened(tmp_path)
    assert [s.defect for s in category.train + category.test] == ["good", "ko", "good"]
    assert category.test[0].masks == (mask,)


def test_loco_has_a_folder_of_masks_per_image(tmp_path):
    put(tmp_path / "bag/train/good/0.png"), put(tmp_path / "bag/test/logical/0.png")
    masks = tuple(put(tmp_path / f"bag/ground_truth/logical/0/{k:03d}.png") for k in range(3))
    assert opened(tmp_path)[0].test[0].masks == masks


def test_masks_are_matched_by_name_not_by_order(tmp_path):
    mvtec(tmp_path)
    put(tmp_path / "bolt/test/cut/zzz.png")
    put(tmp_path / "bolt/ground_truth/cut/aaa_mask.png")  # belongs to no image
    mask = put(tmp_path / "bolt/ground_truth/cut/zzz.bmp")
    assert opened(tmp_path)[0].test[1].masks == (mask,)


def test_without_any_ground_truth_masks_are_unknown(tmp_path):
    shutil.rmtree(mvtec(tmp_path) / "bolt/ground_truth")
    (category,) = opened(tmp_path)
    assert [s.masks for s in category.test] == [None, ()]
    assert len(check_files([category])) == 4


def test_good_images_alone_are_enough(tmp_path):
    shutil.rmtree(mvtec(tmp_path) / "bolt/test")
    assert opened(tmp_path)[0].test == ()


def test_mvtec_ad_2_takes_precedence_over_mvtec_ad(tmp_path):
    put(tmp_path / "can/train/good/0.png"), put(tmp_path / "can/test_private/0.png")
    put(tmp_path / "can/test_public/good/0.png"), put(tmp_path / "can/test_public/bad/1.png")
    mask = put(tmp_path / "can/test_public/ground_truth/bad/1_mask.png")
    (category,) = opened(tmp_path)
    assert category.dataset == "mvtec2"
    assert [(s.name, s.masks) for s in category.test] == [
        ("test_public/bad/1.png", (mask,)), ("test_public/good/0.png", ()),
    ]  # fmt: skip


VISA = """object,split,label,image,mask
pcb1,train,normal,pcb1/Data/Images/Normal/0.JPG,
pcb1,test,normal,pcb1/Data/Images/Normal/1.JPG,
pcb1,test,anomaly,pcb1/Data/Images/Anomaly/0.JPG,pcb1/Data/Masks/Anomaly/0.png
candle,train,normal,candle/Data/Images/Normal/0.JPG,
"""


def visa(root: Path, text: str = VISA) -> Path:
    (root / "split_csv").mkdir()
    (root / "split_csv/1cls.csv").write_text(text)
    return root


def test_visa_is_read_from_its_csv(tmp_path):
    candle, pcb = opened(visa(tmp_path))
    assert (candle.dataset, candle.name, len(candle.train), candle.test) == ("visa", "candle", 1, ())
    assert [(s.name, s.defect) for s in pcb.test] == [("test/anomaly/0.JPG", "anomaly"), ("test/good/1.JPG", "good")]
    assert pcb.test[0].path == tmp_path / "pcb1/Data/Images/Anomaly/0.JPG"
    assert pcb.test[0].masks == (tmp_path / "pcb1/Data/Masks/Anomaly/0.png",)


@pytest.mark.parametrize("path", ["/etc/a.png", "../a.png", "pcb1/../../a.png", r"..\a.png", "C:/a.png", ""])
def test_visa_paths_may_not_leave_the_dataset(tmp_path, path):
    visa(tmp_path, VISA.replace("pcb1/Data/Images/Normal/0.JPG", path))
    with pytest.raises(DataError) as error:
        opened(tmp_path)
    assert str(error.value) == f"{tmp_path}/split_csv/1cls.csv: path '{path}' leads out of {tmp_path}; correct the file"


def test_a_visa_csv_of_other_columns_is_refused(tmp_path):
    with pytest.raises(DataError) as error:
        opened(visa(tmp_path, "object,split\na,train\n"))
    assert str(error.value) == (f"{tmp_path}/split_csv/1cls.csv: not every row has the columns object, split, label, image, "
                                "mask; get it again")  # fmt: skip


def test_chosen_categories_come_once_and_in_the_given_order(tmp_path):
    mvtec(tmp_path, "bolt", "metal_nut", "tile")
    assert [c.name for c in opened(tmp_path)] == ["bolt", "metal_nut", "tile"]
    assert [c.name for c in opened(tmp_path, "tile", "Metal-Nut", "tile")] == ["tile", "metal_nut"]


@pytest.mark.parametrize(("name", "hint"), [
    ("blot", "did you mean 'bolt'?"), ("../bolt2", "did you mean 'bolt'?"), ("/etc", "choose from: bolt, tile"),
])  # fmt: skip
def test_an_unknown_category_gets_the_nearest_name(tmp_path, name, hint):
    with pytest.raises(UsageError) as error:
        opened(mvtec(tmp_path, "bolt", "tile"), name)
    assert str(error.value) == f"unknown category '{name}' in {tmp_path}; {hint}"


def test_without_a_near_name_all_categories_are_listed(tmp_path):
    names = [f"part{k:02d}" for k in range(15)]
    with pytest.raises(UsageError) as error:
        opened(mvtec(tmp_path, *names), "zzz")
    assert str(error.value) == f"unknown category 'zzz' in {tmp_path}; choose from: {', '.join(names)}"


def test_a_missing_folder_a_file_and_an_empty_folder_are_named(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    reasons = {"none": "no such folder", "file": "not a folder", "empty": "no image in it"}
    for name, reason in reasons.items():
        with pytest.raises(DataError) as error:
            opened(tmp_path / name)
        assert str(error.value) == f"no data in {tmp_path}/{name}: {reason}; {REMEDY}"


def test_a_category_without_training_images_is_named(tmp_path):
    shutil.rmtree(mvtec(tmp_path, "bolt", "tile") / "tile/train/good")
    (tmp_path / "tile/train/good").mkdir()
    assert len(opened(tmp_path, "bolt")) == 1
    with pytest.raises(DataError) as error:
        opened(tmp_path)
    assert str(error.value) == f"category 'tile' in {tmp_path} has no training image; put good images into its train/good"


def test_registered_datasets_keep_the_contract():
    assert {"demo", "mvtec", "mvtec2", "mvtec3d", "plain", "visa"} <= set(DATASETS.names())
    assert all(issubclass(kind, Dataset) for kind in DATASETS.items().values())


def test_check_gives_digest_and_size_of_every_file(tmp_path):
    categories = opened(mvtec(tmp_path))
    steps = []
    facts = check_files(categories, on_step=lambda *step: steps.append(step))
    assert len(facts) == 5 and {(f.height, f.width) for f in facts.values()} == {(4, 6)}
    assert len({f.sha256 for f in facts.values()}) == 5
    assert steps[-1] == (5, 5, "checking files")


def test_one_problem_is_the_whole_message(tmp_path):
    mvtec(tmp_path)
    mask = put(tmp_path / "bolt/ground_truth/cut/000_mask.png", size=(6, 5))
    with pytest.raises(DataError) as error:
        check_files(opened(tmp_path))
    image = tmp_path / "bolt/test/cut/000.png"
    assert str(error.value) == f"mask {mask} has 6 x 5 pixels, its image {image} has 6 x 4; make them the same"


def test_all_problems_are_counted_and_the_first_ten_named(tmp_path):
    mvtec(tmp_path)
    for k in range(12):
        put(tmp_path / f"bolt/test/cut/1{k:02d}.png")
    (tmp_path / "bolt/train/good/000.png").write_text("no image")
    with pytest.raises(DataError) as error:
        check_files(opened(tmp_path))
    head, *problems, more = str(error.value).split(" | ")
    assert head == (f"13 problems in the data: cannot read image {tmp_path}/bolt/train/good/000.png: no PNG, JPEG, BMP, TIFF, "
                    "WEBP or PPM content; replace or remove it")  # fmt: skip
    assert problems[0] == f"no mask for image {tmp_path}/bolt/test/cut/100.png; add it to the ground truth or remove the image"
    assert (len(problems), more) == (9, "and 3 more")


def test_a_file_deleted_meanwhile_is_named(tmp_path):
    categories = opened(mvtec(tmp_path))
    path = tmp_path / "bolt/test/good/000.png"
    path.unlink()
    with pytest.raises(DataError) as error:
        check_files(categories)
    assert str(error.value) == f"cannot read image {path}: No such file or directory; replace or remove it"


def test_a_second_check_reads_only_changed_files(tmp_path):
    memo, categories = tmp_path / "cache/files.json", opened(mvtec(tmp_path))
    facts = check_files(categories, memo)
    with opened_paths() as read:
        assert check_files(categories, memo) == facts
    assert not [path for path in read if path.endswith(".png")]
    changed = put(tmp_path / "bolt/train/good/001.png", 77)
    with opened_paths() as read:
        assert check_files(categories, memo) != facts
    assert [path for path in read if path.endswith(".png")] == [str(changed)]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"a": 1}', '{"a": [1, 2, 3, 4, 5]}'])
def test_a_damaged_memo_is_rewritten(tmp_path, text):
    memo, categories = tmp_path / "files.json", opened(mvtec(tmp_path))
    memo.write_text(text)
    assert check_files(categories, memo) == check_files(categories)
    assert len(json.loads(memo.read_text().splitlines()[1])) == 5


def fingerprints(root: Path) -> tuple[str, str]:
    (category,) = opened(root)
    facts = check_files([category])
    return split_fingerprint(category.train, facts), category_fingerprint(category, facts)


def test_fingerprints_do_not_depend_on_the_folder(tmp_path):
    before = fingerprints(mvtec(tmp_path / "a"))
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert fingerprints(tmp_path / "b") == before


@pytest.mark.parametrize(("change", "train_too"), [
    (lambda d: put(d / "train/good/000.png", 9), True),
    (lambda d: (d / "train/good/000.png").rename(d / "train/good/z.png"), True),
    (lambda d: put(d / "test/good/000.png", 9), False),
    (lambda d: put(d / "ground_truth/cut/000_mask.png", 1), False),
    (lambda d: shutil.rmtree(d / "ground_truth"), False),
])  # fmt: skip
def test_fingerprints_change_with_every_file(tmp_path, change, train_too):
    train, whole = fingerprints(mvtec(tmp_path))
    change(tmp_path / "bolt")
    changed_train, changed_whole = fingerprints(tmp_path)
    assert changed_whole != whole and (changed_train != train) == train_too


def test_many_sizes_and_a_large_image(tmp_path):
    mvtec(tmp_path)
    path = tmp_path / "bolt/train/good/002.png"
    Image.fromarray(np.zeros((50, 70, 3), np.uint8)).save(path)
    assert check_files(opened(tmp_path))[path][1:3] == (50, 70)
