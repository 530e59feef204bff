"""A stated range of values: deep images are read like files of 8 bits with the same levels, from the fit to predictions."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from conftest import Run, one_line
from PIL import Image

from adbench.core.errors import UsageError
from adbench.data import check
from adbench.data.images import read_levels
from adbench.features.view import View
from adbench.models.files import load_model
from adbench.models.prediction import predict_images
from adbench.models.training import TrainingRequest, train_model
from adbench.sweep.workspace import Workspace


@pytest.fixture
def floats(parts: Path, tmp_path: Path) -> Path:
    """The category alpha with its images as floats from -1 to 1."""
    for path in (parts / "alpha").rglob("*.png"):
        target = tmp_path / "floats" / path.relative_to(parts)
        target.parent.mkdir(parents=True, exist_ok=True)
        if "ground_truth" in path.parts:
            target.write_bytes(path.read_bytes())
        else:
            tifffile.imwrite(
                target.with_suffix(".tif"), np.asarray(Image.open(path).convert("RGB"), np.float32) / 127.5 - 1, photometric="rgb"
            )
    return tmp_path / "floats"


def test_a_stated_range_gives_the_numbers_of_equal_levels(parts: Path, floats: Path, cache: Path, tmp_path: Path) -> None:
    choices = TrainingRequest("mahalanobis", "efficientnet_lite0", "blocks.1.1.add", view=View(48), eval_size=64)
    model, found = tmp_path / "model.safetensors", []
    for data, value_range in ((parts, None), (floats, (-1.0, 1.0))):
        workspace = Workspace(str(data), cache, ("alpha",), "cpu")
        train_model(workspace, replace(choices, view=View(48, value_range=value_range)), {}, model)
        rows = predict_images(workspace, model, [data / "alpha/test"], tmp_path, "none")["predictions"]
        found.append((sorted((Path(row["path"]).stem, row["score"]) for row in rows), load_model(model).job))
    (scores, whole), (stated_scores, stated) = found
    assert len(scores) > 3 and stated_scores == scores
    assert stated.value_range == (-1, 1) and "value_range" not in whole.record()
    assert stated.key == replace(whole, fingerprint=stated.fingerprint, value_range=(-1.0, 1.0)).key


def test_values_outside_of_the_range_are_black_or_white(floats: Path, caplog: pytest.LogCaptureFixture, cache: Path) -> None:
    path = next((floats / "alpha/train").rglob("*.tif"))
    levels = read_levels(path, (-0.5, 0.0))
    assert np.array_equal(levels, np.clip((tifffile.imread(path) + 0.5) * 510, 0, 255).astype(np.float32))
    check._said.clear()
    with caplog.at_level(logging.WARNING):
        Workspace(str(floats), cache, ("alpha",), "cpu").single(views=[View(48, value_range=(-0.5, 0.0))])
    assert "have values outside of the stated range, -0.5 to 0: they are read as black or white" in caplog.text


@pytest.mark.parametrize(("options", "text"), [
    ((), " do not fit 0 to 1; state the values of black and white as value_range, e.g. -0."),
    (("--value-range", "1,1"), "value_range 1, 1: give the values of black and of white, the lower one first, e.g. 0, 4095"),
    (("--value-range", "0,inf"), "value_range 0, inf: give the values of black and of white, the lower one first, e.g. 0, 4095"),
    (("--value-range", "4095"), "--value-range '4095': write the values of black and white, e.g. 0,4095"),
    (("--value-range", "5,9"), "value_range 5, 9: all images would be black or white; their values are from -0."),
])  # fmt: skip
def test_wrong_ranges_are_one_line(run: Run, floats: Path, options: tuple[str, ...], text: str) -> None:
    made = run("extract", "efficientnet_lite0", "blocks.1.1.add", "--data", floats, "--weights", "random", *options)
    assert text in one_line(made, 2 if options else 3)


def test_a_range_without_deep_images_is_refused(parts: Path, cache: Path) -> None:
    with pytest.raises(UsageError) as error:
        Workspace(str(parts), cache, ("alpha",), "cpu").inputs([View(48, value_range=(0.0, 4095.0))])
    assert str(error.value) == "value_range 0, 4095: no image has more than 8 bits per channel; leave it out"
