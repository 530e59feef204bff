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
    details = {"by_defect": kinds, "by_size": sizes, "receptive_field_px": field}
    return Result(replace(JOB, layers=(layer,), **changes), "done", details=details)


def part(value: float | None, images: int = 3, regions: int = 4) -> dict[str, Any]:
    return {"images": images, "regions": regions, "aupro": value}


def tables(*found: Result, rows: tuple[str, ...] = ("layer",)) -> list[Table]:
    return list(section(keyed_jobs([(r.job, r) for r in found]), Question(rows, ["aupro"])).tables)


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
    assert texts(table) == [["a", "bolt", "dent", "3", "0.300"], ["b", "bolt", "dent", "3", "0.900"]]


def test_sizes_are_means_over_the_categories_that_have_them() -> None:
    one = result("layer1", 20, {"dent": part(0.5)}, {"small": part(0.4, regions=5)})
    two = result("layer1", 20, {"dent": part(0.5)}, {"small": part(0.8, regions=2), "large": part(1)}, category="axle")
    table = tables(one, two)[1]
    assert table.headers == ["configuration", "RF px", "small", "regions", "medium", "regions", "large", "regions"]
    assert texts(table) == [["layer1", "20", "0.600", "7", "-", "0", "1.000", "4"]]


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
    assert {name: spot[name] for name in record["metrics"]} == {n: round(v, 6) for n, v in record["metrics"].items()}
    lines = run("report", "out", "--show", "defects", "--metric", "aupro").out.splitlines()
    assert [line.split() for line in lines if line.startswith("beta")] == [["beta", "spot", "3", f"{spot['aupro']:.3f}"]]
