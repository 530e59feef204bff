"""Folders as users have them: subfolders, names in any case and Unicode form, pairs of one stem, unusual suffixes, plain folders.

No file is passed over in silence.
"""

import io
import json
import shutil
from pathlib import Path
from unicodedata import normalize

import pytest
from PIL import Image

from adbench.core.errors import DataError
from adbench.data.check import category_fingerprint, check_files
from adbench.data.datasets import category_names, open_dataset, open_training
from adbench.data.image_lists import find_images
from adbench.data.layouts import DATASETS
from adbench.data.layouts.mvtec import MVTec
from adbench.types import Category

SAID = "CATEGORY/train/good, CATEGORY/validation/good, CATEGORY/test/KIND and CATEGORY/ground_truth/KIND"


def encoded(kind: str = "PNG", value: int = 9) -> bytes:
    out = io.BytesIO()
    Image.new("L", (6, 4), value).save(out, format=kind)
    return out.getvalue()


def put(root: Path, *names: str, kind: str = "PNG") -> None:
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(kind, number + 1))


@pytest.fixture
def bolt(tmp_path: Path) -> Path:
    """One category in MVTec AD's layout, without test images."""
    put(tmp_path / "data/bolt", "train/good/0.png")
    return tmp_path / "data/bolt"


def opened(root: Path) -> Category:
    (category,) = open_dataset(str(root), root / "cache")
    return category


def masks(root: Path) -> dict[str, list[str]]:
    """Return the masks of each defective image, all by name within the category."""
    category = opened(root)
    folder = root / category.name if (root / category.name).is_dir() else root
    return {s.name: [m.relative_to(folder).as_posix() for m in s.masks or ()] for s in category.test if s.anomalous}


def said(caplog: pytest.LogCaptureFixture, root: Path) -> list[str]:
    """Return what was logged since the last call, without the root."""
    lines = [record.getMessage().removeprefix(f"{root}").removeprefix(": ").strip() for record in caplog.records]
    caplog.clear()
    return lines


# ---- pairs of one stem -------------------------------------------------------------------------------------------------


def test_pairs_of_one_stem_are_told_apart_by_their_suffixes(bolt: Path) -> None:
    put(bolt, "test/cut/0.png", "test/cut/0.bmp", "ground_truth/cut/0_mask.png", "ground_truth/cut/0_mask.bmp")
    assert masks(bolt) == {"test/cut/0.bmp": ["ground_truth/cut/0_mask.bmp"], "test/cut/0.png": ["ground_truth/cut/0_mask.png"]}


@pytest.mark.parametrize(("first", "second"), [
    ("0.png_mask.png", "0.bmp_mask.png"), ("0.png.png", "0.bmp.png"), ("0.png", "0.bmp"), ("0.png/a.png", "0.bmp/a.png"),
    ("0.png", "0.bmp_mask.tif"), ("0_mask.png", "0_mask.tif"),
])  # fmt: skip
def test_masks_may_be_named_after_the_whole_file_name(bolt: Path, first: str, second: str) -> None:
    put(bolt, "test/cut/0.png", "test/cut/0.bmp", f"ground_truth/cut/{first}", f"ground_truth/cut/{second}")
    found = masks(bolt)
    assert found == {"test/cut/0.bmp": [f"ground_truth/cut/{second}"], "test/cut/0.png": [f"ground_truth/cut/{first}"]}


def test_a_mask_for_two_images_is_named(bolt: Path) -> None:
    put(bolt, "test/cut/0.bmp", "test/cut/0.jpg", "ground_truth/cut/0_mask.png")
    with pytest.raises(DataError) as error:
        opened(bolt)
    assert str(error.value) == (
        f"mask {bolt}/ground_truth/cut/0_mask.png fits 2 images, {bolt}/test/cut/0.bmp and {bolt}/test/cut/0.jpg; "
        "give each its own, called e.g. 0.bmp_mask.png"
    )


def test_two_masks_for_an_image_are_named(bolt: Path) -> None:
    put(bolt, "test/cut/0.png", "ground_truth/cut/0_mask.bmp", "ground_truth/cut/0_mask.tif")
    with pytest.raises(DataError) as error:
        opened(bolt)
    truth = bolt / "ground_truth/cut"
    assert str(error.value) == (
        f"image {bolt}/test/cut/0.png has 2 masks, {truth}/0_mask.bmp and {truth}/0_mask.tif; keep one, or call it 0.png_mask.bmp"
    )


def test_all_clashes_are_counted(bolt: Path) -> None:
    for number in range(7):
        put(bolt, f"test/cut/{number}.png", f"ground_truth/cut/{number}_mask.bmp", f"ground_truth/cut/{number}_mask.tif")
    with pytest.raises(DataError) as error:
        opened(bolt)
    assert str(error.value).count("has 2 masks") == 5
    assert str(error.value).endswith(" | and 2 more")


def test_an_image_whose_twin_has_the_mask_lacks_one(bolt: Path) -> None:
    put(bolt, "test/cut/0.png", "test/cut/0.bmp", "ground_truth/cut/0_mask.png")
    with pytest.raises(DataError) as error:
        check_files([opened(bolt)])
    assert str(error.value) == f"no mask for image {bolt}/test/cut/0.bmp; add it to the ground truth or remove the image"


# ---- subfolders --------------------------------------------------------------------------------------------------------


def test_subfolders_are_read(bolt: Path, caplog: pytest.LogCaptureFixture) -> None:
    put(bolt, "train/good/lot1/0.png", "train/good/lot2/0.png", "test/good/cam1/0.png", "test/spot/cam1/0.png")
    put(bolt, "test/spot/cam2/a/0.png", "ground_truth/spot/cam1/0_mask.png", "ground_truth/spot/cam2/a/0.png")
    category = opened(bolt)
    assert [s.name for s in category.train] == ["train/good/0.png", "train/good/lot1/0.png", "train/good/lot2/0.png"]
    assert [(s.name, s.defect) for s in category.test] == [
        ("test/good/cam1/0.png", "good"), ("test/spot/cam1/0.png", "spot"), ("test/spot/cam2/a/0.png", "spot"),
    ]  # fmt: skip
    assert list(masks(bolt).values()) == [["ground_truth/spot/cam1/0_mask.png"], ["ground_truth/spot/cam2/a/0.png"]]
    assert open_training(str(bolt), bolt)[0].train == category.train
    assert said(caplog, bolt) == []


def test_masks_of_subfolders_may_lie_in_one_folder(bolt: Path) -> None:
    put(bolt, "test/spot/cam1/0.png", "test/spot/cam2/1.png", "ground_truth/spot/0_mask.png", "ground_truth/spot/1/a.png")
    assert list(masks(bolt).values()) == [["ground_truth/spot/0_mask.png"], ["ground_truth/spot/1/a.png"]]


def test_masks_that_fit_two_subfolders_are_named(bolt: Path) -> None:
    put(bolt, "test/spot/cam1/0.png", "test/spot/cam2/0.png", "ground_truth/spot/0_mask.png")
    with pytest.raises(DataError, match=r"0_mask.png fits 2 images, .*/cam1/0.png and .*/cam2/0.png; give each its own"):
        opened(bolt)


def test_a_folder_of_several_masks_beside_those_of_other_images(bolt: Path) -> None:
    put(bolt, "test/spot/0.png", "test/spot/1.png", "ground_truth/spot/0/1.png", "ground_truth/spot/0/2.png")
    assert masks(bolt)["test/spot/0.png"] == ["ground_truth/spot/0/1.png", "ground_truth/spot/0/2.png"]
    assert masks(bolt)["test/spot/1.png"] == []


def test_masks_among_the_images_are_no_images(bolt: Path, caplog: pytest.LogCaptureFixture) -> None:
    put(bolt, "test/spot/0.png", "test/spot/masks/0.png", "train/good/gt/0.png", "test/ground_truth/spot/0.png")
    assert [s.name for s in opened(bolt).test] == ["test/spot/0.png"]
    assert said(caplog, bolt) == [
        f"3 images are not used: 1 in test/ground_truth/spot, 1 in test/spot/masks, 1 in train/good/gt; adbench reads {SAID}"
    ]


@pytest.mark.parametrize("place", ["test", "train", "train/bad", "validation/bad", "ground_truth/good", "."])
def test_images_outside_the_layout_are_counted(bolt: Path, caplog: pytest.LogCaptureFixture, place: str) -> None:
    put(bolt, "test/good/0.png", f"{place}/8.png", f"{place}/9.png")
    opened(bolt.parent)
    shown = "bolt" if place == "." else f"bolt/{place}"
    assert said(caplog, bolt.parent) == [f"2 images are not used: 2 in {shown}; adbench reads {SAID}"]
    opened(bolt.parent)
    assert said(caplog, bolt.parent) == []  # it has been said


def test_without_the_test_images_those_beside_the_good_ones_are_counted(bolt: Path, caplog: pytest.LogCaptureFixture) -> None:
    put(bolt, "train/8.png", "train/bad/9.png", "test/9.png")
    open_training(str(bolt), bolt)
    assert said(caplog, bolt) == [f"2 images are not used: 1 in train, 1 in train/bad; adbench reads {SAID}"]


def test_a_folder_that_is_no_category_is_said(bolt: Path, caplog: pytest.LogCaptureFixture) -> None:
    put(bolt.parent, "nut/training/good/0.png", "overview.png")
    opened(bolt.parent)
    root = bolt.parent
    assert said(caplog, root) == [f"2 images are not used: 1 in {root}, 1 in nut/training/good; adbench reads {SAID}"]
    open_dataset(str(root), root, ["bolt"])
    assert said(caplog, root) == []  # nobody asked for more than bolt


def test_links_do_not_make_images_unused(bolt: Path, caplog: pytest.LogCaptureFixture) -> None:
    (bolt / "train/good").rename(bolt / "all")
    (bolt / "train/good").symlink_to(bolt / "all")
    (bolt / "all/loop").symlink_to(bolt)
    put(bolt, "train/good/1.png")
    assert [s.name for s in opened(bolt).train] == ["train/good/0.png", "train/good/1.png"]
    assert said(caplog, bolt) == []


def test_masks_of_no_image_are_counted(bolt: Path, caplog: pytest.LogCaptureFixture) -> None:
    put(bolt, "test/cut/0.png", "ground_truth/cut/0_mask.png", "ground_truth/cut/1_mask.png", "ground_truth/cut/2/a.png")
    opened(bolt)
    assert said(caplog, bolt) == [
        "2 masks without a defective image of that name are passed over: 1 in ground_truth/cut, 1 in ground_truth/cut/2"
    ]


def test_mvtec_ad_2_does_not_count_private_images_as_good(bolt: Path, caplog: pytest.LogCaptureFixture) -> None:
    put(bolt, "test_public/good/0.png", "test_private/0_regular.png", "test_private_mixed/0_mixed.png", "validation/good/1.png")
    category = opened(bolt)
    names = [[sample.name for sample in part] for part in (category.train, category.validation, category.test)]
    assert (category.dataset, names) == ("mvtec2", [["train/good/0.png"], ["validation/good/1.png"], ["test_public/good/0.png"]])
    assert [path.name for path in category.unlabeled] == ["0_regular.png", "0_mixed.png"]
    assert said(caplog, bolt) == [
        "images without published labels are not measured: test_private, test_private_mixed; 'adbench submit' makes maps of them"
    ]


def test_good_images_for_thresholds_leave_the_fingerprint_as_it_was(bolt: Path) -> None:
    put(bolt, "test/good/0.png")
    before = category_fingerprint(opened(bolt), check_files([opened(bolt)]))
    put(bolt, "validation/good/1.png")
    category = opened(bolt)
    facts = check_files([category])
    assert (category_fingerprint(category, facts), len(facts)) == (before, 3)


REALIAD = {"image_path": "OK/S1/a.png", "mask_path": None, "anomaly_class": "OK", "category": "nut"}


def real_iad(root: Path, test: list[dict[str, str | None]], split: str = "realiad_jsons", size: str = "realiad_256") -> None:
    for entry in [REALIAD, *test]:
        put(root, *(f"{size}/nut/{path}" for path in (entry["image_path"], entry["mask_path"]) if path))
    (root / split).mkdir(parents=True, exist_ok=True)
    content = {"meta": {"prefix": "nut/", "normal_class": "OK"}, "train": [REALIAD], "test": test}
    (root / split / "nut.json").write_text(json.dumps(content))


def test_real_iad_has_the_labels_of_its_own_code(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    seen = REALIAD | {"image_path": "NG/BX/S2/b.png", "mask_path": "NG/BX/S2/other.png", "anomaly_class": "BX"}
    hidden = seen | {"image_path": "NG/BX/S2/c.png", "mask_path": None}
    real_iad(tmp_path, [hidden, seen], "realiad_jsons/realiad_jsons")
    category = opened(tmp_path)
    assert (category.dataset, category.name, len(category.train)) == ("realiad", "nut", 1)
    assert [(s.name, s.masks) for s in category.test] == [
        ("test/BX/S2/b.png", (tmp_path / "realiad_256/nut/NG/BX/S2/other.png",)),
        ("test/good/S2/c.png", ()),
    ]
    assert "1 test views of defective parts have no mask and count as good" in caplog.text


def test_real_iad_of_several_sizes_or_splits_is_named_by_its_folder(tmp_path: Path) -> None:
    real_iad(tmp_path, [])
    real_iad(tmp_path, [REALIAD | {"image_path": "OK/S2/v.png"}], "realiad_jsons_sv")
    assert len(opened(tmp_path / "realiad_jsons_sv").test) == 1
    real_iad(tmp_path, [], size="realiad_512")
    images = [tmp_path / name for name in ("realiad_256", "realiad_512")]
    with pytest.raises(DataError) as error:
        opened(tmp_path)
    sizes = f"{images[0]}, {images[1]}; name one of these folders with --data"
    assert str(error.value) == f"{tmp_path} has images of several sizes: {sizes}"
    assert opened(images[1]).train[0].path.is_relative_to(images[1])


@pytest.mark.parametrize(("change", "says"), [
    ({"image_path": "../../out.png"}, "leads out of"),
    ({"image_path": "/out.png"}, "leads out of"),
    ({"mask_path": 3}, "a path is no text"),
])  # fmt: skip
def test_a_bad_real_iad_split_is_refused(tmp_path: Path, change: dict[str, str], says: str) -> None:
    real_iad(tmp_path, [])
    path = tmp_path / "realiad_jsons/nut.json"
    content = json.loads(path.read_text())
    content["train"][0] |= change
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=says):
        opened(tmp_path)


@pytest.mark.parametrize(("layout", "files"), [
    ("btad", ["01/train/ok/0.bmp", "01/test/ok/1.bmp", "01/test/ko/2.bmp", "01/ground_truth/ko/2.png"]),
    ("mpdd", ["tubes/train/good/0.png", "tubes/test/bad/1.png", "tubes/ground_truth/bad/1_mask.png"]),
    ("vad", ["vad/train/good/0.png", "vad/train/bad/1.png", "vad/test/bad/2.png", "vad/test/bad_unseen_defects/3.png"]),
])  # fmt: skip
def test_published_folders_keep_the_name_that_results_have(tmp_path: Path, layout: str, files: list[str]) -> None:
    put(tmp_path, *files)
    kind = DATASETS.get(layout)(layout)
    category = opened(tmp_path)
    assert kind.matches(tmp_path) and category == MVTec("mvtec").load(tmp_path, category.name)
    put(tmp_path, "own/train/good/0.png")  # a category of the user's
    assert not kind.matches(tmp_path) and len(open_dataset(str(tmp_path), tmp_path)) == 2


def test_mvtec_3d_as_published(bolt: Path, caplog: pytest.LogCaptureFixture) -> None:
    shutil.rmtree(bolt)
    put(bolt, "train/good/rgb/0.png", "test/hole/rgb/0.png", "test/hole/rgb/1.png", "test/good/rgb/0.png")
    put(bolt, "test/hole/gt/0.png", "test/hole/gt/1.png", "test/hole/xyz/0.tiff", "train/good/xyz/0.tiff", "test/good/gt/0.png")
    category = opened(bolt)
    assert (category.dataset, [s.name for s in category.train]) == ("mvtec3d", ["train/good/rgb/0.png"])
    assert masks(bolt) == {f"test/hole/rgb/{k}.png": [f"test/hole/gt/{k}.png"] for k in (0, 1)}
    (line,) = said(caplog, bolt)
    assert line.startswith("3 images are not used: 1 in test/good/gt, 1 in test/hole/xyz, 1 in train/good/xyz; adbench reads")


# ---- suffixes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "kind"), [
    ("1.jfif", "JPEG"), ("1.jpe", "JPEG"), ("1.JPE", "JPEG"), ("1.ppm", "PPM"), ("1.pgm", "PPM"), ("1.pnm", "PPM"),
])  # fmt: skip
def test_rare_suffixes_of_images(bolt: Path, caplog: pytest.LogCaptureFixture, name: str, kind: str) -> None:
    put(bolt, f"train/good/{name}", kind=kind)
    category = opened(bolt)
    assert [s.path.name for s in category.train] == ["0.png", name]
    assert len(check_files([category])) == 2
    assert said(caplog, bolt) == []


@pytest.mark.parametrize(("name", "kind"), [("1.dat", "JPEG"), ("1", "JPEG"), ("1.0001", "PNG"), ("1.image", "WEBP")])
def test_an_unknown_suffix_is_decided_by_content(bolt: Path, caplog: pytest.LogCaptureFixture, name: str, kind: str) -> None:
    put(bolt, f"train/good/{name}", kind=kind)
    category = opened(bolt)
    assert [s.path.name for s in category.train] == sorted(["0.png", name])
    assert len(check_files([category])) == 2
    assert said(caplog, bolt) == [f"read as images by content, as their suffixes are unknown: train/good/{name}"]


def test_other_files_are_counted_by_suffix(bolt: Path, caplog: pytest.LogCaptureFixture) -> None:
    put(bolt, "test/cut/0.png", "ground_truth/cut/0_mask.png")
    for name in ("train/good/a.heic", "train/good/b.HEIC", "train/good/lot/c.heic", "test/cut/0.txt", "ground_truth/cut/0.json"):
        (bolt / name).parent.mkdir(exist_ok=True)
        (bolt / name).write_bytes(b"no picture")
    for name in ("train/good/raw.nef", "license.txt", "train/good/.DS_Store", "train/good/Thumbs.db", "test/cut/desktop.ini"):
        (bolt / name).write_bytes(b"II*\0")  # raw photos begin like TIFF files
    opened(bolt)
    assert said(caplog, bolt) == ["6 files without readable image content are passed over: 3 .heic, 1 .json, 1 .nef and 1 more"]


def test_unusual_files_are_never_opened(bolt: Path, caplog: pytest.LogCaptureFixture) -> None:
    import os

    os.mkfifo(bolt / "train/good/pipe")  # reading it would wait for ever
    os.mkfifo(bolt / "train/good/pipe.png")
    (bolt / "train/good/lost").symlink_to("nowhere")
    assert [s.path.name for s in opened(bolt).train] == ["0.png"]
    assert said(caplog, bolt) == ["3 files without readable image content are passed over: 2 without suffix, 1 .png"]


def test_a_category_of_files_that_cannot_be_read_says_so(bolt: Path) -> None:
    (bolt / "train/good/0.png").rename(bolt / "train/good/0.heic")
    (bolt / "train/good/0.heic").write_bytes(b"....ftypheic")
    with pytest.raises(DataError) as error:
        opened(bolt)
    assert str(error.value) == (
        f"category 'bolt' in {bolt} has no training image; put good images into its train/good; "
        "1 file without readable image content is passed over: 1 .heic"
    )


def test_new_images_that_are_passed_over_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    put(tmp_path, "a.png", "b.jfif", "c", kind="JPEG")
    (tmp_path / "notes.txt").write_text("x")
    assert [str(image.name) for image in find_images([tmp_path])] == ["a.png", "b.jfif", "c"]
    assert said(caplog, tmp_path) == [
        "read as images by content, as their suffixes are unknown: c",
        "1 file without readable image content is passed over: 1 .txt",
    ]


def test_a_folder_without_new_images_says_what_it_holds(tmp_path: Path) -> None:
    for name in ("a.heic", "b.heic", "c.txt"):
        (tmp_path / name).write_text("x")
    with pytest.raises(DataError) as error:
        find_images([tmp_path])
    assert str(error.value) == (
        f"no image in {tmp_path}: nothing in it or below ends in .png, .jpg, .bmp, .tif or .webp; "
        "3 files without readable image content are passed over: 2 .heic, 1 .txt"
    )


# ---- names: Unicode, case ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("image", "mask"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_masks_are_found_in_either_unicode_form(bolt: Path, image: str, mask: str) -> None:
    kind, stem = "Kratzer groß über", "Öse"
    put(bolt, normalize(image, f"test/{kind}/é/{stem}.png"), normalize(mask, f"ground_truth/{kind}/é/{stem}_mask.png"))
    (found,) = masks(bolt).values()
    assert found == [normalize(mask, f"ground_truth/{kind}/é/{stem}_mask.png")]


@pytest.mark.parametrize(("folder", "asked"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_a_category_is_found_in_either_unicode_form(tmp_path: Path, folder: str, asked: str) -> None:
    put(tmp_path, f"{normalize(folder, 'Nähgut')}/train/good/0.png", "other/train/good/0.png")
    (category,) = open_dataset(str(tmp_path), tmp_path, [normalize(asked, "Nähgut")])
    assert category.name == normalize(folder, "Nähgut")


def test_folders_and_masks_in_another_case(tmp_path: Path) -> None:
    root = tmp_path / "bolt"
    put(root, "Train/Good/0.png", "TEST/Cut/A.PNG", "TEST/good/0.png", "Ground_Truth/cut/a_Mask.png")
    category = opened(root)
    assert (len(category.train), [s.defect for s in category.test]) == (1, ["Cut", "good"])
    assert masks(root) == {"TEST/Cut/A.PNG": ["Ground_Truth/cut/a_Mask.png"]}


def test_names_that_differ_in_case_alone_keep_their_masks(bolt: Path) -> None:
    put(bolt, "test/cut/A.png", "test/cut/a.png", "ground_truth/cut/A_mask.png", "ground_truth/cut/a_mask.png")
    assert masks(bolt) == {f"test/cut/{k}.png": [f"ground_truth/cut/{k}_mask.png"] for k in "Aa"}


@pytest.mark.parametrize("word", ["Good", "GOOD", "normal", "Normal", "OK", "nominal"])
def test_words_for_good_are_read_and_said_once(bolt: Path, caplog: pytest.LogCaptureFixture, word: str) -> None:
    put(bolt, f"test/{word}/0.png", "test/cut/0.png", "ground_truth/cut/0_mask.png")
    put(bolt.parent, f"nut/train/{word}/0.png", f"nut/test/{word}/0.png")
    found = open_dataset(str(bolt.parent), bolt)
    assert [(s.name, s.defect) for c in found for s in c.test if not s.anomalous] == [(f"test/{word}/0.png", "good")] * 2
    assert len(found[1].train) == 1
    lines = said(caplog, bolt.parent)
    assert lines == [f"read as good images: bolt/test/{word}, nut/test/{word}, nut/train/{word}"]


@pytest.mark.parametrize("word", ["good", "ok"])
def test_the_usual_words_are_not_worth_a_remark(bolt: Path, caplog: pytest.LogCaptureFixture, word: str) -> None:
    put(bolt, f"test/{word}/0.png")
    assert [s.defect for s in opened(bolt).test] == ["good"]
    assert said(caplog, bolt) == []


# ---- VisA --------------------------------------------------------------------------------------------------------------


def visa(root: Path, *rows: str) -> Path:
    (root / "split_csv").mkdir(parents=True)
    (root / "split_csv/1cls.csv").write_text("\n".join(("object,split,label,image,mask", *rows, "")), encoding="utf-8")
    return root


def test_a_csv_with_backslashes_is_the_same_dataset(tmp_path: Path) -> None:
    rows = ("nut,train,normal,nut/Images/0.png,", "nut,test,anomaly,nut/Images/bad/1.png,nut/Masks/1.png")
    found = []
    for name, change in {"slashes": str, "backslashes": lambda row: row.replace("/", "\\")}.items():
        put(tmp_path / name, "nut/Images/0.png", "nut/Images/bad/1.png", "nut/Masks/1.png")
        category = opened(visa(tmp_path / name, *map(change, rows)))
        assert len(check_files([category])) == 3
        found.append([(s.name, s.defect, [m.relative_to(tmp_path / name) for m in s.masks or ()])
                      for s in (*category.train, *category.test)])  # fmt: skip
    assert found[0] == found[1]


def test_a_csv_in_another_case_and_unicode_form(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    put(tmp_path, f"nut/Data/{normalize('NFD', 'Größe')}/0.JPG", "nut/Data/1.png", "nut/Data/2.png", "nut/gt/2.png")
    root = visa(tmp_path, f"nut,Train,Normal,nut/data/{normalize('NFC', 'Größe')}/0.jpg,", "nut, test ,OK,nut/Data/1.png,",
                "nut,TEST,anomaly,nut/Data/2.png, nut/gt/2.png")  # fmt: skip
    category = opened(root)
    assert len(check_files([category])) == 4
    assert [s.defect for s in (*category.train, *category.test)] == ["good", "good", "anomaly"]
    assert said(caplog, root) == []


def test_images_of_one_name_in_a_csv_keep_names_of_their_own(tmp_path: Path) -> None:
    put(tmp_path, "nut/a/0.png", "nut/b/0.png", "nut/b/1.png")
    root = visa(tmp_path, "nut,train,normal,nut/a/0.png,", "nut,train,normal,nut/b/0.png,", "nut,train,normal,nut/b/1.png,")
    assert [s.name for s in opened(root).train] == ["train/good/nut/a/0.png", "train/good/nut/b/0.png", "train/good/1.png"]


def test_images_that_the_csv_does_not_list_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    put(tmp_path, "nut/a/0.png", "nut/a/1.png", "nut/a/2.png")
    root = visa(tmp_path, "nut,train,normal,nut/a/0.png,")
    opened(root)
    assert said(caplog, root) == ["2 images are not used: 2 in nut/a; adbench reads those that split_csv/1cls.csv lists"]


@pytest.mark.parametrize(("row", "problem"), [
    ("nut,validation,normal,nut/a/0.png,", "{csv} line 2: split 'validation' is neither train nor test; correct the row"),
    ("nut/x,train,normal,nut/a/0.png,", "{csv} line 2: object 'nut/x' is no name of a folder; correct the row"),
    (",train,normal,nut/a/0.png,", "{csv} line 2: object '' is no name of a folder; correct the row"),
    ("nut,train,anomaly,nut/a/0.png,", "{csv}: {root}/nut/a/0.png is to be trained on but not labeled normal; correct its row"),
])  # fmt: skip
def test_a_row_that_would_be_passed_over_is_refused(tmp_path: Path, row: str, problem: str) -> None:
    root = visa(tmp_path, row)
    with pytest.raises(DataError) as error:
        opened(root)
    assert str(error.value) == problem.format(csv=root / "split_csv/1cls.csv", root=root)


# ---- plain folders -----------------------------------------------------------------------------------------------------


def test_a_plain_folder_is_one_category_of_good_images(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = tmp_path / "flat"
    put(root, "b.png", "a.jpg")
    category = opened(root)
    assert (category.dataset, category.name, category.test) == ("plain", "flat", ())
    assert [s.name for s in category.train] == ["train/good/a.jpg", "train/good/b.png"]
    assert open_training(str(root), root) == [category]
    assert category_names(str(root)) == ["flat"]
    assert said(caplog, root) == []


def test_folders_in_a_plain_folder_are_not_guessed_at(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    put(tmp_path, "a.png", "lot1/b.png")
    assert [s.path.name for s in opened(tmp_path).train] == ["a.png"]
    assert said(caplog, tmp_path) == [
        "1 image is not used: 1 in lot1; adbench reads the images directly in a folder, or those in its folders good and bad"
    ]


@pytest.mark.parametrize(("good", "bad"), [("good", "bad"), ("ok", "nok"), ("normal", "anomalous"), ("OK", "NG")])
def test_good_and_bad_folders(tmp_path: Path, caplog: pytest.LogCaptureFixture, good: str, bad: str) -> None:
    put(tmp_path, *(f"{good}/{k}.png" for k in range(10)), f"{bad}/0.png", f"{bad}/cam/1.png", "raw/9.png")
    category = opened(tmp_path)
    assert (len(category.train), [s.defect for s in category.test].count("good")) == (8, 2)
    assert [s.name for s in category.test if s.anomalous] == [f"test/{bad}/0.png", f"test/{bad}/cam/1.png"]
    assert all(s.masks is None for s in category.test if s.anomalous)
    assert {s.path for s in category.train}.isdisjoint(s.path for s in category.test)
    assert open_training(str(tmp_path), tmp_path)[0].train == category.train
    lines = said(caplog, tmp_path)
    assert lines[0] == ("has no test split: good images, chosen by their names, are held out from training and tested beside "
                        f"the bad ones: {category.name} 2 of 10")  # fmt: skip
    assert "1 image is not used: 1 in raw" in lines[-1]


def test_a_good_folder_alone_trains_on_all_of_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    put(tmp_path, "good/lot1/0.png", "good/1.png")
    (tmp_path / "bad").mkdir()
    category = opened(tmp_path)
    assert ([s.name for s in category.train], category.test) == (["train/good/1.png", "train/good/lot1/0.png"], ())
    assert said(caplog, tmp_path) == []


def test_a_further_good_image_changes_at_most_one_held_out(tmp_path: Path) -> None:
    put(tmp_path, *(f"good/{k}.png" for k in range(15)), "bad/0.png")
    before = {s.name for s in opened(tmp_path).test}
    put(tmp_path, "good/99.png")
    after = {s.name for s in opened(tmp_path).test}
    assert len(before) == 5
    assert len(before - after) <= 1


@pytest.mark.parametrize(("count", "train"), [(1, 1), (2, 1), (3, 2), (5, 4)])
def test_few_good_images_leave_some_to_train_on(tmp_path: Path, count: int, train: int) -> None:
    put(tmp_path, *(f"good/{k}.png" for k in range(count)), "bad/0.png")
    category = opened(tmp_path)
    assert (len(category.train), len(category.test)) == (train, count - train + 1)


def test_masks_of_bad_images(tmp_path: Path) -> None:
    put(tmp_path, "good/0.png", "bad/0.png", "ground_truth/bad/0_mask.png")
    assert masks(tmp_path) == {"test/bad/0.png": ["ground_truth/bad/0_mask.png"]}


def test_several_plain_categories(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    put(tmp_path, "nut/good/0.png", "nut/good/1.png", "nut/bad/0.png", "bolt/good/0.png", "overview.png")
    found = open_dataset(str(tmp_path), tmp_path)
    assert [(c.name, len(c.train), len(c.test)) for c in found] == [("bolt", 1, 0), ("nut", 1, 2)]
    assert open_dataset(str(tmp_path), tmp_path, ["nut"])[0] == found[1]
    assert any(line.startswith(f"1 image is not used: 1 in {tmp_path}") for line in said(caplog, tmp_path))


def test_other_layouts_come_first(bolt: Path) -> None:
    put(bolt, "good/0.png", "bad/0.png", "0.png")
    assert opened(bolt).dataset == "mvtec"


def test_what_cannot_be_read_is_described_with_the_layouts_that_can(tmp_path: Path) -> None:
    put(tmp_path, "lots/lot1/0.png", "lots/lot1/1.png", "lots/lot2/0.png")
    (tmp_path / "lots/a.heic").write_text("x")
    with pytest.raises(DataError) as error:
        opened(tmp_path / "lots")
    assert str(error.value) == (
        f"no data in {tmp_path}/lots: its images lie in folders of no known layout, lot1 2, lot2 1; "
        "1 file without readable image content is passed over: 1 .heic; "
        "give --data (or ADBENCH_DATA) a folder that holds CATEGORY/train/good/*.png (and CATEGORY/test/KIND/*.png), or "
        "good/*.png (and bad/*.png), or good images only, or give the word demo"
    )


def test_data_that_lie_deeper_are_pointed_at(bolt: Path) -> None:
    with pytest.raises(DataError) as error:
        opened(bolt.parent.parent)
    assert str(error.value) == f"no data in {bolt.parent.parent}: the data lie deeper; give --data {bolt.parent}"
