"""A crop is the same as images and masks that were cropped before."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adbench.core.errors import UsageError
from adbench.data.pixels import middle
from adbench.features.view import View
from adbench.metrics.support.labels import read_labels
from adbench.models.training import TrainingRequest, evaluate_model, train_model
from adbench.sweep.workspace import Workspace
from adbench.types import Sample


def test_the_middle_square_has_a_share_of_the_shorter_side() -> None:
    image = np.arange(10 * 16).reshape(10, 16)
    assert image[middle(image.shape, 1)].shape == (10, 16)
    np.testing.assert_array_equal(image[middle(image.shape, 0.8)], image[1:9, 4:12])
    with pytest.raises(UsageError, match=r"crop 0 must be above 0 and at most 1, e\.g\. 0\.875"):
        View(224, crop=0)


def test_a_crop_equals_files_that_are_cropped(parts: Path, cache: Path, tmp_path: Path) -> None:
    for path in (parts / "alpha").rglob("*.png"):
        target = tmp_path / "cropped" / path.relative_to(parts)
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.open(path).crop((16, 16, 48, 48)).save(target)
    whole, cropped = (Workspace(str(data), cache, ("alpha",), "cpu") for data in (parts, tmp_path / "cropped"))
    choices = TrainingRequest("mahalanobis", "efficientnet_lite0", "blocks.1.1.add", view=View(48, crop=0.5), eval_size="native")
    found = []
    for workspace, wish in ((whole, choices), (cropped, replace(choices, view=View(48)))):
        train_model(workspace, wish, {}, tmp_path / "model.safetensors")
        found.append(evaluate_model(workspace, tmp_path / "model.safetensors"))
    assert found[0].metrics == found[1].metrics and found[0].details["by_side"] == found[1].details["by_side"]
    assert (found[0].job.crop, found[0].details["image_px"]) == (0.5, 32)


def test_defects_outside_of_the_crop_are_counted(tmp_path: Path) -> None:
    mask = np.zeros((20, 20), np.uint8)
    mask[0:2, 0:2] = mask[9:11, 9:11] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    labels = read_labels([Sample(tmp_path / "a.png", "a", "spot", (tmp_path / "mask.png",))], "native", [(20, 20)], crop=0.5)
    assert labels.truth.masks is not None and labels.truth.masks[0].shape == (10, 10) and labels.truth.masks[0].sum() == 4
    assert "defect regions outside of the crop: 1" in labels.remarks
