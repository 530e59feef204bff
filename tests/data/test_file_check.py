"""The check of all files: what it remembers, when it looks again, and what it says of how files were read."""

import logging
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from conftest import Run, make_category
from PIL import Image

from adbench.core.errors import DataError
from adbench.core.memo import Memo
from adbench.data import check
from adbench.data.check import Facts, category_fingerprint, check_files, warn_of_remarks
from adbench.data.datasets import open_dataset
from adbench.sweep.workspace import Workspace
from adbench.types import Category, digest

EXTRACT = ("extract", "efficientnet_lite0", "blocks.1.1.add", "--image-size", 64, "--json", "--data")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A category of three training images and a test image with its mask, all BMP files of one size."""
    root = make_category(tmp_path / "data" / "bolt", 3, train=3, good=0, bad=1)
    for path in root.rglob("*.png"):
        Image.open(path).convert("RGB").save(path.with_suffix(".bmp"))
        path.unlink()
    return tmp_path / "data"


def checked(folder: Path, **options: object) -> tuple[Category, Facts]:
    (category,) = open_dataset(str(folder), folder)
    return category, check_files([category], folder / "files.json", **options)  # type: ignore[arg-type]


def fingerprint(folder: Path, **options: object) -> str:
    return category_fingerprint(*checked(folder, **options))


def like(old: Path, new: Path) -> Path:
    """Give `new` the times of `old`."""
    status = old.stat()
    os.utime(new, ns=(status.st_atime_ns, status.st_mtime_ns))
    return new


@pytest.mark.parametrize("how", ["moved over it", "written into it"])
@pytest.mark.parametrize("name", ["train/good/001.bmp", "ground_truth/spot/000_mask.bmp"])
def test_a_file_of_the_same_size_and_time_is_noticed(folder: Path, how: str, name: str) -> None:
    before, path = fingerprint(folder), folder / "bolt" / name
    assert fingerprint(folder) == before
    other = folder / "other.bmp"
    Image.new("RGB", (64, 64), "white").save(other)
    assert other.stat().st_size == path.stat().st_size
    like(path, other)
    if how == "moved over it":
        other.replace(path)
    else:
        time = path.stat()
        path.write_bytes(other.read_bytes())
        os.utime(path, ns=(time.st_atime_ns, time.st_mtime_ns))
    assert fingerprint(folder) != before


def test_the_command_extracts_again_after_a_copy_that_keeps_times(run: Run, folder: Path) -> None:
    assert [entry["cached"] for entry in run(*EXTRACT, folder).json["entries"]] == [False, False]
    assert [entry["cached"] for entry in run(*EXTRACT, folder).json["entries"]] == [True, True]
    path, other = folder / "bolt/train/good/001.bmp", folder / "other.bmp"
    Image.new("RGB", (64, 64), "white").save(other)
    shutil.copy2(like(path, other), path)
    assert [entry["cached"] for entry in run(*EXTRACT, folder).json["entries"]] == [False, True]  # train, test


def test_a_change_without_a_trace_is_found_on_request(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "stamp", lambda path: [path.stat().st_size])
    before = fingerprint(folder)
    Image.new("RGB", (64, 64), "white").save(folder / "bolt/train/good/001.bmp")
    assert fingerprint(folder) == before
    after = fingerprint(folder, verify=True)
    assert after != before
    assert fingerprint(folder) == after  # remembered


COMMANDS = {
    "extract": ["extract", "efficientnet_lite0", "blocks.1.1.add"],
    "train": ["train", "mahalanobis", "efficientnet_lite0", "blocks.1.1.add", "--model", "m.safetensors", "--category", "alpha"],
    "eval": ["eval", "MODEL"],
    "sweep": ["sweep", "--preset", "quickstart"],
    "select": ["select", "--category", "alpha"],
    "synth": ["synth", "--category", "alpha", "--out", "made"],
    "eval-maps": ["eval-maps", "--maps", "maps"],
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("verify", [False, True])
def test_every_command_that_reads_a_dataset_verifies_it_on_request(
    run: Run, parts: Path, model: Path, monkeypatch: pytest.MonkeyPatch, command: str, verify: bool
) -> None:
    def stop(*given: object) -> Facts:
        raise DataError(f"verify: {given[4]}")

    monkeypatch.setattr("adbench.sweep.workspace.check_files", stop)
    words = [str(model) if word == "MODEL" else word for word in COMMANDS[command]]
    answer = run(*words, "--data", parts, *["--verify-data"] * verify)
    assert (answer.code, answer.err) == (3, f"adbench: error: verify: {verify}\n")


def test_a_memo_of_an_older_version_is_made_again_quietly(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    expected = fingerprint(folder)
    path = folder / "bolt/train/good/001.bmp"
    memo = Memo(folder / "files.json", "size, modification time, SHA-256, height, width")
    memo.put(str(path), [path.stat().st_size, path.stat().st_mtime_ns, "0" * 64, 1, 1])
    memo.write()
    assert fingerprint(folder) == expected
    assert not caplog.records


def test_8_bit_images_and_binary_masks_keep_their_keys(folder: Path) -> None:
    category, facts = checked(folder)
    splits = [digest([[s.name, facts[s.path].sha256] for s in samples]) for samples in (category.train, category.test)]
    truth = [[s.defect, [facts[mask].sha256 for mask in s.masks or ()]] for s in category.test]
    assert category_fingerprint(category, facts) == digest([*splits, truth])
    assert {fact[3:] for fact in facts.values()} == {("", None)}


@pytest.mark.parametrize(("quality", "same"), [(100, True), (30, False)])
def test_a_mask_that_is_read_otherwise_than_before_has_another_key(folder: Path, quality: int, same: bool) -> None:
    blocks = np.kron(np.eye(8, dtype=np.uint8) * 255, np.ones((8, 8), np.uint8))
    blocks[0, 0] = 0 if quality == 30 else 255
    mask = folder / "bolt/ground_truth/spot/000_mask.bmp"
    mask.unlink()
    Image.fromarray(blocks).save(mask.with_suffix(".jpg"), quality=quality)
    category, facts = checked(folder)
    found = facts[mask.with_suffix(".jpg")]
    assert (found.identity == found.sha256) is same
    plain = {path: fact._replace(remark="") for path, fact in facts.items()}
    assert (category_fingerprint(category, facts) == category_fingerprint(category, plain)) is same


def said(category: Category, facts: Facts, caplog: pytest.LogCaptureFixture) -> list[str]:
    caplog.clear()
    with caplog.at_level(logging.WARNING, "adbench"):
        warn_of_remarks(category, facts)
    return [record.getMessage() for record in caplog.records]


def deepen(folder: Path, bits: int, dtype: type = np.uint16) -> Path:
    """Replace two of the three training images by deep ones that use `bits` bits; return the first."""
    for k in (1, 2):
        (folder / f"bolt/train/good/00{k}.bmp").unlink()
        values = np.linspace(0, 2**bits - 1, 64 * 64).reshape(64, 64).astype(dtype)
        tifffile.imwrite(folder / f"bolt/train/good/00{k}.tif", values)
    return folder / "bolt/train/good/001.tif"


@pytest.mark.parametrize(("bits", "share"), [(12, "6.2"), (10, "1.6"), (14, "25"), (8, "0.39")])
def test_values_in_the_lower_bits_of_16_are_said_once(
    folder: Path, caplog: pytest.LogCaptureFixture, bits: int, share: str
) -> None:
    first = deepen(folder, bits)
    expected = (
        f"category 'bolt': 2 of 4 images have more than 8 bits per channel but use only {share} % of the range: {share} % of it "
        f"is read as white; e.g. {first}"
    )
    assert said(*checked(folder), caplog) == [expected]
    assert said(*checked(folder), caplog) == []
    check._said.clear()
    assert said(*checked(folder), caplog) == [expected]  # from the memo, as another process would say


def test_one_bright_image_shows_that_the_range_is_used(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    deepen(folder, 12)
    tifffile.imwrite(folder / "bolt/train/good/002.tif", np.full((64, 64), 40_000, np.uint16))
    assert said(*checked(folder), caplog) == []


def test_the_command_says_it_and_workers_do_not(run: Run, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = deepen(folder, 12)
    answer = run("eval-maps", "--maps", "nowhere", "--data", folder)
    assert answer.err.startswith("adbench: warning: category 'bolt': 2 of 4 images have more than 8 bits")
    assert answer.err.count(str(first)) == 1
    check._said.clear()
    caplog.clear()
    Workspace(str(folder), folder / "cache").inputs(warn=False)
    assert not caplog.records


def test_soft_masks_and_pages_are_said(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    mask, image = folder / "bolt/ground_truth/spot/000_mask.bmp", folder / "bolt/train/good/001.bmp"
    Image.fromarray(np.tile(np.arange(64, dtype=np.uint8) * 4, (64, 1))).save(mask)
    image.unlink()
    first = Image.new("L", (64, 64), 9)
    first.save(image.with_suffix(".tif"), save_all=True, append_images=[first])
    assert said(*checked(folder), caplog) == [
        f"category 'bolt': 1 of 4 images have several pages; only the first is read; e.g. {image.with_suffix('.tif')}",
        "category 'bolt': 1 of 1 masks have soft edges or lossy compression: values above half of the mask's maximum count as "
        f"defective; e.g. {mask}",
    ]
