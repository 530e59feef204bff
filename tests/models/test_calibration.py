"""Held-out images: which ones they are, and the threshold that they set."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from adbench.features.anomaly_maps import searched
from adbench.metrics.support.held_out import hold_out_images
from adbench.models.files import load_model
from adbench.models.prediction import Scorer
from adbench.sweep.workspace import Workspace


def test_the_fit_never_sees_the_images_that_set_the_threshold(workspace: Workspace, model: Path) -> None:
    inputs = workspace.single()
    rest, held = hold_out_images(inputs, 0.4, seed=0)
    assert (len(rest.category.train), len(held)) == (3, 2)
    assert {sample.path for sample in (*rest.category.train, *held)} == {s.path for s in inputs.category.train}
    assert set(load_model(model).fitted) == {inputs.facts[sample.path].sha256 for sample in rest.category.train}
    assert hold_out_images(inputs, 0.4, seed=0)[1] == held
    assert any(hold_out_images(inputs, 0.4, seed)[1] != held for seed in range(1, 5))


def test_copies_of_an_image_stay_together(workspace: Workspace) -> None:
    inputs = workspace.single()
    copies = replace(inputs.category, train=inputs.category.train * 2)
    for seed in range(5):
        rest, held = hold_out_images(replace(inputs, category=copies), 0.5, seed)
        assert not {sample.path for sample in rest.category.train} & {sample.path for sample in held}
        assert len(held) == 2


def test_the_threshold_is_the_order_statistic_of_held_out_scores(workspace: Workspace, model: Path) -> None:
    scorer = Scorer.of(load_model(model), model, workspace)
    _, held = hold_out_images(workspace.single(), 0.4, seed=0)
    scores = list(scorer.score([sample.path for sample in held]))
    highest = max(float(batch.image.max()) for batch in scores)
    in_maps = max(float(searched(np.asarray(batch.maps), scorer.smoothing).max()) for batch in scores)
    found = load_model(model).threshold
    assert found is not None
    assert (found.image, found.pixel) == (highest, in_maps)
    assert (found.count, found.above, found.expected) == (2, 1, 1 / 3)
    assert found.typical < found.pixel
