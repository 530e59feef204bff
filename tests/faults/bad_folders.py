"""Folders of images as users have them: what can be read is read, and no file is passed over in silence."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from unicodedata import normalize

from bad_files import HEADER, VISA, both
from bad_images import encoded
from cases import DATA, EXTRACT, FINE, STUDY, USAGE, Case, Damage, write

TRAIN, TEST, MASKS = "parts/alpha/train/good", "parts/alpha/test", "parts/alpha/ground_truth"
EVAL_ALPHA = ("eval", "m.safetensors", "--data", "parts")
OTHERS = "without readable image content"


def moved(*pairs: tuple[str, str]) -> Damage:
    """Rename files or folders, each (old, new)."""

    def damage(workplace: Path) -> None:
        for old, new in pairs:
            (workplace / new).parent.mkdir(parents=True, exist_ok=True)
            shutil.move(workplace / old, workplace / new)

    return damage


def copied(*pairs: tuple[str, str]) -> Damage:
    """Copy files or folders, each (old, new)."""

    def damage(workplace: Path) -> None:
        for old, new in pairs:
            (workplace / new).parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if (workplace / old).is_dir() else shutil.copy)(workplace / old, workplace / new)

    return damage


def twins() -> Iterator[Case]:
    """Yield pairs of images and masks of one stem."""
    image, mask = (f"{TEST}/spot/001.png", f"{TEST}/spot/000.bmp"), f"{MASKS}/spot/001_mask.png"
    own, whole = f"{MASKS}/spot/000_mask.bmp", f"{MASKS}/spot/000.bmp_mask.png"
    perfect = r"pixel_auroc  +0\.9[5-9]"
    yield Case("twins: each has a mask of its suffix", moved(image, (mask, own)), EVAL_ALPHA, FINE, answers=perfect)
    yield Case("twins: a mask named after the whole file name", moved(image, (mask, whole)), EVAL_ALPHA, FINE, answers=perfect)
    yield Case("twins: one has no mask", moved(image), EXTRACT, DATA, r"no mask for image .*000\.bmp")
    other = moved((f"{TEST}/spot/000.png", f"{TEST}/spot/000.tif"), image)
    yield Case("twins: one mask for both", other, EXTRACT, DATA, r"000_mask\.png fits 2 images, .*000\.bmp and .*000\.tif")
    masks = moved((f"{MASKS}/spot/000_mask.png", f"{MASKS}/spot/000_mask.bmp"), (mask, f"{MASKS}/spot/000_mask.tif"))
    yield Case("twins: two masks for one image", masks, EXTRACT, DATA, r"000\.png has 2 masks, .*bmp and .*tif; keep one")


def subfolders() -> Iterator[Case]:
    """Yield images in lots and cameras, and where the layout has none."""
    lots = copied((f"{TEST}/good", f"{TRAIN}/lot1"), (f"{TEST}/good", f"{TRAIN}/lot2/deeper"))
    yield Case("subfolders: lots of good images", lots, EXTRACT, FINE, answers="train .* 11x")
    cameras = moved((f"{TEST}/spot/000.png", f"{TEST}/spot/cam1/000.png"), (f"{TEST}/spot/001.png", f"{TEST}/spot/cam2/001.png"))
    yield Case("subfolders: cameras, masks in one folder", cameras, EVAL_ALPHA, FINE, answers=r"pixel_auroc  +0\.9")
    mirrored = moved((f"{MASKS}/spot/000_mask.png", f"{MASKS}/spot/cam1/000_mask.png"))
    yield Case("subfolders: cameras of masks", both(cameras, mirrored), EVAL_ALPHA, FINE, answers=r"pixel_auroc  +0\.9")
    same = moved((f"{TEST}/spot/001.png", f"{TEST}/spot/cam1/000.png"))
    yield Case("subfolders: one mask for two cameras", same, EXTRACT, DATA, "000_mask.png fits 2 images")
    for place in ("test", "train", "train/bad", "validation/good", "images", "ground_truth/good", "test/spot/masks"):
        stray = copied((f"{TEST}/good/000.png", f"parts/alpha/{place}/900.png"))
        says = f"1 image is not used: 1 in alpha/{place}; adbench reads CATEGORY/train/good"
        yield Case(f"subfolders: an image in {place}", stray, EXTRACT, FINE, says, answers="train .* 5x")
    beside = copied((f"{TEST}/good", "parts/beta/training"))
    yield Case("subfolders: a folder that is no category", beside, EXTRACT, FINE, "3 images are not used: 3 in beta/training")
    orphan = copied((f"{MASKS}/spot/000_mask.png", f"{MASKS}/spot/900_mask.png"))
    yield Case("subfolders: a mask of no image", orphan, EXTRACT, FINE, "1 mask without a defective image of that name is passed")


def suffixes() -> Iterator[Case]:
    """Yield images of rare and unknown suffixes, and files that are no images."""
    for name, kind in (("a.jfif", "JPEG"), ("a.jpe", "JPEG"), ("a.ppm", "PPM"), ("a.pgm", "PPM"), ("A.JFIF", "JPEG")):
        yield Case(f"suffix: {name}", write(f"{TRAIN}/{name}", encoded(kind)), EXTRACT, FINE, answers="train .* 6x")
    for name in ("a", "a.dat", "a.jpg_"):
        says = f"read as images by content, as their suffixes are unknown: alpha/train/good/{name}"
        yield Case(f"suffix: JPEG in {name}", write(f"{TRAIN}/{name}", encoded("JPEG")), EXTRACT, FINE, says, "train .* 6x")
    for name in ("a.heic", "a.gif", "a.txt", "a.nef", "a"):
        says = f"1 file {OTHERS} is passed over: 1 {'.' + name[2:] if '.' in name else 'without suffix'}"
        yield Case(f"suffix: no image in {name}", write(f"{TRAIN}/{name}", b"II*\0"), EXTRACT, FINE, says, "train .* 5x")
    only = both(lambda workplace: shutil.rmtree(workplace / TRAIN), write(f"{TRAIN}/a.heic", b"heic"))
    yield Case("suffix: no training image can be read", only, EXTRACT, DATA, f"no training image; .* 1 file {OTHERS}.*: 1 .heic")
    new = both(copied((f"{TEST}/good", "new")), write("new/a.heic", b"heic"))
    predict = ("predict", "m.safetensors", "new", "--out", "out")
    yield Case("suffix: new images, one of them unreadable", new, predict, FINE, f"1 file {OTHERS} is passed over: 1 .heic")


def names() -> Iterator[Case]:
    """Yield names in several Unicode forms and cases, words for good, and categories that look like numbers."""
    for image, mask in (("NFC", "NFD"), ("NFD", "NFC")):
        decomposed = moved((f"{TEST}/spot/000.png", normalize(image, f"{TEST}/Öse/é.png")),
                           (f"{MASKS}/spot/000_mask.png", normalize(mask, f"{MASKS}/Öse/é_mask.png")))  # fmt: skip
        yield Case(f"names: image in {image}, mask in {mask}", decomposed, EXTRACT, FINE, answers="test .* 6x")
    upper = moved((TRAIN, "parts/alpha/Train/Good"), (f"{TEST}/spot", f"{TEST}/Spot"),
                  (f"{MASKS}/spot/000_mask.png", f"{MASKS}/spot/000_MASK.png"), (MASKS, "parts/alpha/Ground_Truth"))  # fmt: skip
    yield Case("names: folders and masks in another case", upper, EXTRACT, FINE, answers="test .* 6x")
    for word in ("Good", "normal", "OK"):
        says = f"read as good images: alpha/test/{word}"
        yield Case(
            f"names: test/{word}", moved((f"{TEST}/good", f"{TEST}/{word}")), EVAL_ALPHA, FINE, says, r"image_auroc  +1\.0"
        )
    numbers = both(moved(("parts/alpha", "parts/01")), write("study.yaml", f"categories: [01]\n{STUDY}".encode()))
    dry = ("sweep", "--spec", "study.yaml", "--data", "parts", "--out", "results", "--dry-run")
    yield Case("names: a category 01", numbers, dry, FINE)
    yield Case("names: a category 1 that is called 01", numbers, (*dry, "--set", "categories=1"), USAGE, "unknown category '1'")


def tables() -> Iterator[Case]:
    """Yield csv files of VisA's layout."""
    files = copied((f"{TRAIN}/000.png", "visa/nut/Images/0.png"), (f"{TRAIN}/001.png", "visa/nut/Images/bad/1.png"),
                   (f"{MASKS}/spot/000_mask.png", "visa/nut/Masks/1.png"))  # fmt: skip
    rows = "nut,train,normal,nut/Images/0.png,\nnut,test,anomaly,nut/Images/bad/1.png,nut/Masks/1.png\n"
    for what, text in {"backslashes": rows.replace("/", "\\"), "other case": rows.replace("Images", "images"),
                       "spaces": rows.replace(",", " , ")}.items():  # fmt: skip
        csv = write("visa/split_csv/1cls.csv", (HEADER + text).encode())
        yield Case(f"VisA: {what}", both(files, csv), VISA, FINE, answers="test .* 1x")
    csv = write("visa/split_csv/1cls.csv", (HEADER + rows.replace(",test,", ",validation,")).encode())
    yield Case(
        "VisA: a split of another name", both(files, csv), VISA, DATA, "line 3: split 'validation' is neither train nor test"
    )
    csv = write("visa/split_csv/1cls.csv", (HEADER + rows.splitlines()[0]).encode())
    yield Case("VisA: images that are not listed", both(files, csv), VISA, FINE, "2 images are not used: .*1cls.csv lists")


def plain() -> Iterator[Case]:
    """Yield folders of images without a layout."""
    extract = (*EXTRACT[:-1], "flat")
    good = copied((TRAIN, "flat"))
    yield Case("plain: good images alone", good, extract, FINE, answers="flat +train .* 5x")
    yield Case(
        "plain: a folder beside them", both(good, copied((TRAIN, "flat/lot"))), extract, FINE, "5 images are not used: 5 in lot"
    )
    for words in (("good", "bad"), ("ok", "nok"), ("normal", "anomalous")):
        two = copied((TRAIN, f"flat/{words[0]}"), (f"{TEST}/spot", f"flat/{words[1]}"))
        yield Case(f"plain: {words[0]} and {words[1]}", two, extract, FINE, "no test split: .* flat 1 of 5", "test .* 4x")
    lots = copied((TRAIN, "flat/lot1"), (TRAIN, "flat/lot2"))
    says = r"in folders of no known layout, lot1 5, lot2 5; give --data .*train/good.*good/\*\.png.*good images only"
    yield Case("plain: lots alone", lots, extract, DATA, says)
    yield Case(
        "plain: the data lie deeper",
        copied(("parts", "flat/parts")),
        extract,
        DATA,
        "the data lie deeper; give --data .*flat/parts",
    )


def cases() -> Iterator[Case]:
    """Yield all folders of images."""
    for group in (twins, subfolders, suffixes, names, tables, plain):
        yield from group()
