"""Images to report: the same numbers cached or not, alone or in a sweep, with one worker or two."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Run, loaded_by, make_category
from PIL import Image

from adbench.metrics import ON_REQUEST
from adbench.sweep.results import ResultStore
from adbench.types import JOB_FIELDS

LAYERS = ["blocks.1.1.add", "blocks.2.1.add+blocks.4.2.add"]
SPEC = f"backbones: [efficientnet_lite0]\nlayers: {LAYERS}\nimage_sizes: [64]\neval_size: 64\n"
RECORD_KEYS = {
    "dataset", "category", "backbone", "weights", "layer", "image_size", "eval_size", "detector", "params", "seed", "status",
    "reason", "metrics", "cost", "environment",
}  # fmt: skip
METRICS = ["image_auroc", "image_ap", "image_f1max", "pixel_auroc", "pixel_ap", "pixel_f1max", "aupro", *ON_REQUEST]
COSTS = {
    "extract_s", "fit_s", "score_s", "images_per_second", "peak_memory_mb", "state_mb", "accelerator_memory_mb", "forward_ms",
    "forward_p95_ms", "score_ms", "score_p95_ms", "latency_ms", "latency_p95_ms", "batch_size", "batch_images_per_second",
}  # fmt: skip


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    (tmp_path / "spec.yaml").write_text(SPEC)
    return tmp_path / "spec.yaml"


def measured(run: Run, out: Path | str) -> dict[tuple[str, str], Any]:
    records = run("report", out, "--format", "json").json
    return {(r["category"], r["layer"]): r["metrics"] for r in records}


@pytest.fixture
def reference(run: Run, parts: Path, spec: Path) -> dict[tuple[str, str], Any]:
    done = run("sweep", "--spec", spec, "--data", parts, "--out", "reference", "--json")
    assert done.json == {"planned": 4, "done": 4, "cached": 0, "skipped": 0, "failed": 0, "out": "reference"}
    return measured(run, "reference")


def test_records_have_the_documented_keys(run: Run, reference: dict[Any, Any]) -> None:
    for record in run("report", "reference", "--json").json:
        assert set(record) >= RECORD_KEYS
        assert set(record["metrics"]) == set(METRICS)
        assert set(record["cost"]) == COSTS
        assert all(0 <= value <= 1 for value in record["metrics"].values() if value is not None)
    assert len(reference) == 4


def test_fields_are_estimated_and_the_analytic_ones_beside_them(run: Run, parts: Path, tmp_path: Path) -> None:
    spec = tmp_path / "vit.yaml"
    spec.write_text(
        "backbones: [{name: test_vit, image_sizes: [80]}, {name: resnet18, layers: [layer1]}]\nweights: [random]\n"
        "layers: [blocks.0]\nimage_sizes: [64]\neval_size: 64\ndetectors: [mahalanobis]\n"
    )
    assert run("sweep", "--spec", spec, "--data", parts, "--out", "one", "--json").json["done"] == 4
    found = run("report", "one", "--json").json
    kinds = {(r["backbone"], r["details"]["receptive_field_kind"], r["details"]["receptive_field_px"]) for r in found}
    estimated = next(px for backbone, _, px in kinds if backbone == "test_vit")
    assert kinds == {("test_vit", "estimated", estimated), ("resnet18", "estimated", 43)} and 16 <= estimated <= 80
    exact = {(r["backbone"], r["details"].get("analytic_field_px")) for r in found}
    assert exact == {("test_vit", None), ("resnet18", 43)}
    assert all("by_side" in r["details"] for r in found)
    table = run("report", "one", "--format", "markdown").out
    assert f"{estimated / 80:.2f}" in table and "0.67" in table and "~" not in table


def test_reports_order_layers_by_receptive_field(run: Run, reference: dict[Any, Any]) -> None:
    records = run("report", "reference", "--json").json
    assert {(r["layer"], r["details"]["receptive_field_px"]) for r in records} == {(LAYERS[0], 19), (LAYERS[1], 227)}
    table = run("report", "reference", "--format", "markdown").out.partition("\n## ")[0].rstrip()
    head, _, *rows = [[cell.strip() for cell in line.split("|")] for line in table.splitlines() if line.startswith("|")]
    assert [row[1] for row in rows] == LAYERS
    assert [row[head.index("RRF")] for row in rows] == ["0.30", "3.55"]  # 19 / 64 and 227 / 64, estimated


def test_a_second_run_computes_nothing(run: Run, reference: dict[Any, Any], parts: Path, spec: Path) -> None:
    again = run("sweep", "--spec", spec, "--data", parts, "--out", "reference", "--json")
    assert (again.code, again.json["cached"], again.json["done"]) == (0, 4, 0)


def test_an_empty_cache_changes_no_bit(run: Run, reference: dict[Any, Any], parts: Path, spec: Path) -> None:
    run("sweep", "--spec", spec, "--data", parts, "--out", "fresh", "--cache", "other")
    assert measured(run, "fresh") == reference


def test_a_cache_limit_deletes_what_is_finished_and_changes_no_bit(
    run: Run, reference: dict[Any, Any], parts: Path, spec: Path
) -> None:
    run("sweep", "--spec", spec, "--data", parts, "--out", "tight", "--cache", "tight-cache", "--cache-limit", "1kB")
    assert not list(Path("tight-cache/features").glob("*.npy"))
    assert measured(run, "tight") == reference


def test_two_workers_change_no_bit_and_who_needs_no_torch_does_not_load_it(
    run: Run, reference: dict[Any, Any], parts: Path, spec: Path
) -> None:
    place = ["--out", "two"]
    sweep = ["sweep", "--spec", str(spec), "--data", str(parts), "--cache", "cold", *place]
    watching = loaded_by([*sweep, "--jobs", "2"])
    assert "numpy" in watching and "torch" not in watching
    listing = loaded_by(["list", "detectors", "--cache", "cold"])  # a cache of other tests may know the answer
    assert "torch" in listing and "numba" not in listing
    assert measured(run, "two") == reference
    for done in (sweep, ["sweep", "--status", *place], ["report", "two"]):
        assert "torch" not in loaded_by(done), done[0]


def test_train_and_eval_give_the_bits_of_a_sweep(run: Run, reference: dict[Any, Any], parts: Path) -> None:
    place = ["--data", parts, "--category", "beta"]
    sizes = ["--image-size", 64, "--eval-size", 64]
    trained = run("train", "patchcore", "efficientnet_lite0", LAYERS[1], *place, *sizes, "--model", "m.safetensors", "--json")
    assert trained.json["details"]["bank_patches"] == 32
    result = run("eval", "m.safetensors", *place, "--heatmaps", "maps", "--json").json
    assert result["metrics"] == reference["beta", LAYERS[1]]
    picture = np.asarray(Image.open("maps/spot/000.png"))
    assert picture.shape[0] > picture.shape[1] == 2 * 320 + 3 * 10  # four panels, the title and the color bar
    assert len(list(Path("maps").rglob("*.png"))) == 6


def test_joined_layers_may_be_named_in_any_order(run: Run, reference: dict[Any, Any], parts: Path, spec: Path) -> None:
    first, second = LAYERS[1].split("+")
    swapped = f"layers=['{second}+{first}']"
    run("sweep", "--spec", spec, "--set", swapped, "--data", parts, "--out", "swapped")
    assert measured(run, "swapped") == {cell: value for cell, value in reference.items() if cell[1] == LAYERS[1]}


def test_limit_stops_and_the_next_run_goes_on(run: Run, reference: dict[Any, Any], parts: Path, spec: Path) -> None:
    command = ("sweep", "--spec", spec, "--data", parts, "--out", "limited", "--json")
    assert run(*command, "--limit", 1).json["done"] == 1
    table = run("report", "limited", "--format", "markdown").out
    assert "(1/2)" in table
    assert run(*command).json == {"planned": 4, "done": 3, "cached": 1, "skipped": 0, "failed": 0, "out": "limited"}
    assert measured(run, "limited") == reference


def test_a_dry_run_forecasts_and_does_nothing(run: Run, parts: Path, spec: Path) -> None:
    command = ("sweep", "--spec", spec, "--data", parts, "--out", "dry", "--cache", "none", "--dry-run")
    forecast = run(*command, "--json").json
    bytes_of_layers = (24 * 16**2 + 40 * 8**2 + 112 * 4**2) * 2
    expected = {"planned": 4, "cached": 0, "skipped": 0, "jobs": 4, "groups": 2, "forward_passes": 22}
    counted = expected | {"cache_bytes": 22 * bytes_of_layers}
    assert forecast.items() >= counted.items()
    assert forecast["obstacles"] == []
    assert forecast["workers"] == 1
    assert len(forecast["per_group"]) == 2
    for name, total in (("jobs", 4), ("forward_passes", 22), ("cache_bytes", counted["cache_bytes"])):
        assert sum(group[name] for group in forecast["per_group"]) == total
    assert forecast["seconds"] == pytest.approx(sum(group["seconds"] for group in forecast["per_group"]))
    assert forecast["memory_bytes"] == max(group["memory_bytes"] for group in forecast["per_group"])
    assert "4 jobs planned" in run(*command).out
    assert not Path("dry").exists()


def test_device_and_versions_are_in_the_record_and_the_sidecar(run: Run, reference: dict[Any, Any], cache: Path) -> None:
    environment = run("report", "reference", "--json").json[0]["environment"]
    sidecar = json.loads(next((cache / "features").glob("*.json")).read_text())
    assert environment["device"] == sidecar["device"] == "cpu"
    assert sidecar["versions"].items() <= environment.items()
    assert not {"device", "versions", *sidecar["versions"]} & (sidecar["key"].keys() | set(JOB_FIELDS))


def test_results_of_another_extraction_are_left_out_of_reports(run: Run, reference: dict[Any, Any]) -> None:
    store = ResultStore(Path("reference"))
    [plan] = Path("reference/plans").iterdir()
    store.write_plan(plan.stem, [replace(job, extraction=4) for job in store.planned()])
    assert "4 results of older data, weights or methods left out" in run("report", "reference").out


def test_new_test_images_do_not_extract_the_training_images_again(run: Run, tmp_path: Path) -> None:
    make_category(tmp_path / "grown" / "part", 5)
    command = ("extract", "efficientnet_lite0", LAYERS[0], "--data", tmp_path / "grown", "--image-size", 64, "--json")
    assert [entry["cached"] for entry in run(*command).json["entries"]] == [False, False]
    make_category(tmp_path / "grown" / "part", 5, good=4)
    assert [entry["cached"] for entry in run(*command).json["entries"]] == [True, False]


def test_good_images_alone_give_null_metrics_with_a_reason(run: Run, tmp_path: Path, spec: Path) -> None:
    make_category(tmp_path / "good" / "part", 3, good=0, bad=0)
    done = run("sweep", "--spec", spec, "--data", tmp_path / "good", "--out", "good-only", "--json")
    assert (done.code, done.json["done"]) == (0, 2)
    assert "no labeled test images in part: nothing is measured there; 'adbench select' ranks on good images\n" in done.err
    record = run("report", "good-only", "--json").json[0]
    assert record["metrics"] == dict.fromkeys(METRICS)
    assert record["reason"] == "no labeled test images: nothing to measure"


def test_native_evaluation(run: Run, parts: Path, spec: Path, reference: dict[Any, Any]) -> None:
    run("sweep", "--spec", spec, "--set", "eval_size=native", "--data", parts, "--out", "native")
    for cell, metrics in measured(run, "native").items():  # the images are of the evaluation grid's size already
        expected = reference[cell]
        unmeasured = {name for name, value in expected.items() if value is None}
        assert {name for name, value in metrics.items() if value is None} == unmeasured
        assert not unmeasured & {"image_auroc", "pixel_auroc", "pixel_ap", "aupro", "aupro_05"}
        for name in expected.keys() - unmeasured:
            assert metrics[name] == pytest.approx(expected[name], abs=1e-6), name
