"""The generated dataset: reproducible, with exact masks, and written completely or not at all."""

import shutil

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import label

from adbench.core.errors import DataError, UsageError
from adbench.data.check import check_files
from adbench.data.datasets import open_dataset
from adbench.data.demo.drawing import SIZE
from adbench.data.demo.folder import Counts, write_demo
from adbench.data.images import read_image, read_mask
from adbench.data.layouts import demo

KINDS = [(category, kind) for category, (_, kinds) in demo.CATEGORIES.items() for kind in kinds]


@pytest.fixture
def small(monkeypatch):
    for name, count in {"TRAIN": 1, "GOOD": 1, "EACH": 1}.items():
        monkeypatch.setattr(demo, name, count)
    monkeypatch.setattr(demo, "CATEGORIES", {"nut": demo.CATEGORIES["nut"]})


@pytest.mark.parametrize(("category", "kind"), KINDS)
def test_a_mask_is_where_the_image_has_changed(monkeypatch, category, kind):
    image, mask = demo.draw(category, "test", kind, 1)
    monkeypatch.setitem(demo.CATEGORIES[category][1], kind, lambda part, rng, severity: part.image)
    clean, empty = demo.draw(category, "test", kind, 1)
    changed = (image != clean).any(axis=2)
    assert not empty.any()
    assert mask.dtype == bool and 12 <= mask.sum() < 0.2 * SIZE**2
    assert not changed[~mask].any() and changed[mask].mean() > 0.8
    assert np.bincount(label(mask, np.ones((3, 3)))[0].ravel())[1:].min() >= 12


@pytest.mark.parametrize("category", demo.CATEGORIES)
def test_good_parts_differ_but_little(category):
    first, again, other = (demo.draw(category, "train", "good", k)[0] for k in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert abs(first.mean() - other.mean()) < 40
    assert not demo.draw(category, "train", "good", 0)[1].any()


def test_generated_files_are_a_sound_dataset(tmp_path, small):
    steps = []
    (nut,) = open_dataset("demo", tmp_path, on_step=lambda *step: steps.append(step))
    assert (nut.dataset, nut.name, len(nut.train), len(nut.test)) == ("demo", "nut", 1, 5)
    assert {s.defect for s in nut.test} == {"good", "bent", "chip", "rust", "scratch"}
    assert {f[1:3] for f in check_files([nut]).values()} == {(SIZE, SIZE)}
    assert steps[-1] == (6, 6, "drawn")


def test_the_bytes_are_the_same_every_time(tmp_path, small):
    folders = [demo.Demo("demo").generate(tmp_path / name) for name in ("a", "b")]
    files = [{p.relative_to(f): p.read_bytes() for p in f.rglob("*.png")} for f in folders]
    assert files[0] == files[1] and len(files[0]) == 10


def test_an_existing_dataset_is_not_drawn_again(tmp_path, small):
    folder, steps = demo.Demo("demo").generate(tmp_path), []
    assert demo.Demo("demo").generate(tmp_path, lambda *step: steps.append(step)) == folder
    assert not steps


def test_a_killed_or_damaged_generation_is_made_again(tmp_path, small):
    def interrupt(done, total, note):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        demo.Demo("demo").generate(tmp_path, interrupt)
    assert list(tmp_path.iterdir()) == []
    folder = demo.Demo("demo").generate(tmp_path)
    shutil.rmtree(folder / "nut/test/rust")
    demo.Demo("demo").generate(tmp_path)
    assert (folder / "nut/test/rust/000.png").exists() and list(tmp_path.iterdir()) == [folder]


def test_the_folder_of_a_faster_process_is_kept(tmp_path, small):
    def overtake(done, total, note):
        if done == total:
            demo.write(tmp_path / "demo-v1")
            Image.new("L", (2, 2)).save(tmp_path / "demo-v1/winner.png")

    assert (demo.Demo("demo").generate(tmp_path, overtake) / "winner.png").exists()
    assert len(list(tmp_path.iterdir())) == 1


def test_an_unusable_cache_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError) as error:
        open_dataset("demo", tmp_path / "file")
    place = f"{tmp_path}/file"
    assert str(error.value) == f"cannot write {place}/demo-v1: {place} is a file; name a folder (--cache, ADBENCH_CACHE)"


# ---- in a folder of the user's own -------------------------------------------------------------------------------------


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*.png"))}


def test_the_parts_are_those_of_the_dataset(tmp_path, small):
    made = write_demo(tmp_path / "mine", ["nut"], Counts(1, 1, 1, 3))
    assert made["categories"] == {"nut": {"train": 1, "good": 1, "defective": 4, "new": 3}}
    assert files(tmp_path / "mine/parts") == files(demo.Demo("demo").generate(tmp_path))
    (nut,) = open_dataset(made["parts"], tmp_path)
    assert len(check_files([nut])) == 10


def test_new_images_are_named_after_their_defect_and_in_no_dataset(tmp_path):
    write_demo(tmp_path / "mine", ["nut"], Counts(1, 1, 1, 9))
    found = files(tmp_path / "mine")
    kinds = [name.partition("_")[2] for name in found if name.startswith("new/")]
    assert kinds == [f"{kind}.png" for kind in ("good", "bent", "good", "chip", "good", "rust", "good", "scratch", "good")]
    assert sum(name.startswith("more_good/nut/") for name in found) == 9
    images = [content for name, content in found.items() if "ground_truth" not in name]
    assert len(set(images)) == len(images) == 24


def test_images_of_another_side_keep_their_masks(tmp_path):
    made = write_demo(tmp_path / "mine", ["fabric"], Counts(1, 1, 1, 1), side=128)
    assert read_image(tmp_path / "mine/new/fabric/000_good.png").shape == (128, 128, 3)
    mask = read_mask(tmp_path / "mine/parts/fabric/ground_truth/hole/000_mask.png")
    assert mask.shape == (128, 128)
    assert mask.mean() == pytest.approx(demo.draw("fabric", "test", "hole", 0)[1].mean(), rel=0.2)
    assert made["side"] == 128


def test_an_existing_folder_and_an_unknown_category_are_refused(tmp_path):
    with pytest.raises(DataError) as error:
        write_demo(tmp_path, [], Counts(1, 1, 1, 1))
    assert str(error.value) == f"--out {tmp_path}: exists already; name a new folder, or delete this one"
    with pytest.raises(UsageError) as wrong:
        write_demo(tmp_path, ["nt"], Counts(1, 1, 1, 1))
    assert str(wrong.value) == "unknown category 'nt' of the generated parts; did you mean 'nut'?"
    assert list(tmp_path.iterdir()) == []
