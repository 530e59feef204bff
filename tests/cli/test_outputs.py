"""Where output goes: streams of every encoding, closed ones, pictures among images, long names, unwritable folders."""

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Run, one_line
from PIL import Image

from adbench.cli import console, main
from adbench.core.files import fitting
from adbench.data.writing import is_marked

LONG = "a" * 245  # with .png, 249 bytes
NAMES = ["Grüße→.png", os.fsdecode(b"\xff\xfe.png")]


def stream(encoding: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict", newline="")


def written(monkeypatch: pytest.MonkeyPatch, encoding: str, call: Callable[[], None]) -> bytes:
    """Return the bytes that a call prints on a stdout of this encoding."""
    monkeypatch.setattr("sys.stdout", out := stream(encoding))
    console.set_up()
    call()
    return out.buffer.getvalue()  # type: ignore[attr-defined,no-any-return]


@pytest.mark.parametrize(("encoding", "shown"), [
    ("cp1252", b"Gr\xfc\xdfe\\u2192.png \\udcff\\udcfe.png\n"),
    ("ascii", b"Gr\\xfc\\xdfe\\u2192.png \\udcff\\udcfe.png\n"),
    ("utf-8", "Grüße→.png \\udcff\\udcfe.png\n".encode()),
])  # fmt: skip
def test_an_answer_is_escaped_where_the_terminal_cannot_show_it(
    encoding: str, shown: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert written(monkeypatch, encoding, lambda: console.answer(" ".join(NAMES))) == shown


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_a_document_is_utf_8(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    content = written(monkeypatch, encoding, lambda: console.answer_json(NAMES))
    assert json.loads(content.decode("utf-8")) == NAMES  # bytes that are no text are JSON's own escapes


@pytest.mark.parametrize("name", ["html", "latex", "markdown", "csv", "json"])
def test_reports_are_utf_8_as_they_declare(name: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from adbench.sweep.results import ResultStore
    from adbench.types import Job, Result

    job = Job("parts", "f", "Schraube→", "resnet18", "random", "ab", ("layer1",), 256, 256, "knn", {}, 1, 0)
    ResultStore(Path("results")).write(Result(job, "done", metrics={"image_auroc": 0.5, "aupro": 0.5}))

    def report() -> None:
        with pytest.raises(SystemExit) as ended:
            main(["report", "results", "--format", name, "--columns", "category"])
        assert not ended.value.code

    content = written(monkeypatch, "cp1252", report).decode("utf-8")
    assert "Schraube→" in content or "Schraube\\u2192" in content


SHELL = {
    "closed stdout": ("{} list presets >&-", 0, ""),
    "closed stderr": ("{} list presets 2>&- | tail -1", 0, ""),
    "all closed": ("{} list presets <&- >&- 2>&-", 0, ""),
    "closed pipe": ("({} list presets; echo $? >code) | true; exit $(cat code)", 0, ""),
    "help into a closed pipe": ("{} --help | true", 0, ""),
    "full disk": (
        "{} list presets >/dev/full", 3,
        "adbench: error: cannot write the answer to stdout: No space left on device; send it elsewhere or free the disk\n",
    ),
}  # fmt: skip


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
@pytest.mark.parametrize("case", SHELL)
def test_streams_that_are_closed_or_full(case: str, tmp_path: Path) -> None:
    command, code, err = SHELL[case]
    done = subprocess.run(
        ["/bin/sh", "-c", command.format(f"{sys.executable} -m adbench")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (code, err)


def test_work_goes_on_when_the_reader_of_talk_has_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "w") as gone:
        monkeypatch.setattr("sys.stderr", gone)
        console.set_up(quiet=False)
        for _ in range(3):
            console.say("working")
            console.error("no reason")


@pytest.fixture
def images(parts: Path, tmp_path: Path) -> Path:
    """A folder `new` with two images."""
    (tmp_path / "new").mkdir()
    for name in ("000.png", "001.png"):
        shutil.copy(parts / "alpha/test/spot" / name, tmp_path / "new" / name)
    return Path("new")


def test_overlays_of_another_run_are_not_scored(run: Run, model: Path, images: Path) -> None:
    run("predict", model, images, "--out", "new/out1", "--overlays", "all")
    again = run("predict", model, images, "--out", "new/out2", "--json")
    assert {row["path"] for row in again.json["predictions"]} == {"new/000.png", "new/001.png"}
    assert again.err == "adbench: warning: 2 pictures skipped that adbench itself drew, e.g. new/out1/overlays/000.jpg\n"
    assert one_line(run("predict", model, "new/out1/overlays", "--out", "out"), 3) == (
        "no image in new/out1/overlays: adbench itself drew 2 pictures; name images of parts"
    )
    assert one_line(run("threshold", model, "new/out1/overlays/000.jpg", "--fpr", 0.1), 3).endswith("name images of parts")


def test_every_picture_is_recognized(run: Run, parts: Path, model: Path, images: Path) -> None:
    data = ("--data", parts, "--category", "alpha")
    run("predict", model, images, "--out", "out", "--overlays", "all")
    run("eval", model, *data, "--heatmaps", "new/heat")
    run("synth", *data, "--out", "new/made", "--count", 2, "--contact-sheet", "new/sheet.png")
    run("rf", "efficientnet_lite0", "blocks.1.1.add", "--weights", "random", "--input-size", 64, "--figure", "new/figure.png")
    drawn = [*Path("out/overlays").iterdir(), *Path("new/heat").rglob("*.png"), Path("new/sheet.png"), Path("new/figure.png")]
    assert len(drawn) == 10
    assert all(map(is_marked, drawn))
    found = run("predict", model, images, "--out", "again", "--json")
    assert found.json["images"] == 2
    assert "8 pictures skipped that adbench itself drew, e.g. new/heat/good/000.png" in found.err
    assert "new/made/alpha is skipped: 'adbench synth' made it; name it to use its images" in found.err
    assert run("predict", model, "new/made/alpha/test/good", "--out", "made", "--json").json["images"] == 1


def test_figures_and_kept_maps_are_recognized(tmp_path: Path, parts: Path) -> None:
    import numpy as np
    from matplotlib.figure import Figure as Drawing

    from adbench.data.datasets import open_dataset
    from adbench.pictures.kept_maps import keep_maps
    from adbench.reports.formats import Figure
    from adbench.reports.plotting import images
    from adbench.types import Scores

    figure = Figure("f", "A caption " * 200, "A description " * 200, Drawing)
    (tmp_path / "f.png").write_bytes(images(figure, ["png"])["png"])
    (category,) = open_dataset(str(parts), tmp_path, ["alpha"])
    scores = Scores(np.arange(6, dtype=np.float32), np.random.default_rng(0).random((6, 8, 8), np.float32))
    keep_maps(tmp_path / "kept", category.test, scores, None, 1.0, 2)
    drawn = [tmp_path / "f.png", *(tmp_path / "kept").glob("*.webp")]
    assert len(drawn) == 3
    assert all(map(is_marked, drawn))
    assert not any(is_marked(sample.path) for sample in category.test)


def test_a_dataset_skips_pictures_that_adbench_drew(run: Run, parts: Path, model: Path, tmp_path: Path) -> None:
    shutil.copytree(parts / "alpha", tmp_path / "data/alpha")
    run("eval", model, "--data", "data", "--heatmaps", "heat")
    before = run("eval", model, "--data", "data", "--json").json["metrics"]
    shutil.copytree("heat/spot", "data/alpha/test/heat")
    after = run("eval", model, "--data", "data", "--json")
    assert after.json["metrics"] == before
    assert "3 pictures skipped that adbench itself drew, e.g. " in after.err


def test_no_image_is_replaced_by_its_picture(run: Run, parts: Path, model: Path, tmp_path: Path) -> None:
    shutil.copytree(parts / "alpha", tmp_path / "data/alpha")
    assert one_line(run("eval", model, "--data", "data", "--heatmaps", "data/alpha/test"), 2) == (
        "--heatmaps data/alpha/test: data/alpha/test/good/000.png is an image and would be replaced by its picture; "
        "choose another folder"
    )
    Path("new/overlays").mkdir(parents=True)
    Image.new("RGB", (64, 64)).save("new/overlays/a.jpg")
    assert one_line(run("predict", model, "new/overlays", "--out", "new"), 2) == (
        "--out new: new/overlays/a.jpg is an image and would be replaced by its picture; choose another folder"
    )


def test_a_long_name_costs_no_other_image_its_row(run: Run, model: Path, images: Path) -> None:
    shutil.copy(images / "001.png", images / f"{LONG}.png")
    found = run("predict", model, images, "--out", "out", "--overlays", "all", "--json")
    assert (found.code, found.json["images"], found.json["failed"]) == (0, 3, 0)
    assert sorted(path.name for path in Path("out/overlays").iterdir()) == ["000.jpg", "001.jpg", f"{LONG}.jpg"]


def test_heat_maps_of_long_names(run: Run, parts: Path, model: Path, tmp_path: Path) -> None:
    shutil.copytree(parts / "alpha", tmp_path / "data/alpha")
    Path("data/alpha/test/good/000.png").rename(f"data/alpha/test/good/{LONG}.png")
    assert run("eval", model, "--data", "data", "--heatmaps", "heat").code == 0
    assert len(list(Path("heat").rglob("*.png"))) == 6


@pytest.mark.parametrize("name", ["a" * 300 + ".png", "ö" * 200 + ".webp", "b" * 300, "." + "c" * 300])
def test_a_name_that_does_not_fit_is_cut(name: str, tmp_path: Path) -> None:
    short, other = fitting(name), fitting(name.replace(".", "x.", 1) if "." in name else name + "x")
    assert len(os.fsencode(short)) <= 255
    assert short != other
    assert short.rpartition(".")[2] == name.rpartition(".")[2] or not name.rpartition(".")[0]
    (tmp_path / short).touch()


def test_a_name_that_fits_stays() -> None:
    assert fitting("a" * 251 + ".png") == "a" * 251 + ".png"


BLOCKED = "/dev/null/cache"


@pytest.mark.parametrize("command", [
    ("list", "layers", "efficientnet_lite0"),
    ("list", "presets"),
    ("cache", "list"),
    ("rf", "efficientnet_lite0", "blocks.1.1.add", "--weights", "random", "--input-size", "64"),
    ("synth", "--data", "PARTS", "--category", "alpha", "--out", "made", "--count", "2"),
])  # fmt: skip
def test_a_memo_that_cannot_be_written_stops_nothing(
    command: tuple[str, ...], run: Run, parts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADBENCH_CACHE", BLOCKED)
    done = run(*(str(parts) if word == "PARTS" else word for word in command))
    assert (done.code, "error" in done.err, "warning" in done.err) == (0, False, False)


@pytest.mark.parametrize("command", [
    ("extract", "efficientnet_lite0", "blocks.1.1.add", "--data", "PARTS"),
    ("synth", "--data", "demo", "--category", "nut", "--out", "made"),
])  # fmt: skip
def test_a_cache_that_is_needed_is_named_with_its_settings(
    command: tuple[str, ...], run: Run, parts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADBENCH_CACHE", BLOCKED)
    message = one_line(run(*(str(parts) if word == "PARTS" else word for word in command)), 3)
    assert message.startswith(f"cannot write {BLOCKED}")
    assert message.endswith(": /dev/null is a file; name a folder (--cache, ADBENCH_CACHE)")


def test_weights_that_cannot_be_stored_name_their_setting(run: Run, parts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", "/dev/null/torch")
    message = one_line(run("extract", "resnet18", "layer1", "--data", parts), 3)
    assert message.startswith("cannot write /dev/null/torch/hub/checkpoints/")
    assert message.endswith(": /dev/null is a file; name a folder (TORCH_HOME, HF_HOME)")


SETTINGS: dict[str, dict[str, Any]] = {
    "a notebook's backend": {"MPLBACKEND": "module://no_such_module.backend_inline"},
    "a backend for a screen": {"MPLBACKEND": "QtAgg", "DISPLAY": ""},
    "an unknown backend": {"MPLBACKEND": "nosuch"},
    "a damaged matplotlibrc": {"MATPLOTLIBRC": "rc", "MPLBACKEND": ""},
    "no folder for settings": {"MPLCONFIGDIR": "/dev/null/x", "HOME": "/dev/null/y"},
}
DRAW = """
import os
from adbench.core.plots import load_matplotlib
before = dict(os.environ)
load_matplotlib()
assert dict(os.environ) == before
from adbench.reports.formats import Figure
from adbench.reports.plotting import images, panels
print(len(images(Figure("f", "c", "d", lambda: panels((1, 1))[0]), ["png"])["png"]) > 500)
"""


@pytest.mark.parametrize("settings", SETTINGS)
def test_figures_do_not_depend_on_the_users_settings(settings: str, tmp_path: Path) -> None:
    (tmp_path / "rc").mkdir()
    (tmp_path / "rc/matplotlibrc").write_bytes(b"font.size: gro\xdf\n")
    environment = os.environ | SETTINGS[settings]
    done = subprocess.run(
        [sys.executable, "-c", DRAW], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_a_damaged_matplotlibrc_in_the_working_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_bytes(b"font.size: gro\xdf\n")
    done = subprocess.run([sys.executable, "-c", DRAW], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == (
        "adbench.core.errors.DataError: matplotlibrc: the file in the working folder is no UTF-8 text; fix or remove it"
    )
