"""Jobs of few shots: the same images for all candidates, from the features of all images; no shots change nothing."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Run, one_line

from adbench.data.pixels import read_pixels
from adbench.features import extraction
from adbench.features.extraction import extract
from adbench.features.tiling import Tiling
from adbench.features.view import View
from adbench.sweep.job_features import features
from adbench.sweep.results import ResultStore
from adbench.sweep.workspace import Workspace

SPEC = (
    "backbones: [efficientnet_lite0]\nlayers: [blocks.1.1.add, blocks.2.1.add]\nimage_sizes: [64]\neval_size: 64\n"
    "detectors: [mahalanobis, patchcore]\ncategories: [alpha]\n"
)
TRAIN = ("efficientnet_lite0", "blocks.2.1.add", "--image-size", 64, "--eval-size", 64)


@pytest.fixture
def sweep(run: Run, parts: Path) -> Any:
    """Run a sweep with some more keys into a folder; return its counts and its records."""

    def call(more: str, out: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        Path("spec.yaml").write_text(SPEC + more)
        done = run("sweep", "--spec", "spec.yaml", "--data", parts, "--out", out, "--json").json
        return done, run("report", out, "--json").json

    return call


def measured(records: list[dict[str, Any]], **cell: Any) -> list[Any]:
    return [r["metrics"] for r in records if all(r.get(name) == value for name, value in cell.items())]


def test_all_images_draw_alike_for_every_candidate_and_all_is_as_without_shots(sweep: Any) -> None:
    _, usual = sweep("", "out")
    done, records = sweep("shots: [2, 5, all, 9]\n", "out")
    assert done == {"planned": 16, "done": 8, "cached": 4, "skipped": 4, "failed": 0, "out": "out"}
    assert measured(records, shots=None) == measured(usual)
    assert measured(records, shots=5) == measured(records, shots=None)  # all five images of alpha
    reasons = {r["reason"] for r in records if r["status"] == "skipped"}
    assert reasons == {"shots 9: category 'alpha' has 5 training images; take at most 5, or add good images"}
    drawn = {shots: {tuple(r["details"]["drawn_images"]) for r in records if r.get("shots") == shots} for shots in (2, 5)}
    (two,), (five,) = drawn.values()
    assert set(two) < set(five) and (len(two), len(five)) == (2, 5)


def test_a_lost_result_comes_back_from_the_cache_alone(sweep: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _, records = sweep("shots: 2\nseeds: 3\n", "out")
    store = ResultStore(Path("out"))
    for key in store.done():
        (store.folder / f"{key}.json").unlink()
    monkeypatch.setattr(extraction, "extract_for", None)
    done, again = sweep("shots: 2\nseeds: 3\n", "out")
    assert (done["done"], measured(again)) == (4, measured(records))
    assert [r["details"]["drawn_images"] for r in again] == [r["details"]["drawn_images"] for r in records]


def test_train_and_eval_give_the_numbers_of_the_sweep(sweep: Any, run: Run, parts: Path) -> None:
    _, records = sweep("shots: 2\nseeds: 1\n", "out")
    own = ("--data", parts, "--category", "alpha", "--seed", 1, "--shots", 2, "--model", "m.safetensors", "--json")
    trained = run("train", "patchcore", *TRAIN, *own).json
    (record,) = (r for r in records if (r["layer"], r["detector"]) == ("blocks.2.1.add", "patchcore"))
    assert trained["details"]["drawn_images"] == record["details"]["drawn_images"]
    assert run("eval", "m.safetensors", "--data", parts, "--json").json["metrics"] == record["metrics"]
    with_threshold = run("train", "patchcore", *TRAIN, *own, "--fpr", 0.4, "--cross-fit", 2).json
    assert with_threshold["threshold"]["count"] == 2
    many = run("train", "patchcore", *TRAIN, *own[:-5], "--shots", 6, *own[-3:])
    assert one_line(many, 2) == "shots 6: category 'alpha' has 5 training images; take at most 5, or add good images"


def test_rotations_add_turned_copies_of_training_images_alone(run: Run, parts: Path, tmp_path: Path) -> None:
    where = ("--cache", tmp_path / "cache")
    Path("spec.yaml").write_text(SPEC + "rotations: [0, 4]\nshots: [2, all]\n")
    one = ("--set", "layers=blocks.2.1.add", "--set", "detectors=patchcore")
    command = ("sweep", "--spec", "spec.yaml", *one, "--data", parts, *where, "--out", "out", "--json")
    forecast = run(*command, "--dry-run").json
    assert forecast["forward_passes"] == (5 + 6) + (4 * 5 + 6)  # the test images' features are shared once they are there
    assert run(*command).json["done"] == 4
    sides = [json.loads(file.read_text()) for file in (tmp_path / "cache" / "features").glob("*.json")]
    layers = {(side["key"].get("rotations", 0), side["split"]): side for side in sides}
    assert {key: side["shape"][0] for key, side in layers.items()} == {(0, "train"): 5, (0, "test"): 6, (4, "train"): 20}
    records = run("report", "out", "--json").json
    banks = {(r.get("rotations"), r.get("shots")): r["details"]["bank_patches"] for r in records}
    assert banks == {(None, None): 32, (None, 2): 12, (4, None): 128, (4, 2): 51}
    trained = run("train", "patchcore", *TRAIN, "--data", parts, "--category", "alpha", *where, "--rotations", 4, "--shots", 2,
                  "--fpr", 0.4, "--cross-fit", 2, "--model", "m.safetensors", "--json").json  # fmt: skip
    assert (trained["fitted_images"], trained["threshold"]["count"], trained["job"]["rotations"]) == (2, 2, 4)
    again = run("eval", "m.safetensors", "--data", parts, *where, "--json").json
    (swept,) = measured(records, rotations=4, shots=2)
    assert {name: again["metrics"][name] for name in swept} == swept  # and the four at the threshold


def test_the_first_copy_is_the_image_and_the_others_are_turned(workspace: Workspace) -> None:
    inputs, network = workspace.single(), workspace.network("efficientnet_lite0", "imagenet")
    arrays = []
    for rotations in (0, 2):
        found = features(
            workspace.runtime(), network, inputs, "train", ["blocks.1.1.add"], View(64, rotations=rotations), "float32"
        )
        arrays.append(found["blocks.1.1.add"][0].array)
    images, turned = arrays
    assert (len(images), len(turned)) == (5, 10)
    np.testing.assert_array_equal(turned[:5], images)
    pixels = [np.rot90(read_pixels(sample.path, (64, 64)), 2) for sample in inputs.category.train]
    batches = extract(network, [Path(str(i)) for i in range(5)], ["blocks.1.1.add"], Tiling.whole(View(64)), torch.device("cpu"),
                      read=lambda path, size, crop, white: pixels[int(path.name)])  # fmt: skip
    maps = np.concatenate([batch["blocks.1.1.add"] for batch in batches])
    np.testing.assert_allclose(turned[5:], maps, atol=1e-4)
