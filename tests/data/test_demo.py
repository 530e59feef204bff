"""The generated dataset: reproducible, with exact masks, and written completely or not at all."""

import shutil

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import label

from adbench.core.errors import DataError
from adbench.data.check import check_files
from adbench.data.datasets import open_dataset
from adbench.data.demo.drawing import SIZE
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
