"""The answer of a report: the best row, how far it is ahead, whether that can be chance, and the command that trains it."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import Run
from report_examples import JOB, done

from adbench.core.environment import cache_folder
from adbench.models.command import train_command
from adbench.reports.analyses import Question
from adbench.reports.best_row import data_option, section
from adbench.reports.keys import choose_rows, keyed_jobs
from adbench.sweep.plan import default_params
from adbench.sweep.results import ResultStore
from adbench.types import Job, Result

KNN = {"k": 5, "p": 0.1}


def result(layer: str, auroc: float, aupro: float | None = None, category: str = "bolt", **changes: object) -> Result:
    job = replace(JOB, layers=(layer,), category=category, fingerprint=category, **changes)  # type: ignore[arg-type]
    metrics = {"image_auroc": auroc, "aupro": auroc if aupro is None else aupro}
    return replace(done(job), metrics=metrics, details={"resamples": category})


def noisy(spread: float) -> Callable[[Result], np.ndarray]:
    """Replicates of image AUROC and AU-PRO, (7, R), that scatter by `spread`, each result's on its own."""

    def drawn(found: Result) -> np.ndarray:
        noise = np.random.default_rng(int(found.job.key, 16)).normal(0, spread, 400)
        rows = np.zeros((7, 400))
        rows[0], rows[6] = found.metrics["image_auroc"] + noise, found.metrics["aupro"] + noise  # type: ignore[operator]
        return rows.astype(np.float32)

    return drawn


def told(found: Sequence[Result], spread: float | None = None, metrics: Sequence[str] = ("image_auroc", "aupro")) -> list[str]:
    jobs = keyed_jobs([(r.job, r) for r in found])
    replicates = noisy(spread) if spread is not None else lambda result: None
    question = Question(choose_rows(jobs), metrics, replicates)
    return [note for made in section(jobs, question, metrics, [], lambda name: KNN) for note in made.notes]


THREE = [result("layer1", 0.9, 0.8), result("layer2", 0.8, 0.86), result("layer3", 0.5)]
TRAIN = (
    "train it: adbench train knn resnet18 layer1 --data demo --category bolt --weights random --fpr 0.01 --model bolt.safetensors"
)
PAIRS = "sign flips over test images, all pairs of rows)"


def test_a_difference_beyond_chance() -> None:
    best, train = told(THREE, 0.001)
    assert best == (
        "layer1: mean of image AUROC and AU-PRO 0.850 over 1 category, 0.020 above the next, layer2; that is more than chance "
        f"explains (p = 0.001, {PAIRS}"
    )
    assert train == TRAIN


def test_the_threshold_is_one_that_the_good_images_can_give() -> None:
    few = [replace(r, details=r.details | {"good_images": 32}) for r in THREE]
    assert told(few, 0.001)[1] == TRAIN.replace("--fpr 0.01", "--fpr 0.05 --cross-fit 5")


def test_a_difference_that_can_be_chance_and_others_that_can() -> None:
    best, _ = told(THREE, 0.05)
    assert "that can be chance (p = 0." in best and best.endswith(PAIRS)
    assert told(THREE, 0.5)[0].endswith(f"{PAIRS}; so can its distance to layer3")


def test_without_replicates_chance_is_unknown() -> None:
    assert told(THREE)[0].endswith(
        "; whether that can be chance is unknown: not every result has influence values of the same test images"
    )


def test_equal_rows_and_a_row_alone() -> None:
    twins = [result("layer1", 0.9), result("layer2", 0.9)]
    assert told(twins, 0.1)[0] == "layer1: mean of image AUROC and AU-PRO 0.900 over 1 category, the same as layer2"
    assert told(twins[:1]) == []


def test_without_a_value_nothing_is_best() -> None:
    unlabeled = [replace(r, metrics={"image_auroc": None, "aupro": None}) for r in THREE]
    assert told(unlabeled) == told(unlabeled, metrics=["aupro"]) == []
    assert told([replace(r, metrics=r.metrics | {"aupro": None}) for r in THREE])[0].startswith("layer1: image AUROC 0.900 over")


def test_one_metric_and_several_categories() -> None:
    found = [result(layer, value, category=name) for layer, value in (("layer1", 0.9), ("layer2", 0.8999)) for name in ("a", "b")]
    best, train = told(found, 0.1, ["aupro"])
    assert best.startswith("layer1: AU-PRO 0.900 over 2 categories, less than 0.001 above the next, layer2; that can be chance")
    assert train.startswith("train it (one model per category, here a): adbench train knn ")


def test_incomplete_rows_never_win_and_are_counted() -> None:
    found = [result(layer, value, category=name) for layer, value in (("layer1", 0.9), ("layer2", 0.8)) for name in ("a", "b")]
    lucky = result("layer3", 1.0, category="a")
    assert told([*found, lucky], 0.001)[0].startswith(
        "layer1: mean of image AUROC and AU-PRO 0.900 over 2 categories, 0.100 above the next, layer2 "
        "(1 incomplete row not compared); "
    )
    assert told([*found[:3], lucky], 0.001)[0].startswith(
        "layer3: mean of image AUROC and AU-PRO 1.000 over the 1 of 2 categories"
    )


def test_each_evaluation_grid_has_its_best_row_and_a_mean_over_sizes_no_command() -> None:
    grids = [replace(r, job=replace(r.job, eval_size=size)) for r in THREE for size in (256, "native")]
    best, _, other, train = told(grids)
    assert "AU-PRO, eval_size 256 0.850" in best and "eval_size native" in other and "--eval-size native" in train
    sizes = [replace(r, job=replace(r.job, image_size=size)) for r in THREE for size in (128, 256)]
    jobs = keyed_jobs([(r.job, r) for r in sizes])
    (made,) = section(jobs, Question(["layer"], ["aupro"]), ["aupro"], [], lambda name: {})
    assert len(made.notes) == 1


@pytest.mark.parametrize(
    ("commands", "dataset", "expected"),
    [
        (["adbench sweep --preset quickstart"], "demo", "demo"),
        (["adbench sweep --preset quickstart --data '/x/my parts'"], "my parts", "/x/my parts"),
        (["adbench sweep --data=/x/a", "adbench sweep --set data=/y/b"], "b", "/y/b"),
        (["adbench sweep --preset quickstart --data demo", "adbench sweep --data try/parts"], "mvtec", "try/parts"),
        (["adbench sweep --data /x/a", "adbench sweep --data /x/b"], "mvtec", "DIR"),
        (["adbench sweep --data /x/a"], "demo", "demo"),
        ([], "parts", "DIR"),
        ([], "here", None),
    ],
)
def test_the_data_are_those_of_the_sweep(
    commands: list[str], dataset: str, expected: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.setenv("ADBENCH_DATA", str(tmp_path / "here"))
    assert data_option(replace(JOB, dataset=dataset), commands) == expected


def test_a_command_names_what_is_off_its_default() -> None:
    job = Job("demo", "f", "nut", "lite0", "imagenet", "ab", ("a", "b"), 256, 256, "patchcore", {"k": 1, "x": 2}, 1, 0)
    start = "adbench train patchcore lite0 a+b"
    assert (
        train_command(job, "demo", "nut", {"k": 1, "x": 2}, None) == f"{start} --data demo --category nut --model nut.safetensors"
    )
    changed = replace(job, weights="random", image_size=320, seed=2, dtype="float32", params={"k": 1, "x": 3})
    command = (
        f"{start} --category 'big nut' --weights random --image-size 320 --seed 2 --dtype float32 --param x=3 --fpr 0.01 "
        "--model 'big nut.safetensors'"
    )
    assert train_command(replace(changed, smoothing=4.0), None, "big nut", {"k": 1, "x": 2}) == command
    of_an_old_result = train_command(changed, None, "big nut", {"k": 1, "x": 2})  # 4 px of a 256 grid
    assert of_an_old_result == command.replace("--param", "--smoothing 5 --param")
    assert "--smoothing" not in train_command(replace(changed, detector="knn"), None, "nut")


def test_the_report_ends_in_the_command_without_parameters_at_their_default(run: Run, parts: Path) -> None:
    params = default_params("patchcore", cache_folder() / "backbones") | {"coreset_fraction": 0.5}
    assert len(params) > 5 and default_params("knn", cache_folder() / "backbones") == {}
    store, jobs = ResultStore(Path("results")), [replace(JOB, detector="patchcore", params=params, layers=(y,)) for y in "ab"]
    store.write_plan("plan", jobs, f"adbench sweep --preset layers --data {parts.parent / 'demo'}")
    for job in jobs:
        store.write(done(job, 0.75))
    answer = run("report", "--study", "none").out
    assert " ".join(answer[answer.rindex("adbench train") :].replace("\\\n", " ").split()) == (
        f"adbench train patchcore resnet18 a --data {parts.parent / 'demo'} --category bolt --weights random "
        "--param coreset_fraction=0.5 --fpr 0.01 --model bolt.safetensors"
    )
