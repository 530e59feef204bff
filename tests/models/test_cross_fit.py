"""Cross-fitting: which images each fit sees, the rate on new images, and what the model file says."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Run
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from adbench.core.errors import UsageError
from adbench.detectors.patchcore import PatchCore
from adbench.features.feature_maps import FeatureMaps
from adbench.models.calibration import CrossFit, assign_folds, cross_calibrate
from adbench.models.files import load_model
from adbench.models.thresholds import Threshold, set_threshold
from adbench.types import OnStep, Scores

Points = NDArray[np.float64]
CPU = torch.device("cpu")


def nearest(bank: Points, points: Points) -> Points:
    """The score of a point: the distance to the nearest of the bank, which falls as the bank grows."""
    return np.asarray(cdist(points, bank).min(axis=1))


def as_maps(points: Points) -> FeatureMaps:
    return FeatureMaps((points.astype(np.float32)[:, :, None, None],))


def scored(rest: FeatureMaps, own: FeatureMaps, on_step: OnStep) -> Scores:
    bank, points = (maps.layers[0][:, :, 0, 0].astype(float) for maps in (rest, own))
    found = nearest(bank, points).astype(np.float32)
    return Scores(found, found[:, None, None])


def names(count: int) -> list[str]:
    return [f"{k:03}" for k in range(count)]


@pytest.mark.parametrize(("count", "folds"), [(30, 5), (33, 4), (20, 20)])
def test_the_rate_on_new_images_keeps_its_bound(count: int, folds: int) -> None:
    rng, wish = np.random.default_rng(5), CrossFit(0.2, folds)
    saved, votes = [], []
    for trial in range(40):
        points, new = rng.normal(size=(count, 2)), rng.normal(size=(300, 2))
        found = cross_calibrate(as_maps(points), names(count), scored, 0.0, wish, trial)
        saved.append(np.mean(nearest(points, new) > found.image))
        fold = assign_folds(names(count), folds, trial)
        own = [nearest(points[fold != fold[i]], points[[i]])[0] for i in range(count)]
        beaten = sum((nearest(points[fold != k], new)[:, None] > np.take(own, np.flatnonzero(fold == k))).sum(axis=1)
                     for k in range(folds))  # fmt: skip
        votes.append(np.mean(beaten >= count + 1 - found.above))
    assert found.expected == pytest.approx(0.2, abs=0.03)
    assert np.mean(saved) <= np.mean(votes) <= found.bound  # the first: more images lower this detector's scores
    assert found.expected / 2 < np.mean(saved) < 1.1 * found.expected


def test_the_bound_by_hand() -> None:
    def bound(count: int, above: int, folds: int) -> float:
        return Threshold(1.0, 1.0, 0.0, 0.1, count, above, folds).bound

    assert bound(99, 10, 0) == 0.1
    assert bound(99, 10, 99) == pytest.approx(0.2)  # the jackknife+: twice
    assert bound(100, 10, 5) == pytest.approx(2 * 14 / 105)
    assert bound(100, 10, 50) == pytest.approx(20 / 101 + 0.5 / 51)
    assert bound(101, 10, 50) == pytest.approx(2 * 59 / 151)
    assert bound(3, 3, 2) == 1


def test_no_image_is_scored_by_a_fit_that_has_seen_it() -> None:
    points, seen = np.arange(22, dtype=float).reshape(11, 2), []

    def watch(rest: FeatureMaps, own: FeatureMaps, on_step: OnStep) -> Scores:
        on_step(1, 2, "coreset")
        seen.append([{int(value) // 2 for value in maps.layers[0][:, 0, 0, 0]} for maps in (rest, own)])
        return scored(rest, own, on_step)

    copies = [*names(10), "003"]
    notes: list[str] = []
    found = cross_calibrate(as_maps(points), copies, watch, 0.0, CrossFit(0.2, 3), 1, lambda *step: notes.append(step[2]))
    assert found.count == 10
    assert sorted(k for _, own in seen for k in own) == list(range(10))  # the copy of image 3 is not scored
    assert all(not rest & own for rest, own in seen)
    assert all((10 in rest) == (3 in rest) for rest, _ in seen)
    assert notes == [f"fit {k} of 4: coreset" for k in (1, 2, 3)]


def test_folds_depend_on_the_seed_alone_and_are_even() -> None:
    folds = [assign_folds(names(11), 3, seed) for seed in (0, 0, 1)]
    assert (folds[0] == folds[1]).all()
    assert (folds[0] != folds[2]).any()
    assert sorted(np.bincount(folds[0])) == [3, 4, 4]
    with pytest.raises(UsageError, match=r"^--cross-fit 12: there are 11 different good images; give at most as many folds$"):
        assign_folds(names(11), 12, 0)


def test_more_images_never_raise_a_score_of_the_whole_bank() -> None:
    """The condition under which the bound carries over to the fit to all images."""
    maps = FeatureMaps((np.random.default_rng(0).normal(size=(12, 4, 6, 6)).astype(np.float32),))
    make = partial(PatchCore, coreset_fraction=1.0)
    new = maps.part(slice(8, 12))
    whole = make().fit(maps.part(slice(0, 8)), device=CPU).score(new, device=CPU)
    part = make().fit(maps.part(slice(0, 6)), device=CPU).score(new, device=CPU)
    assert (whole.image <= part.image).all()
    assert (np.asarray(whole.maps) <= np.asarray(part.maps)).all()


def test_a_model_is_fitted_to_all_images_and_records_the_folds(run: Run, parts: Path) -> None:
    command = ("train", "mahalanobis", "efficientnet_lite0", "blocks.1.1.add", "--data", parts, "--category", "alpha",
               "--image-size", 64, "--fpr", 0.2)  # fmt: skip
    first, again = (run(*command, "--cross-fit", 2, "--model", f"{name}.safetensors", "--json").json for name in "ab")
    assert first["threshold"] == again["threshold"]
    assert (first["threshold"]["folds"], first["threshold"]["count"], first["threshold"]["interval"]) == (2, 5, None)
    model = load_model(Path("a.safetensors"))
    assert len(model.fitted) == first["fitted_images"] == 5
    assert model.threshold is not None
    assert model.threshold.record() == first["threshold"]
    said = run(*command, "--cross-fit", 2, "--model", "a.safetensors")
    assert "at most 0.57 for the vote of the 2 fits (CV+), without a guarantee for the saved one" in said.out
    assert said.err == "a.safetensors: the detector is fitted to all 5 good images; its threshold took 2 more fits\n"
    held = run(*command, "--holdout", 0.4, "--model", "b.safetensors")
    assert "holding out costs the fit 2 of 5 good images; with --cross-fit 5 it would have all of them\n" in held.err


def test_a_threshold_of_held_out_images_is_stored_as_before() -> None:
    found = set_threshold([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], 0.0, 0.5)
    assert "folds" not in found.stored()
    assert Threshold(**found.stored()) == found


MISTAKES = {
    "no rate": (("--cross-fit", 3), "--cross-fit needs a false-positive rate; add e.g. --fpr 0.01"),
    "both": (("--cross-fit", 3, "--fpr", 0.1, "--holdout", 0.5), "--holdout and --cross-fit exclude each other; leave one out"),
    "too many": (("--cross-fit", 6, "--fpr", 0.1),
                 "--cross-fit 6: there are 5 different good images; give at most as many folds"),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_one_line(run: Run, parts: Path, arguments: tuple[object, ...], message: str) -> None:
    answer = run("train", "mahalanobis", "efficientnet_lite0", "blocks.1.1.add", "--data", parts, "--category", "alpha",
                 "--image-size", 64, "--model", "m.safetensors", *arguments)  # fmt: skip
    assert (answer.code, answer.out, answer.err) == (2, "", f"adbench: error: {message}\n")
