"""Jobs of few shots: the same images for all candidates, from the features of all images; no shots change nothing."""

from pathlib import Path
from typing import Any

import pytest
from conftest import Run, one_line

from adbench.features import extraction
from adbench.sweep.results import ResultStore

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
