"""What every registered folder layout must keep, checked on a small dataset of its own."""

from collections.abc import Callable
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


def like_mvtec3d(root: Path, category: str, good_only: bool) -> None:
    folder = root / category
    put(folder / "train/good/rgb/000.png")
    put(folder / "train/good/rgb/001.png")
    if not good_only:
        put(folder / "test/good/rgb/000.png")
        put(folder / "test/bad/rgb/000.png")
        put(folder / "test/bad/gt/000.png")


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


@pytest.fixture(params=FOLDERS)
def layout(request: pytest.FixtureRequest) -> tuple[str, Make]:
    """A layout's name and a function that writes a category in it."""
    kind = DATASETS.get(request.param)
    others = {"mvtec3d": like_mvtec3d, "plain": like_plain, "visa": like_visa}
    if request.param in others:
        return request.param, others[request.param]
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
        assert category.dataset == name
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
    for category in ("bolt", "anchor"):
        make(tmp_path, category, False)
    check_layout(name, tmp_path)
    found = open_dataset(str(tmp_path), tmp_path / "cache")
    assert [(c.dataset, c.name, len(c.train), len(c.test)) for c in found] == [(name, "anchor", 2, 2), (name, "bolt", 2, 2)]
    assert [sample.anomalous for sample in found[0].test] == [True, False]
    used = {path for c in found for sample in (*c.train, *c.test) for path in (sample.path, *(sample.masks or ()))}
    assert used == set(images_below(tmp_path))


def test_good_images_alone_are_enough(layout: tuple[str, Make], tmp_path: Path) -> None:
    name, make = layout
    make(tmp_path, "bolt", True)
    check_layout(name, tmp_path)
    (category,) = open_training(str(tmp_path), tmp_path / "cache")
    assert (len(category.train), category.test) == (2, ())


def test_an_empty_category_is_named(layout: tuple[str, Make], tmp_path: Path) -> None:
    name, make = layout
    make(tmp_path, "bolt", False)
    remedy = "put good images into its train/good"
    if name == "visa":
        remedy = "list good images as 'train' in split_csv/1cls.csv"
        table = tmp_path / "split_csv/1cls.csv"
        table.write_text(table.read_text().replace(",train,", ",test,"))
    else:
        if name == "plain":
            remedy = "put good images into it, or into a folder 'good' in it"
        for path in images_below(tmp_path / "bolt" / ("good" if name == "plain" else "train")):
            path.unlink()
    with pytest.raises(DataError) as error:
        open_dataset(str(tmp_path), tmp_path / "cache")
    assert str(error.value) == f"category 'bolt' in {tmp_path} has no training image; {remedy}"


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
