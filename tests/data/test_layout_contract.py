"""What every registered folder layout must keep, checked on a small dataset of its own."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from PIL import Image

from adbench.core.errors import DataError
from adbench.data.datasets import open_dataset, open_training
from adbench.data.image_lists import images_below
from adbench.data.layouts import DATASETS
from adbench.data.layouts.mvtec import MVTec

FOLDERS = [name for name, kind in DATASETS.items().items() if not kind.generated]
Make = Callable[[Path, str, bool], None]  # (root, category, only good training images)


def put(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (6, 4), 255).save(path)


def like_mvtec(kind: type[MVTec]) -> Make:
    def make(root: Path, category: str, good_only: bool) -> None:
        folder = root / category
        (folder / kind.test).mkdir(parents=True)
        put(folder / "train/good/000.png")
        put(folder / "train/good/001.png")
        if not good_only:
            put(folder / kind.test / "good/000.png")
            put(folder / kind.test / "bad/000.png")
            put(folder / kind.ground_truth / "bad/000_mask.png")

    return make


def laid_out(train: Sequence[str], test: Sequence[str]) -> Make:
    def make(root: Path, category: str, good_only: bool) -> None:
        for name in (*train, *(() if good_only else test)):
            put(root / category / name)

    return make


like_mvtec3d = laid_out(
    ["train/good/rgb/000.png", "train/good/rgb/001.png"], ["test/good/rgb/000.png", "test/bad/rgb/000.png", "test/bad/gt/000.png"]
)
like_btad = laid_out(["train/ok/000.bmp", "train/ok/001.bmp"], ["test/ok/000.bmp", "test/ko/000.bmp", "ground_truth/ko/000.png"])


def like_plain(root: Path, category: str, good_only: bool) -> None:
    folder = root / category
    for number in range(2 if good_only else 3):
        put(folder / f"good/00{number}.png")
    if not good_only:
        put(folder / "bad/000.png")
        put(folder / "ground_truth/bad/000_mask.png")


def like_visa(root: Path, category: str, good_only: bool) -> None:
    images = f"{category}/Data/Images"
    rows = [f"{category},train,normal,{images}/Normal/{number}.png," for number in range(2)]
    if not good_only:
        rows += [f"{category},test,normal,{images}/Normal/2.png,"]
        rows += [f"{category},test,anomaly,{images}/Anomaly/0.png,{category}/Data/Masks/0.png"]
    for name in (name for row in rows for name in row.split(",")[3:] if name):
        put(root / name)
    table = root / "split_csv/1cls.csv"
    table.parent.mkdir(exist_ok=True)
    head = table.read_text() if table.exists() else "object,split,label,image,mask\n"
    table.write_text(head + "\n".join(rows) + "\n")


def like_vad(root: Path, category: str, good_only: bool) -> None:
    folder = root / category
    for split in ("train", "test"):
        (folder / split / "bad").mkdir(parents=True)
    for name in ["train/good/000.png", "train/good/001.png", *(["test/good/000.png", "test/bad/000.png"] * (not good_only))]:
        put(folder / name)


def like_realiad(root: Path, category: str, good_only: bool) -> None:
    def entry(kind: str, name: str, mask: str | None) -> dict[str, str | None]:
        for path in filter(None, (name, mask)):
            put(root / "realiad_256" / category / path)
        return {"category": category, "anomaly_class": kind, "image_path": name, "mask_path": mask}

    train = [entry("OK", f"OK/S000{k}/{category}_{k}.png", None) for k in (1, 2)]
    test = [entry("OK", f"OK/S0003/{category}_3.png", None), entry("BX", "NG/BX/S0001/0.png", "NG/BX/S0001/0m.png")]
    split = root / f"realiad_jsons/{category}.json"
    split.parent.mkdir(exist_ok=True)
    meta = {"prefix": f"{category}/", "normal_class": "OK"}
    split.write_text(json.dumps({"meta": meta, "train": train, "test": [] if good_only else test}))


NAMES = {"mpdd": ("connector", "tubes")}  # of categories, where they are fixed
OTHERS = {
    "mvtec3d": like_mvtec3d, "plain": like_plain, "visa": like_visa, "btad": like_btad, "vad": like_vad, "realiad": like_realiad
}  # fmt: skip


@pytest.fixture(params=FOLDERS)
def layout(request: pytest.FixtureRequest) -> tuple[str, Make]:
    """A layout's name and a function that writes a category in it."""
    kind = DATASETS.get(request.param)
    if request.param in OTHERS:
        return request.param, OTHERS[request.param]
    if issubclass(kind, MVTec):
        return request.param, like_mvtec(kind)
    pytest.skip(f"no example of the layout '{request.param}'; 'python -m adbench.testing' checks it")


def check_layout(name: str, root: Path) -> None:
    """Assert that the layout `name` reads all categories below `root` as its contract says."""
    dataset = DATASETS.get(name)(name)
    assert dataset.name == name and dataset.matches(root)
    categories = dataset.categories(root)
    assert categories and categories == sorted(set(categories))
    for category in (dataset.load(root, each) for each in categories):
        assert category.dataset == dataset.recorded
        assert dataset.training(root, category.name) == category.train
        for samples in (category.train, category.test):
            names = [sample.name for sample in samples]
            assert names == sorted(set(names))
        for sample in (*category.train, *category.test):
            assert sample.path.is_file() and "\\" not in sample.name
            assert all(mask.is_file() for mask in sample.masks or ())
            assert sample.anomalous or sample.masks == ()
        assert not any(sample.anomalous for sample in category.train)


def test_a_dataset_is_read_as_the_contract_says(layout: tuple[str, Make], tmp_path: Path) -> None:
    name, make = layout
    first, second = NAMES.get(name, ("anchor", "bolt"))
    for category in (second, first):
        make(tmp_path, category, False)
    check_layout(name, tmp_path)
    found, recorded = open_dataset(str(tmp_path), tmp_path / "cache"), DATASETS.get(name)(name).recorded
    assert [(c.dataset, c.name, len(c.train), len(c.test)) for c in found] == [(recorded, n, 2, 2) for n in (first, second)]
    assert [sample.anomalous for sample in found[0].test] == [True, False]
    used = {path for c in found for sample in (*c.train, *c.test) for path in (sample.path, *(sample.masks or ()))}
    assert used == set(images_below(tmp_path))


def test_good_images_alone_are_enough(layout: tuple[str, Make], tmp_path: Path) -> None:
    name, make = layout
    make(tmp_path, NAMES.get(name, ("bolt",))[0], True)
    check_layout(name, tmp_path)
    (category,) = open_training(str(tmp_path), tmp_path / "cache")
    assert (len(category.train), category.test) == (2, ())


def test_an_empty_category_is_named(layout: tuple[str, Make], tmp_path: Path) -> None:
    name, make = layout
    category = NAMES.get(name, ("bolt",))[0]
    make(tmp_path, category, False)
    remedy = DATASETS.get(name).remedy
    if name == "realiad":
        split = tmp_path / "realiad_jsons/bolt.json"
        split.write_text(json.dumps(json.loads(split.read_text()) | {"train": []}))
    elif name == "visa":
        remedy = "list good images as 'train' in split_csv/1cls.csv"
        table = tmp_path / "split_csv/1cls.csv"
        table.write_text(table.read_text().replace(",train,", ",test,"))
    else:
        if name == "plain":
            remedy = "put good images into it, or into a folder 'good' in it"
        for path in images_below(tmp_path / category / ("good" if name == "plain" else "train")):
            path.unlink()
    with pytest.raises(DataError) as error:
        open_dataset(str(tmp_path), tmp_path / "cache")
    assert str(error.value) == f"category '{category}' in {tmp_path} has no training image; {remedy}"


@pytest.mark.parametrize("name", DATASETS.names())
def test_no_layout_matches_an_empty_folder(name: str, tmp_path: Path) -> None:
    assert not DATASETS.get(name)(name).matches(tmp_path)


@pytest.mark.parametrize("name", [name for name in DATASETS.names() if DATASETS.get(name).generated])
def test_a_generated_dataset_keeps_the_contract(name: str, cache: Path) -> None:
    dataset = DATASETS.get(name)(name)
    root = dataset.generate(cache)
    assert dataset.generate(cache) == root
    categories = open_dataset(name, cache)
    assert [category.name for category in categories] == sorted(dataset.categories(root))
    assert all(category.train and category.test and category.dataset == name for category in categories)
