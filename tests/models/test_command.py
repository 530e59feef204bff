"""The command that trains a choice, and the threshold that its good images allow."""

from dataclasses import replace

import pytest

from adbench.models.command import threshold_for, train_command
from adbench.types import Job

JOB = Job("parts", "f", "nut", "efficientnet_lite0", "imagenet", "s", ("blocks.2.1.add",), 256, 256, "patchcore",
          {"coreset_fraction": 0.1}, 1, 0)  # fmt: skip
DEFAULTS = {"coreset_fraction": 0.1}


def test_the_command_names_options_off_their_default() -> None:
    assert train_command(JOB, "demo", "nut", DEFAULTS, None) == (
        "adbench train patchcore efficientnet_lite0 blocks.2.1.add --data demo --category nut --model nut.safetensors"
    )
    job = replace(JOB, weights="random", image_size=320, params={"coreset_fraction": 0.01}, seed=2, smoothing=4.0)
    assert train_command(job, "my parts", "nut", DEFAULTS, 0.05, 5) == (
        "adbench train patchcore efficientnet_lite0 blocks.2.1.add --data 'my parts' --category nut --weights random "
        "--image-size 320 --seed 2 --param coreset_fraction=0.01 --fpr 0.05 --cross-fit 5 --model nut.safetensors"
    )
    assert " --data " not in train_command(JOB, None, "nut")
    assert train_command(replace(JOB, thresholds=("sigma:3",)), "demo", "nut", DEFAULTS).endswith(
        "--category nut --rule sigma:3 --model nut.safetensors"
    )


@pytest.mark.parametrize(
    ("images", "rate", "folds"), [(396, 0.01, None), (395, 0.01, 5), (98, 0.02, 5), (19, 0.05, 5), (3, 0.5, 3)]
)
def test_the_threshold_fits_the_number_of_images(images: int, rate: float, folds: int | None) -> None:
    assert threshold_for(images) == (rate, folds)
