"""Model files: what is read back, and which files are refused, each in one line with exit code 3."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from conftest import Run, one_line
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from adbench.detectors.patchcore import PatchCore
from adbench.features.cache import EXTRACTION_REVISION
from adbench.models.files import checksum, load_model, save_model

MODEL = "m.safetensors"


@pytest.fixture
def images(parts: Path) -> Path:
    return parts / "alpha" / "test"


@pytest.fixture
def model(run: Run, models: Path) -> Path:
    shutil.copy(models / "with.safetensors", MODEL)
    return Path(MODEL)


def test_a_saved_model_is_read_back(model: Path) -> None:
    read = load_model(model)
    save_model(Path("copy.safetensors"), read)
    copy = load_model(Path("copy.safetensors"))
    assert (copy.job, copy.cost, copy.fitted, copy.threshold) == (read.job, read.cost, read.fitted, read.threshold)
    states = copy.detector.state_dict(), read.detector.state_dict()
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert read.threshold is not None
    assert len(read.fitted) == 3


def change(model: Path, part: str, **values: object) -> dict[str, object]:
    """Change a part of a model's header, and return what that part was."""
    with safe_open(model, framework="pt") as file:
        header = json.loads(file.metadata()["adbench"])
    before = dict(header[part])
    header[part] |= values
    text, state = json.dumps(header), load_file(model)
    save_file(state, model, {"adbench": text, "crc32": checksum(text, state)})
    return before


def test_a_damaged_threshold_in_a_model(run: Run, model: Path, images: Path) -> None:
    change(model, "threshold", image=float("nan"))
    assert one_line(run("predict", model, images, "--out", "out"), 3) == (
        f"model {MODEL}: damaged, or not written by 'adbench train'; name a model file, or train it again"
    )


def test_a_model_of_another_revision(run: Run, model: Path, images: Path) -> None:
    change(model, "job", revision=1)
    assert one_line(run("predict", model, images, "--out", "out"), 3) == (
        f"model {MODEL}: fitted by revision 1 of patchcore, this version has revision {PatchCore.revision}; train it again"
    )


def test_a_model_of_another_extraction(run: Run, model: Path, images: Path) -> None:
    change(model, "job", extraction=2)
    assert one_line(run("predict", model, images, "--out", "out"), 3) == (
        f"model {MODEL}: fitted by revision 2 of the extraction, this version has revision {EXTRACTION_REVISION}; train it again"
    )


def test_a_job_without_later_fields_has_their_defaults(model: Path) -> None:
    job = load_model(model).job
    assert "extraction" not in change(model, "job")
    assert load_model(model).job == job
    assert job.extraction == 3


def test_weights_that_are_gone(run: Run, model: Path, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", "home")
    change(model, "job", backbone="resnet18", weights="IMAGENET1K_V1")
    message = one_line(run("predict", model, images, "--out", "out", "--offline"), 3)
    assert message.startswith(
        "weights 'IMAGENET1K_V1' of resnet18: home/hub/checkpoints/resnet18-f37072fd.pth is not there; get it from https://"
    )


def test_weights_that_are_others(run: Run, model: Path, images: Path) -> None:
    change(model, "job", weights="random")
    assert one_line(run("predict", model, images, "--out", "out"), 3) == (
        f"model {MODEL}: made with other weights 'random' of efficientnet_lite0; train it again"
    )


@pytest.mark.parametrize("command", [("predict", "--out", "out"), ("threshold", "--fpr", "0.1")])
def test_a_damaged_model(command: tuple[str, ...], run: Run, images: Path) -> None:
    Path(MODEL).write_bytes(b"12345678" * 9)
    assert one_line(run(command[0], MODEL, images, *command[1:]), 3) == (
        f"model {MODEL}: damaged, or not written by 'adbench train'; name a model file, or train it again"
    )
    assert one_line(run(command[0], "none", images, *command[1:]), 3) == (
        "model none: no such file; make it with 'adbench train'"
    )
