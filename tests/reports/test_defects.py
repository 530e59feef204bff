"""The report by kind and size of defect."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from conftest import Run

from adbench.reports.analyses import Question
from adbench.reports.analyses.defects import section
from adbench.reports.formats import Table
from adbench.reports.keys import keyed_jobs
from adbench.types import Job, Result

JOB = Job("parts", "f", "bolt", "resnet18", "random", "ab", ("layer1",), 256, 256, "knn", {}, 1, 0)


def result(layer: str, field: int, kinds: dict[str, Any], sizes: dict[str, Any], **changes: Any) -> Result:
    details = {"by_defect": kinds, "by_side": sizes, "receptive_field_px": field, "image_px": 512}
    return Result(replace(JOB, layers=(layer,), **changes), "done", details=details)


def part(value: float | None, images: int = 3, regions: int = 4) -> dict[str, Any]:
    return {"images": images, "regions": regions, "aupro": value}


def tables(*found: Result, rows: tuple[str, ...] = ("layer",), mm_per_px: float | None = None) -> list[Table]:
    question = Question(rows, ["aupro"], mm_per_px=mm_per_px)
    return list(section(keyed_jobs([(r.job, r) for r in found]), question).tables)


def texts(table: Table) -> list[list[str]]:
    return [[cell.text for cell in row] for row in table.rows]


def test_kinds_by_layer_in_the_order_of_their_fields() -> None:
    deep = result("layer1", 90, {"dent": part(0.5), "hole 10": part(0.75)}, {})
    shallow = result("layer2", 20, {"dent": part(0.8), "hole 2": part(None)}, {})
    other = result("layer2", 20, {"scar": part(1.0, images=7)}, {}, category="axle")
    (table,) = tables(deep, shallow, other)
    assert table.headers == ["category", "defect", "images", "layer2", "layer1"]
    assert texts(table) == [
        ["axle", "scar", "7", "1.000", "-"],
        ["bolt", "dent", "3", "0.800", "0.500"],
        ["bolt", "hole 2", "3", "-", "-"],
        ["bolt", "hole 10", "3", "-", "0.750"],
    ]


def test_seeds_are_averaged_and_other_keys_name_the_rows() -> None:
    found = [result("layer1", 9, {"dent": part(v)}, {}, seed=s, detector="a") for s, v in enumerate((0.2, 0.4))]
    (table,) = tables(*found, result("layer1", 9, {"dent": part(0.9)}, {}, detector="b"), rows=("detector", "layer"))
    assert table.headers == ["configuration", "category", "defect", "images", "layer1"]
    assert texts(table) == [["a", "bolt", "dent", "3", "0.300"], ["b", "bolt", "dent", "3", "0.900 (1/2 jobs)"]]


def test_sizes_are_in_pixels_and_millimeters_the_same_for_all_layers() -> None:
    small, large = {"below 1/64": part(0.4, regions=5)}, {"1/32 to 1/16": part(0.8, regions=2), "above 1/8": part(1)}
    one = [result(layer, 20, {"dent": part(0.5)}, small) for layer in ("layer1", "layer2")]
    two = result("layer2", 20, {"dent": part(0.5)}, large, category="axle")
    table = tables(*one, two)[1]
    assert table.headers == ["category", "size px", "regions", "layer1", "layer2"]
    assert texts(table) == [
        ["axle", "16 to 32", "2", "-", "0.800"],
        ["axle", "64 or more", "4", "-", "1.000"],
        ["bolt", "below 8", "5", "0.400", "0.400"],
    ]
    table = tables(*one, mm_per_px=0.25)[1]
    assert table.headers[:4] == ["category", "size px", "size mm", "regions"]
    assert texts(table)[0][:3] == ["bolt", "below 8", "below 2"]


def test_a_layer_that_lacks_a_seed_of_another_is_partial() -> None:
    found = [result("layer1", 9, {"dent": part(v)}, {}, seed=s) for s, v in enumerate((0.2, 0.4))]
    (table,) = tables(*found, result("layer2", 9, {"dent": part(0.9)}, {}))
    assert texts(table) == [["bolt", "dent", "3", "0.300", "0.900 (1/2 jobs)"]]


def test_what_is_found_at_a_threshold() -> None:
    (_, _, kinds, sizes) = tables(
        result("layer1", 9, {"dent": part(0.5) | {"found": 0.75}}, {"below 1/64": part(1) | {"found": 0.5}})
    )
    assert kinds.caption == "share of images found at a threshold for 1 % false alarms by kind of defect, and layer"
    assert texts(kinds) == [["bolt", "dent", "3", "0.750"]]
    assert sizes.headers[2:] == ["images", "layer1"] and texts(sizes)[0][2:] == ["3", "0.500"]


def test_logical_and_structural_defects_stand_apart_with_their_mean() -> None:
    kinds = {"structural_anomalies": part(0.8) | {"au_spro": 0.5}, "logical_anomalies": part(0.4) | {"au_spro": 0.1}}
    found = replace(result("layer1", 9, kinds, {}), metrics={"aupro": 0.6, "au_spro": 0.3})
    made = section(keyed_jobs([(found.job, found)]), Question(["layer"], ["aupro"]))
    assert [table.caption for table in made.tables] == [f"{name} by kind of defect, and layer" for name in ("aupro", "au_spro")]
    assert texts(made.tables[1]) == [
        ["bolt", "logical_anomalies", "3", "0.100"],
        ["bolt", "structural_anomalies", "3", "0.500"],
        ["bolt", "mean of the kinds", "6", "0.300"],
    ]
    assert "measured apart" in made.notes[-1]


def test_results_without_defects_are_told() -> None:
    plain = Result(JOB, "done", metrics={"aupro": 0.5})
    made = section(keyed_jobs([(JOB, plain)]), Question(["layer"], ["aupro"]))
    assert made.tables == [] and made.notes == [
        "1 of 1 results have no metrics by defect: no defective test image, or an earlier version's"
    ]


def test_a_sweep_is_reported_by_defect(run: Run, parts: Path, tmp_path: Path) -> None:
    grid = "backbones: [efficientnet_lite0]\nlayers: [blocks.1.1.add]\nimage_sizes: [64]\neval_size: 64\n"
    (tmp_path / "spec.yaml").write_text(grid)
    run("sweep", "--spec", "spec.yaml", "--data", parts, "--category", "beta", "--out", "out")
    record = run("report", "out", "--json").json[0]
    spot = record["details"]["by_defect"]["spot"]  # the only kind: the same numbers as the whole
    assert {name: spot[name] for name in record["metrics"]} == {n: v and round(v, 6) for n, v in record["metrics"].items()}
    lines = run("report", "out", "--show", "defects", "--metric", "aupro").out.splitlines()
    rows = [line.split() for line in lines if line.startswith("beta")]
    assert rows[0] == ["beta", "spot", "3", f"{spot['aupro']:.3f}"]
    side = record["details"]["by_side"]["above 1/8"]  # 14 of 64 pixels
    assert rows[1] == ["beta", "8", "or", "more", "3", f"{side['aupro']:.3f}"]
    assert record["details"]["image_px"] == 64
