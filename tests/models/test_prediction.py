"""The commands threshold and predict, and the answers to mistakes of their users."""

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Answer, Run, one_line
from safetensors.torch import load_file

from adbench.models.prediction import predict_images
from adbench.sweep.workspace import Workspace

Trained = Callable[..., Answer]
MODEL = "m.safetensors"


@pytest.fixture
def images(parts: Path) -> Path:
    return parts / "alpha" / "test"


@pytest.fixture
def train(run: Run, parts: Path) -> Trained:
    """Train a model for the category `alpha` in the empty folder of the test."""

    def call(*more: str) -> Answer:
        place = ("--data", parts, "--category", "alpha", "--image-size", 64, "--model", MODEL)
        return run("train", "patchcore", "efficientnet_lite0", "blocks.1.1.add", *place, *more)

    return call


@pytest.fixture
def model(run: Run, models: Path) -> Path:
    shutil.copy(models / "with.safetensors", MODEL)
    return Path(MODEL)


@pytest.fixture
def bare(run: Run, models: Path) -> Path:
    """A model without a threshold."""
    shutil.copy(models / "without.safetensors", MODEL)
    return Path(MODEL)


def rows(out: str | Path = "out") -> list[dict[str, str]]:
    with (Path(out) / "predictions.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_train_tells_the_threshold_and_what_it_promises(train: Trained) -> None:
    trained = train("--fpr", "0.4", "--holdout", "0.4")
    assert trained.out.splitlines()[1].endswith(
        " from 2 held-out good images; expected false-positive rate 0.333, 95 % interval 0.013 to 0.84"
    )
    assert trained.err.endswith(": holding out costs the fit 2 of 5 good images; with --cross-fit 5 it would have all of them\n")


def test_train_says_when_too_few_images_are_held_out(train: Trained) -> None:
    trained = train("--fpr", "0.01", "--json")
    assert trained.err == (
        "adbench: warning: a false-positive rate of 0.01 needs 99 or more held-out good images, not 1; "
        "the highest of their scores becomes the threshold, with an expected rate of 0.5\n"
    )
    assert trained.json["threshold"]["expected"] == 0.5


def test_each_image_has_a_row_and_a_picture(run: Run, model: Path, images: Path) -> None:
    done = run("predict", model, images, "--out", "out", "--overlays", "all", "--json")
    found = done.json
    assert (done.code, done.err) == (0, "")
    assert [row["path"] for row in found["predictions"]] == sorted(map(str, images.rglob("*.png")))
    assert {"images": 6, "good": found["good"], "anomalous": 6 - found["good"], "failed": 0}.items() <= found.items()
    limit = found["threshold"]["image"]
    for row in found["predictions"]:
        assert row["decision"] == ("anomalous" if row["score"] > limit else "good")
        assert Path(row["overlay"]).is_file()
    assert [r["decision"] for r in found["predictions"][3:]] == ["anomalous"] * 3  # the spots


def test_pictures_of_earlier_runs_are_told(run: Run, model: Path, images: Path) -> None:
    run("predict", model, images, "--out", "out", "--overlays", "all")
    again = run("predict", model, images / "spot" / "001.png", "--out", "out", "--json")
    assert again.err == "adbench: warning: 6 pictures in out/overlays are of earlier runs, such as out/overlays/good/000.jpg\n"


def test_the_csv_says_what_the_json_says(run: Run, model: Path, images: Path) -> None:
    found = run("predict", model, images, "--out", "out", "--overlays", "all", "--json").json["predictions"]
    assert [{**row, "score": float(row["score"]), "threshold": float(row["threshold"])} for row in rows()] == [
        {**row, "error": ""} for row in found
    ]


def test_an_image_looks_the_same_alone_and_among_others(run: Run, model: Path, images: Path) -> None:
    run("predict", model, images, "--out", "all")
    run("predict", model, images / "spot" / "001.png", "--out", "one")
    (alone,) = rows("one")
    (among,) = [row for row in rows("all") if row["path"] == alone["path"]]
    assert alone["score"] == among["score"]
    assert Path(alone["overlay"]).read_bytes() == Path(among["overlay"]).read_bytes()


def test_the_answer_for_people(run: Run, model: Path, images: Path) -> None:
    done = run("predict", model, images / "spot", "--out", "out", "--no-overlays")
    lines = done.out.splitlines()
    assert lines[0].split() == ["highest", "scores", "decision"]
    assert sorted(line.split()[0] for line in lines[2:5]) == sorted(map(str, (images / "spot").iterdir()))
    assert lines[5] == "3 images: 3 anomalous"
    assert done.err.endswith(" images per second; all rows are in out/predictions.csv\n")
    assert not Path("out/overlays").exists()


@pytest.mark.parametrize("wish", [(), ("--overlays", "anomalous")])
def test_only_anomalous_images_are_drawn_unless_said_otherwise(
    wish: tuple[str, ...], run: Run, model: Path, images: Path
) -> None:
    found = run("predict", model, images, "--out", "out", *wish, "--json").json
    drawn = [row["decision"] for row in found["predictions"] if row["overlay"]]
    assert drawn == ["anomalous"] * found["anomalous"]
    assert len(list(Path("out/overlays").rglob("*.jpg"))) == found["anomalous"] >= 3


def test_damaged_images_are_named_and_the_others_go_on(run: Run, model: Path, images: Path, tmp_path: Path) -> None:
    shutil.copytree(images, tmp_path / "new")
    Path("new/good/001.png").write_bytes(b"")
    done = run("predict", model, "new", "--out", "out", "--quiet")
    error = "cannot read image new/good/001.png: the file is empty; replace or remove it"
    assert (done.code, done.err) == (1, f"adbench: warning: {error}\n")
    assert [row["error"] for row in rows()] == ["", error, "", "", "", ""]
    assert [row["score"] != "" for row in rows()] == [True, False, True, True, True, True]
    run("predict", model, images, "--out", "whole")
    assert [row["score"] for row in rows() if row["score"]] == [r["score"] for r in rows("whole")][:1] + [
        r["score"] for r in rows("whole")
    ][2:]


def test_nothing_readable_is_an_error(run: Run, model: Path) -> None:
    Path("x.png").write_text("no image")
    done = run("predict", model, "x.png", "--out", "out")
    assert (done.code, done.out) == (3, "1 image: 1 failed\n")


def test_pictures_of_the_same_name_are_all_kept(run: Run, model: Path, images: Path) -> None:
    same = [images / "good" / "000.png", images / "spot" / "000.png"]
    found = run("predict", model, *same, "--out", "out", "--overlays", "all", "--json").json["predictions"]
    assert [row["overlay"] for row in found] == ["out/overlays/000.jpg", "out/overlays/000-2.jpg"]
    assert Path("out/overlays/000.jpg").read_bytes() != Path("out/overlays/000-2.jpg").read_bytes()


def test_the_output_may_lie_among_the_images(run: Run, model: Path, images: Path, tmp_path: Path) -> None:
    shutil.copytree(images, tmp_path / "new")
    command = ("predict", model, "new", "--out", "new/out", "--json")
    assert [run(*command).json["images"] for _ in range(2)] == [6, 6]


def test_an_interrupt_leaves_no_half_file(models: Path, images: Path, cache: Path, tmp_path: Path) -> None:
    def interrupt(done: int, total: int, note: str) -> None:
        raise KeyboardInterrupt

    workspace = Workspace("", cache, device="cpu", on_step=interrupt)
    with pytest.raises(KeyboardInterrupt):
        predict_images(workspace, models / "with.safetensors", [images], tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(("kind", "code"), [("spot", 4), ("good", 0)])
def test_scripts_can_ask_for_an_exit_code(kind: str, code: int, run: Run, model: Path, images: Path) -> None:
    run("threshold", model, images / "good", "--fpr", "0.2")
    command = ("predict", model, images / kind, "--out", "out", "--no-overlays")
    assert (run(*command).code, run(*command, "--fail-on-anomaly").code) == (0, code)


def test_a_threshold_can_be_set_later(run: Run, model: Path, images: Path) -> None:
    before = load_file(model)
    told = run("threshold", model, images / "good", "--fpr", "0.3")
    assert told.out.startswith(f"{model}: threshold ")
    assert told.out.endswith(" from 3 held-out good images; expected false-positive rate 0.25, 95 % interval 0.0084 to 0.71\n")
    found = run("predict", model, images / "good", "--out", "out", "--json").json
    assert found["threshold"]["count"] == 3
    assert (found["good"], found["anomalous"]) == (3, 0)
    assert all((load_file(model)[key] == value).all() for key, value in before.items())


def test_a_model_without_threshold_gives_scores(run: Run, bare: Path, images: Path) -> None:
    done = run("predict", MODEL, images, "--out", "out", "--json")
    assert done.err == (
        f"adbench: warning: {MODEL} has no threshold: scores come without decisions; "
        f"set one with: adbench threshold {MODEL} GOOD_IMAGES --fpr 0.01\n"
    )
    assert (done.code, done.json["undecided"], done.json["threshold"]) == (0, 6, None)
    assert {row["decision"] for row in rows()} == {""}
    assert len(list(Path("out/overlays").rglob("*.jpg"))) == 6


@pytest.mark.parametrize("wish", [("--fail-on-anomaly",), ("--overlays", "anomalous")])
def test_decisions_need_a_threshold(wish: tuple[str, ...], run: Run, bare: Path, images: Path) -> None:
    assert one_line(run("predict", MODEL, images, "--out", "out", *wish), 2) == (
        f"predict: {MODEL} has no threshold to decide by; set one with: adbench threshold {MODEL} GOOD_IMAGES --fpr 0.01"
    )


def test_a_threshold_from_images_of_the_fit_is_refused(run: Run, bare: Path, parts: Path) -> None:
    good = parts / "alpha/train/good"
    assert one_line(run("threshold", MODEL, good, "--fpr", "0.1"), 2) == (
        f"threshold: {MODEL} was fitted to 5 of these 5 images, e.g. {good}/000.png, "
        "so their scores are too low; give good images that it has not seen"
    )


MISTAKES = {
    "no image": (3, ("IMAGES", "nowhere.png"), "no image nowhere.png: no such file or folder; name images or folders of images"),
    "no images": (3, ("empty",), "no image in empty: nothing in it or below ends in .png, .jpg, .bmp, .tif or .webp"),
    "overlays": (2, ("IMAGES", "--overlays", "al"), "unknown overlays 'al'; did you mean 'all'?"),
    "device": (2, ("IMAGES", "--device", "cuda:7"), "device 'cuda:7' is not on this machine; choose from: auto, cpu"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_of_predict(mistake: str, run: Run, model: Path, images: Path) -> None:
    code, arguments, message = MISTAKES[mistake]
    Path("empty").mkdir()
    given = [images if argument == "IMAGES" else argument for argument in arguments]
    assert one_line(run("predict", model, *given, "--out", "out"), code) == message


def test_a_folder_that_cannot_be_written(run: Run, model: Path, images: Path) -> None:
    Path("file").write_text("")
    assert one_line(run("predict", model, images, "--out", "file"), 3) == ("--out file: file is a file; name a folder")


@pytest.mark.parametrize(
    ("options", "message"),
    [(("--fpr", "2"), "--fpr 2: the false-positive rate must be above 0 and below 1, e.g. 0.01"),
     (("--fpr", "0.1", "--holdout", "1"),
      "--holdout 1: the share of good images held out must be above 0 and below 1, e.g. 0.25"),
     (("--holdout", "0.2"), "--holdout needs a false-positive rate; add e.g. --fpr 0.01")],
)  # fmt: skip
def test_mistakes_of_a_hold_out(options: tuple[str, ...], message: str, train: Trained) -> None:
    assert one_line(train(*options), 2) == message


def test_one_good_image_cannot_be_held_out(run: Run, images: Path, tmp_path: Path) -> None:
    (tmp_path / "data/part/train/good").mkdir(parents=True)
    shutil.copy(images / "good/000.png", tmp_path / "data/part/train/good")
    place = ("--data", "data", "--image-size", 64, "--model", MODEL, "--fpr", "0.1")
    assert one_line(run("train", "patchcore", "efficientnet_lite0", "blocks.1.1.add", *place), 3) == (
        "category 'part' has one training image: none can be held out; add good images"
    )
