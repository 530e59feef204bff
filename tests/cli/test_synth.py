"""`adbench synth`: a sound dataset, the same bytes every time, made from good images alone."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import Run, make_category, one_line
from PIL import Image

from adbench.data.check import check_files
from adbench.data.datasets import open_dataset
from adbench.data.images import read_image, read_mask

_watched: list[Path] | None = None


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    """Note every file that is opened and every folder that is listed, by whatever code, while somebody watches."""
    if _watched is not None and event in ("open", "os.listdir", "os.scandir") and isinstance(arguments[0], str | Path):
        _watched.append(Path(arguments[0]))


sys.addaudithook(_watch)  # for the life of the process: Python has no way to take one off


@pytest.fixture
def touched(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Path]]:
    found: list[Path] = []
    monkeypatch.setattr(sys.modules[__name__], "_watched", found)
    yield found


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_the_dataset_is_sound_and_says_how_it_was_made(run: Run, parts: Path, tmp_path: Path) -> None:
    answer = run("synth", "--data", parts, "--category", "alpha", "--out", "made", "--count", 12, "--json").json
    assert answer["defects"] == dict.fromkeys(answer["defects"], 1) | {"blur": 2, "colour": 2}
    assert (answer["foreground"], answer["train"], answer["good"]) == ("texture", 4, 1)
    (category,) = open_dataset(str(tmp_path / "made"), tmp_path)
    check_files([category])
    assert len(category.train) == 4
    assert [s.defect for s in category.test].count("good") == 1
    manifest = json.loads((tmp_path / "made/alpha/synthetic.json").read_text())
    assert sorted(d["image"] for d in manifest["defects"]) == sorted(s.name for s in category.test if s.anomalous)
    for defect in manifest["defects"]:
        mask = read_mask(tmp_path / "made/alpha" / defect["mask"])
        change = read_image(tmp_path / "made/alpha" / defect["image"]) != read_image(parts / "alpha" / defect["source"])
        assert defect["area_px"] == mask.sum() >= 4**2
        assert not change.any(axis=2)[~mask].any() and defect["source"] in manifest["good"]


def test_nothing_but_training_images_is_opened_or_listed(run: Run, tmp_path: Path, touched: list[Path]) -> None:
    data = make_category(tmp_path / "data" / "bolt", 3).parent
    for path in (data / "bolt").glob("[tg]*t*/spot/*.png"):
        path.write_bytes(b"unreadable")
    touched.clear()
    assert run("synth", "--data", data, "--out", "made", "--count", 3).code == 0
    inside = {p.relative_to(data / "bolt").parts[0] for p in touched if p.is_relative_to(data / "bolt") and p != data / "bolt"}
    assert inside == {"train"}


def test_the_same_seed_gives_the_same_bytes_and_replaces_what_was_there(run: Run, parts: Path, tmp_path: Path) -> None:
    command = ("synth", "--data", parts, "--category", "beta", "--count", 4)
    trees = []
    for out, seed in (("a", 1), ("b", 2), ("b", 1)):
        assert run(*command, "--out", out, "--seed", seed, "--force").code == 0
        trees.append(tree(tmp_path / out))
    assert trees[0] == trees[2] != trees[1]


def test_what_an_earlier_call_wrote_is_replaced_only_by_force(run: Run, parts: Path, tmp_path: Path) -> None:
    command = ("synth", "--data", parts, "--category", "beta", "--out", "made", "--count", 2)
    run(*command)
    before = tree(tmp_path / "made")
    assert one_line(run(*command, "--seed", 1), 3) == (
        "made/beta is there, from an earlier 'adbench synth'; add --force to replace it, or choose another --out"
    )
    assert tree(tmp_path / "made") == before
    assert run(*command, "--seed", 1, "--force").code == 0
    assert tree(tmp_path / "made") != before


def test_a_contact_sheet_and_the_answer_in_words(run: Run, parts: Path, tmp_path: Path) -> None:
    answer = run("synth", "--data", parts, "--category", "alpha", "--out", "made", "--count", 2,
                 "--kinds", "stain,hole", "--contact-sheet", "sheet.png")  # fmt: skip
    heading, rule, *rows = answer.out.splitlines()
    assert (heading, set(rule)) == ("defects on alpha    images", {"-", " "})
    assert [row.split() for row in rows] == [["hole", "1"], ["stain", "1"]]
    assert answer.err.startswith("made/alpha: 4 good images to train on, 1 held out; defects of ")
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert sheet.shape[0] > 2 * 160 and sheet.shape[1] > 3 * 160  # a row per kind, three pictures of its defect
    assert sheet.std() > 10


def test_like_takes_the_sizes_of_masks(run: Run, parts: Path, tmp_path: Path) -> None:
    answer = run("synth", "--data", parts, "--category", "alpha", "--out", "made", "--count", 8,
                 "--like", parts / "alpha" / "ground_truth", "--json").json  # fmt: skip
    assert 14 / 1.25 <= answer["size_px"]["min"] <= answer["size_px"]["max"] <= 14 * 1.25


@pytest.mark.parametrize(
    ("options", "code", "line"),
    [
        (["--sizes", "3"], 2, "--sizes '3': write two numbers, e.g. --sizes 0.05,0.2"),
        (["--sizes", "0.1,0.9"], 2, "--sizes 0.1,0.9: give fractions of the image's side above 0, up to 0.7"),
        (["--sizes", "0.1,0.2", "--like", "x"], 2, "--like and --sizes exclude each other; leave one out"),
        (["--like", "x"], 3, "masks x: no such folder; give one of masks, white where the defect is"),
        (["--kinds", "strain"], 2, "unknown defect 'strain'; did you mean 'stain'?"),
        (["--count", "0"], 2, "Invalid value for '--count': '0' is not a whole number from 1 on. See 'adbench synth --help'."),
        (["--sizes", "0.5,0.1"], 2, "--sizes '0.5,0.1': the first number must not be above the second; write --sizes 0.1,0.5"),
        (["--holdout", "1"], 2, "--holdout 1: the share of good images held out must be above 0 and below 1, e.g. 0.25"),
        (["--out", "PARTS"], 3, "PARTS/alpha is there and was not made by 'adbench synth'; choose another --out"),
    ],
)
def test_mistakes_are_named(run: Run, parts: Path, options: list[str], code: int, line: str) -> None:
    options = [str(parts) if option == "PARTS" else option for option in options]
    answer = run("synth", "--data", parts, "--category", "alpha", "--out", "made", *options)
    assert (answer.code, answer.out) == (code, "")
    assert answer.err == f"adbench: error: {line.replace('PARTS', str(parts))}\n"


def test_one_good_image_is_too_few(run: Run, tmp_path: Path) -> None:
    make_category(tmp_path / "data" / "bolt", 3, train=1)
    answer = run("synth", "--data", "data", "--out", "made")
    assert answer.code == 3
    assert answer.err == ("adbench: error: category 'bolt' has one training image: none can be held out; add good images\n")
