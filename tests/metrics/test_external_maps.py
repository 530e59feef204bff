"""Maps of other programs: measured as they are, named when they are missing or damaged."""

import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from conftest import Run, make_category, one_line, write_deep_png
from PIL import Image

from adbench.core.errors import DataError
from adbench.metrics import ORDER
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
    undefined = {"aupimo", "au_spro"}  # too few good pixels, no saturation areas
    assert {name for name, value in found[0]["metrics"].items() if value is None} == undefined
    values = {name: value for name, value in found[0]["metrics"].items() if value is not None}
    assert values == pytest.approx(dict.fromkeys([*ORDER, "aupro_05", "aupro_anomalous"], 1.0), abs=1e-12)


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


def test_a_folder_without_maps_is_one_line(run: Run, parts: Path, maps: Path, tmp_path: Path) -> None:
    example = "each of 12 images needs one, e.g. alpha/test/good/000.npy, .tiff or .png"
    assert one_line(run("eval-maps", "--maps", "nowhere", "--data", parts), 3) == f"no maps in nowhere: no such folder; {example}"
    (tmp_path / "empty").mkdir()
    answer = run("eval-maps", "--maps", "empty", "--data", parts)
    assert one_line(answer, 3) == f"no maps in empty: none has the name of a test image; {example}"


def test_a_category_without_its_maps_costs_the_others_nothing(run: Run, parts: Path, maps: Path) -> None:
    alone = run("eval-maps", "--maps", maps, "--data", parts, "--category", "alpha", "--json").json
    answer = run("eval-maps", "--maps", maps, "--data", parts, "--json")
    assert (answer.code, answer.json[0]) == (1, alone[0])
    assert answer.json[1]["category"] == "beta"
    assert set(answer.json[1]["metrics"].values()) == {None}
    assert answer.json[1]["reason"].startswith(
        f"{maps}: no map for 6 test images: beta/test/good/000.png, beta/test/good/001.png"
    )
    assert answer.err == f"adbench: warning: category 'beta' is not measured: {answer.json[1]['reason']}\n"
    text = run("eval-maps", "--maps", maps, "--data", parts)
    assert (text.code, "alpha" in text.out, text.err.count(f"{maps}: no map for 6")) == (1, True, 1)


def test_a_category_without_test_images_has_no_metrics(run: Run, tmp_path: Path) -> None:
    make_category(tmp_path / "data" / "gamma", 5, good=0, bad=0)
    answer = run("eval-maps", "--maps", "nowhere", "--data", tmp_path / "data", "--json")
    assert (answer.code, answer.json[0]["reason"]) == (0, "no labeled test images")


def visa(root: Path) -> Path:
    """Write a dataset of VisA's layout with the category candle."""
    source, rows = make_category(root.parent / "source", 1), ["object,split,label,image,mask"]
    (root / "split_csv").mkdir(parents=True)
    (root / "candle").mkdir()
    (source / "ground_truth/spot").rename(root / "candle/masks")
    for path in sorted(source.rglob("*.png")):
        split, kind = path.relative_to(source).parts[:2]
        label, mask = ("normal", "") if kind == "good" else ("anomaly", f"candle/masks/{path.stem}_mask.png")
        target = root / "candle" / split / label.title() / f"{path.stem}.JPG"
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
        rows.append(f"candle,{split},{label},{target.relative_to(root).as_posix()},{mask}")
    (root / "split_csv/1cls.csv").write_text("\n".join(rows))
    return root


def mvtec2(root: Path) -> Path:
    """Write a dataset of MVTec AD 2's layout with the category can."""
    make_category(root / "can", 1)
    (root / "can/test").rename(root / "can/test_public")
    (root / "can/test_public/spot").rename(root / "can/test_public/bad")
    (root / "can/ground_truth").rename(root / "can/test_public/ground_truth")
    (root / "can/test_public/ground_truth/spot").rename(root / "can/test_public/ground_truth/bad")
    return root


@pytest.mark.parametrize(("make", "shown", "places"), [
    (visa, ("candle/test/anomaly/000.JPG", "candle/test/good/000.JPG"), ("candle/test/Anomaly", "candle/test/Normal")),
    (mvtec2, ("can/test_public/bad/000.png", "can/test_public/good/000.png"), ("can/test/bad", "can/test/good")),
])  # fmt: skip
def test_maps_are_looked_for_where_the_message_says(
    run: Run, tmp_path: Path, make: Callable[[Path], Path], shown: tuple[str, str], places: tuple[str, str]
) -> None:
    command = ("eval-maps", "--maps", "maps", "--data", make(tmp_path / "data"), "--json")
    assert f"6 images needs one, e.g. {Path(shown[0]).with_suffix('.npy')}" in run(*command).err
    for folder, value in zip(shown, (1.0, 0.0), strict=True):
        for k in range(3):
            write(tmp_path / "maps" / Path(folder).parent / f"{k:03}.npy", np.full((8, 8), value + k / 10))
    (tmp_path / "maps" / Path(shown[1]).with_name("001.npy")).rename(tmp_path / "kept.npy")
    answer = run(*command)
    assert f"no map for 1 test images: {Path(shown[1]).with_name('001' + Path(shown[1]).suffix)};" in answer.err
    (tmp_path / "kept.npy").rename(tmp_path / "maps" / Path(shown[1]).with_name("001.npy"))
    answer = run(*command)
    assert answer.json[0]["metrics"]["image_auroc"] == 1
    for old, new in zip(shown, places, strict=True):  # where the data has its images, too
        (tmp_path / "maps" / new).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "maps" / old).parent.rename(tmp_path / "maps" / new)
    assert run(*command).json == answer.json


def write(path: Path, values: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, values)
    return path


@pytest.mark.parametrize(("name", "dtype"), [
    ("001.TIFF", np.float32), ("001.Tif", np.float16), ("001.PNG", np.uint16), ("001.NPY", np.float64),
    ("001.png.npy", np.float16),
])  # fmt: skip
def test_suffixes_of_any_case_and_kinds_of_numbers_are_read(run: Run, parts: Path, maps: Path, name: str, dtype: type) -> None:
    command = ("eval-maps", "--maps", maps, "--data", parts, "--category", "alpha", "--json")
    old = maps / "alpha/test/spot/001.npy"
    values = (np.load(old) * 1000).astype(dtype)
    expected = run(*command).json if old.unlink() is None and write(old, values) else None
    old.unlink()
    path = old.with_name(name)
    if name.lower().endswith("npy"):
        with path.open("wb") as file:
            np.save(file, values)
    elif "ti" in name.lower():
        tifffile.imwrite(path, values)
    else:
        Image.fromarray(values).save(path)
    assert run(*command).json == expected


def test_images_of_one_stem_need_maps_of_their_own(run: Run, tmp_path: Path) -> None:
    folder = make_category(tmp_path / "data/bolt", 1, good=2, bad=1)
    Image.open(folder / "test/good/001.png").save(folder / "test/good/000.bmp")
    (folder / "test/good/001.png").unlink()
    maps = tmp_path / "maps/bolt/test"
    for name in ("good/000", "spot/000"):
        write(maps / f"{name}.npy", np.zeros((4, 4)))
    command = ("eval-maps", "--maps", "maps", "--data", tmp_path / "data", "--json")
    assert one_line(run(*command), 3) == (
        "maps: one map for several test images: bolt/test/good/000.bmp, bolt/test/good/000.png; name each map like its image, "
        "e.g. 000.bmp.npy"
    )
    write(maps / "good/000.bmp.npy", np.ones((4, 4)))
    assert run(*command).code == 0


def test_an_accent_may_be_a_letter_of_its_own(run: Run, tmp_path: Path) -> None:
    folder = make_category(tmp_path / "data/bolt", 1, good=1, bad=1)
    (folder / "test/good/000.png").rename(folder / "test/good" / unicodedata.normalize("NFC", "é.png"))
    write(tmp_path / "maps/bolt/test/good" / unicodedata.normalize("NFD", "é.npy"), np.zeros((4, 4)))
    write(tmp_path / "maps/bolt/test/spot/000.npy", np.ones((4, 4)))
    assert run("eval-maps", "--maps", "maps", "--data", tmp_path / "data", "--json").json[0]["metrics"]["image_auroc"] == 1


def test_maps_that_belong_to_no_image_are_said(run: Run, parts: Path, maps: Path) -> None:
    extra = write(maps / "alpha/test/spot/007.npy", np.zeros((4, 4)))
    Image.new("L", (4, 4)).save(maps / "alpha/test/spot/001.png")  # a picture of a map, beside it
    answer = run("eval-maps", "--maps", maps, "--data", parts, "--category", "alpha")
    assert answer.code == 0
    assert f"1 maps in {maps} belong to no test image and are not measured, e.g. {extra}\n" in answer.err


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


def test_all_bad_maps_are_named_and_messages_are_whole(run: Run, parts: Path, maps: Path) -> None:
    folder = maps / "alpha" / "test" / "spot"
    write(folder / "000.npy", np.zeros((4, 4), complex))
    (folder / "001.npy").unlink()
    tifffile.imwrite(folder / "001.tif", np.zeros((8, 8, 5), np.float16), planarconfig="contig", photometric="minisblack")
    answer = run("eval-maps", "--maps", maps, "--data", parts, "--category", "alpha")
    assert one_line(answer, 3) == (
        f"2 bad maps: map {folder / '000.npy'}: cannot be read (values of type complex128 are no scores); write it again | "
        f"map {folder / '001.tif'}: cannot be read (a TIFF of 5 x float16 per pixel (MINISBLACK) is neither gray nor RGB; "
        "save it as one of them); write it again"
    )


def picture(mode: str) -> Image.Image:
    gray = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8) * 4)
    if mode == "P":  # indices that run backward
        image = Image.fromarray(63 - np.asarray(gray) // 4)
        image.putpalette(np.repeat(252 - 4 * np.arange(64), 3).tolist())
        return image
    return gray.convert(mode)


@pytest.mark.parametrize("mode", ["L", "P", "RGB", "LA"])
def test_a_gray_picture_holds_its_gray_levels_however_it_is_stored(tmp_path: Path, mode: str) -> None:
    picture(mode).save(tmp_path / "a.png")
    assert np.array_equal(foreign_maps.read_map(tmp_path / "a.png"), np.arange(64).reshape(8, 8) * 4)


def test_gray_levels_of_16_bits_that_a_tiff_stores_as_colors_are_exact(tmp_path: Path) -> None:
    levels = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1001
    tifffile.imwrite(tmp_path / "a.tif", np.repeat(levels[..., None], 3, axis=2), photometric="rgb")
    assert np.array_equal(foreign_maps.read_map(tmp_path / "a.tif"), levels)


def test_pictures_that_are_no_scores_are_refused(tmp_path: Path) -> None:
    plane, colors = Image.new("L", (8, 8)), np.random.default_rng(0).integers(0, 9, (8, 8, 3))
    alpha = Image.merge("LA", [plane, picture("L")])
    Image.fromarray(colors.astype(np.uint8)).save(tmp_path / "color.png")
    alpha.save(tmp_path / "alpha.png")
    plane.save(tmp_path / "pages.tif", save_all=True, append_images=[plane])
    write_deep_png(tmp_path / "deep.png", np.ones((8, 8, 3), np.uint16))
    (tmp_path / "eps.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\nshowpage\n")
    texts = {
        "color.png": "must be one finite two-dimensional array, not of shape (8, 8, 3)",
        "alpha.png": "cannot be read (it has further values in alpha); write it again",
        "pages.tif": "cannot be read (it has further pages); write it again",
        "deep.png": "cannot be read (its 16-bit colors would be rounded to 8 bits, those of gray, TIFF or .npy are not); "
        "write it again",
        "eps.png": "cannot be read (no PNG, JPEG, BMP, TIFF, WEBP or PPM content); write it again",
    }
    for name, text in texts.items():
        with pytest.raises(DataError) as error:
            foreign_maps.read_map(tmp_path / name)
        assert str(error.value) == f"map {tmp_path / name}: {text}"


def test_maps_that_do_not_fit_into_memory_are_measured_just_so(
    run: Run, parts: Path, maps: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("eval-maps", "--maps", maps, "--data", parts, "--category", "alpha", "--eval-size", 96, "--json")
    held = run(*command).json
    monkeypatch.setattr(foreign_maps, "memory_bytes", lambda: 1000)
    assert run(*command).json == held


def test_maps_stand_in_the_table_of_a_sweep(run: Run, parts: Path, maps: Path, tmp_path: Path) -> None:
    out, data = tmp_path / "results", ("--data", parts, "--category", "alpha")
    settings = ("backbones=efficientnet_lite0", "layers=blocks.1.1.add", "image_sizes=64", "detectors=mahalanobis")
    run("sweep", "--preset", "quickstart", *data, "--out", out, *(word for s in settings for word in ("--set", s)))
    answer = run("eval-maps", "--maps", maps, *data, "--out", out, "--name", "theirs", "--json")
    theirs, own = sorted(run("report", out, "--format", "json").json, key=lambda record: record["backbone"])
    assert (theirs["detector"], theirs["backbone"], theirs["eval_size"]) == ("theirs", "-", own["eval_size"])
    assert theirs["metrics"] == answer.json[0]["metrics"]
    assert theirs["details"]["resamples"] == own["details"]["resamples"]  # so that differences are tested with paired draws
    text = run("report", out).out
    assert "theirs: mean of image AUROC and AU-PRO 1.000" in text
    assert "adbench cannot train it" in text


def test_other_maps_of_the_same_name_replace_the_record(run: Run, parts: Path, maps: Path, tmp_path: Path) -> None:
    command = ("eval-maps", "--maps", maps, "--data", parts, "--category", "alpha", "--out", tmp_path / "results")
    run(*command)
    assert "replaced" not in run(*command).err
    for path in (maps / "alpha" / "test" / "spot").glob("*.npy"):
        np.save(path, 1 - np.load(path))
    assert "the record of other maps of category 'alpha' named 'maps' is replaced" in run(*command).err
    (record,) = run("report", tmp_path / "results", "--format", "json").json
    assert record["metrics"]["pixel_auroc"] < 0.1


@pytest.mark.parametrize("name", ["patchcore", "Patch-Core", " "])
def test_a_name_that_a_detector_has_is_refused(run: Run, parts: Path, maps: Path, name: str) -> None:
    command = ("eval-maps", "--maps", maps, "--data", parts, "--category", "alpha", "--name", name)
    assert f"--name '{name}': choose a name that no detector" in one_line(run(*command, "--out", "results"), 2)
    if name.strip():
        assert one_line(run(*command), 2).startswith("--name: it names the row of a record; give --out")
