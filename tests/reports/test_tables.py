"""The main table: what a cell may say, what the rows and columns are, and the notes under it."""

from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_examples import CATEGORIES, JOB, OTHER, auroc, build, done, jobs, over_categories, texts

from adbench.core.errors import DataError, UsageError
from adbench.metrics import ORDER
from adbench.types import Result


def test_the_mean_is_over_categories_and_the_best_complete_one_is_marked() -> None:
    report = build([*over_categories(JOB, 0.9, 0.8, 0.7), *over_categories(OTHER, 0.6, 0.6, 0.6)])
    assert report.table.headers == ["layer", "image_auroc", "aupro"]
    assert texts(report) == [["layer2", "0.800!", "0.250!"], ["layer10", "0.600", "0.250!"]]
    assert report.notes == []
    shared = "dataset demo, backbone resnet18, weights random, image_size 256, eval_size 256, detector knn"
    assert report.table.caption == f"Mean over 3 categories; all rows: {shared}"


def test_a_partial_mean_is_never_bare_nor_best() -> None:
    report = build([*over_categories(JOB, 0.9, 0.8), *over_categories(OTHER, 0.1, 0.1, 0.1)], jobs(JOB, OTHER))
    assert texts(report)[0] == ["layer2", "2/3", "0.850 (2/3)", "0.250 (2/3)"]
    assert auroc(report)[1] == "0.100"  # nothing to compare it with
    assert report.notes == [
        "a number with (n/N) covers n of the N categories (or jobs) that others cover: it is not compared and never the best",
        "1 of 6 planned jobs not run yet",
    ]


def test_seeds_are_averaged_within_a_category_first() -> None:
    seeds = [done(replace(JOB, seed=s), v) for s, v in enumerate((0.2, 0.4, 0.6))]
    planned = [replace(JOB, category="axle", seed=seed) for seed in range(3)]
    assert auroc(build([*seeds, *(done(job, 0.8) for job in planned)])) == ["0.600"]


def test_a_missing_seed_is_told_in_jobs() -> None:
    planned = [replace(JOB, seed=seed) for seed in range(3)]
    report = build([done(planned[0], 0.2), done(planned[2], 0.4)], planned)
    assert report.table.headers[:3] == ["layer", "categories", "jobs"]
    assert texts(report) == [["layer2", "1/1", "2/3", "0.300 (2/3 jobs)", "0.250 (2/3 jobs)"]]


def test_an_undefined_metric_is_a_dash_and_does_not_count() -> None:
    why = "no anomalous test image"
    both = build([done(JOB, None, why), done(replace(JOB, category="axle"), 0.75)])
    assert auroc(both) == ["0.750 (1/2)"]
    alone = build([done(JOB, None, why)])
    assert auroc(alone) == ["-"]
    assert alone.notes == [f"image_auroc undefined in 1 job: {why} (demo bolt resnet18 random layer2 256 knn, seed 0)"]


def test_ties_as_printed_are_all_best() -> None:
    report = build([*over_categories(JOB, 0.9001), *over_categories(OTHER, 0.9003)])
    assert auroc(report) == ["0.900!", "0.900!"]


def test_a_row_that_lacks_a_category_of_another_is_partial_and_not_compared_with_it() -> None:
    third = replace(JOB, layers=("layer3",))
    report = build([*over_categories(JOB, 0.9, 0.9), *over_categories(OTHER, 0.99), *over_categories(third, 0.8, 0.7)])
    assert auroc(report) == ["0.900!", "0.750", "0.990 (1/2)"]
    assert [row[1] for row in texts(report)] == ["2/2", "2/2", "1/2"]


def test_failures_are_grouped_by_reason() -> None:
    failed = [Result(replace(JOB, category=c), "failed", "out of\nmemory") for c in CATEGORIES]
    skipped = Result(OTHER, "skipped", "no weights")
    assert build([*failed, skipped]).notes == [
        "3 jobs failed: out of memory (e.g. demo axle resnet18 random layer2 256 knn, seed 0)",
        "1 job skipped: no weights (demo bolt resnet18 random layer10 256 knn, seed 0)",
    ]


def test_rows_are_sorted_as_people_count() -> None:
    grid = [replace(JOB, backbone=b, layers=(y,), image_size=s)
            for b in ("vgg", "resnet") for y in ("layer10", "layer2") for s in (1024, 256)]  # fmt: skip
    report = build([done(job) for job in grid])
    assert report.table.headers[:3] == ["backbone", "layer", "image_size"]
    labels = [tuple(cell.text for cell in row[:3]) for row in report.table.rows]
    assert labels[:4] == [("resnet", y, s) for y in ("layer2", "layer10") for s in ("256", "1024")]
    assert labels[4:] == [("vgg", y, s) for y in ("layer2", "layer10") for s in ("256", "1024")]


def test_parameters_name_a_row_by_what_differs() -> None:
    variants = [replace(JOB, params={"k": 5, "p": p}) for p in (0.25, 0.05)]
    report = build([done(job) for job in [*variants, replace(JOB, detector="other", params={"q": 1})]])
    assert report.table.headers[:2] == ["detector", "params"]
    assert [row[:2] for row in texts(report)] == [["knn", "p=0.05"], ["knn", "p=0.25"], ["other", ""]]


@pytest.mark.parametrize("change", [{"eval_size": "native"}, {"pro_limit": 0.05}, {"dataset": "visa"}, {"dtype": "float32"},
                                    {"revision": 2}, {"weights_sha256": "cd"}, {"fingerprint": "g"}])  # fmt: skip
def test_what_cannot_be_compared_never_shares_a_cell(change: dict) -> None:
    report = build([done(JOB, 0.2), done(replace(JOB, **change), 0.4)], rows=["layer"])
    assert sorted(cell.rstrip("!") for cell in auroc(report)) == ["0.200", "0.400"]
    assert next(iter(change)) in report.table.headers


def test_a_result_that_the_plan_repeats_on_newer_data_is_left_out() -> None:
    newer = replace(JOB, fingerprint="new")
    report = build([done(JOB, 0.2), done(newer, 0.4)], [newer])
    assert auroc(report) == ["0.400"]
    assert report.notes == ["1 result of older data, weights or methods left out: the plan has newer jobs"]


def test_rows_can_be_named_and_a_wider_mean_is_said() -> None:
    report = build([done(JOB, 0.2), done(replace(OTHER, image_size=512), 0.4)], rows=["detector, Image-Size"])
    assert report.table.headers[:2] == ["detector", "image_size"]
    wider = build([done(JOB, 0.2), done(OTHER, 0.4)], rows=["detector"])
    assert auroc(wider) == ["0.300"]
    assert wider.notes == ["each mean also runs over layer; add to --rows to see them apart"]


def test_a_pivot_on_categories_adds_the_mean() -> None:
    report = build(over_categories(JOB, 0.9, 0.8, 0.7), jobs(JOB), columns="category")
    assert report.table.headers == ["layer", "axle", "bolt", "cable", "mean"]
    assert texts(report) == [["layer2", "0.900", "0.800", "0.700", "0.800"]]
    assert report.table.caption.startswith("image_auroc by category, 3 categories; all rows: dataset demo")


def test_a_pivot_on_sizes_of_another_metric() -> None:
    report = build([done(replace(JOB, image_size=s)) for s in (1024, 256)], columns="image_size", metrics=["AUPRO"])
    assert report.table.headers == ["layer", "256", "1024"]
    assert texts(report) == [["layer2", "0.250", "0.250"]]


def test_one_metric_alone() -> None:
    assert build([done(JOB)], metrics=["aupro"]).table.headers == ["layer", "aupro"]


def test_few_metrics_by_default_and_the_rest_on_request() -> None:
    every = dict.fromkeys(ORDER, 0.5)
    result = replace(done(JOB), metrics=every)
    assert build([result]).table.headers[1:] == ["image_auroc", "aupro"]
    assert build([result], metrics=["all"]).table.headers[1:] == list(ORDER)
    assert build([result], metrics=["Pixel-AP", "aupro"]).table.headers[1:] == ["pixel_ap", "aupro"]
    assert build([result], sort="pixel_ap").table.headers[1:] == ["image_auroc", "aupro", "pixel_ap"]


def test_metrics_on_request_are_missing_with_a_reason_not_zero() -> None:
    old, new = done(JOB), replace(done(OTHER), metrics={"image_auroc": 0.5, "aupro": 0.5, "aupimo": 0.2, "au_spro": None})
    assert build([old, new]).table.headers[1:] == ["image_auroc", "aupro"]
    assert build([old, new], metrics=["all"]).table.headers[1:] == ["image_auroc", "aupro", "aupimo"]
    report = build([old, new], metrics=["aupimo", "au_spro"])
    assert [row[1:] for row in texts(report)] == [["-", "-"], ["0.200", "-"]]
    earlier = "missing in 1 of 2 results, which an earlier version of adbench made; run their sweep with a new --out"
    assert report.notes[-3:] == [
        f"aupimo: {earlier} (features stay in the cache)",
        f"au_spro: {earlier} (features stay in the cache)",
        "au_spro: undefined in 1 of 2 results; it needs a defects_config.json with saturation areas, as MVTec LOCO AD has",
    ]


def layered(**values: float) -> list[Result]:
    return [result for name, value in values.items() for result in over_categories(replace(JOB, layers=(name,)), value, value)]


def test_rows_are_sorted_the_best_first_and_partial_ones_last() -> None:
    found = layered(a=0.5, b=0.9, c=0.7)
    partial = done(replace(JOB, category="axle", layers=("d",)), 0.99)
    report = build([*found, partial], sort="image_auroc")
    assert [row[0] for row in texts(report)] == ["b", "c", "a", "d"]
    assert [row[0] for row in texts(build([*found, partial], sort="layer"))] == ["a", "b", "c", "d"]
    small = [replace(r, cost={"state_mb": ord(r.job.layer)}) for r in found]
    assert [row[0] for row in texts(build(small[::-1], sort="state MB"))] == ["a", "b", "c"]


def test_the_top_rows_are_those_with_the_best_first_metric_and_the_mark_is_of_all() -> None:
    report = build(layered(a=0.5, b=0.9, c=0.7), top=2)
    assert [(row[0], row[1]) for row in texts(report)] == [("b", "0.900!"), ("c", "0.700")]
    assert report.notes[0] == "the first 2 of 3 rows by image_auroc"
    reverse = build([replace(r, metrics={"image_auroc": 1 - r.metrics["image_auroc"], "aupro": r.metrics["image_auroc"]})
                     for r in layered(a=0.5, b=0.9, c=0.7)], sort="aupro", top=1)  # fmt: skip
    assert texts(reverse) == [["b", "0.100", "0.900!"]]


def test_the_top_rows_of_a_pivot_on_categories_are_those_with_the_best_mean() -> None:
    found = [*over_categories(JOB, 0.9, 0.1), *over_categories(OTHER, 0.8, 0.7)]
    assert [row[0] for row in texts(build(found, columns="category", top=1))] == ["layer10"]


def test_rows_of_other_seeds_are_compared_over_none() -> None:
    found = [done(JOB, 0.9), done(replace(JOB, seed=1), 0.8), done(OTHER, 0.7), done(replace(OTHER, seed=1), 0.6)]
    assert auroc(build(found)) == ["0.850!", "0.650"]
    assert auroc(build(found[:3])) == ["0.850", "0.700 (1/2 jobs)"]


def test_known_costs_are_shown_without_rank() -> None:
    report = build([done(JOB, images_per_second=12.34, state_mb=2.0, fit_s=1.0)])
    assert report.table.headers[-2:] == ["images/s", "state MB"]
    assert texts(report)[0][-2:] == ["12.3", "2.0"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sort": "aupor"}, "unknown column 'aupor'; did you mean 'aupro'?"),
        ({"columns": "layer", "metrics": ["all"]}, "--columns shows one metric, not 2: image_auroc, aupro; name one by --metric"),
        ({"metrics": ["aupor"]}, "unknown metric 'aupor'; did you mean 'aupro'?"),
        ({"columns": "categry"}, "unknown column key 'categry'; did you mean 'category'?"),
        ({"rows": ["bakbone"]}, "unknown row key 'bakbone'; did you mean 'backbone'?"),
        ({"rows": ["layer"], "columns": "layer"}, "'layer' cannot be both a row and a column; take it out of one of them"),
    ],
)
def test_a_wrong_name_is_told_with_the_nearest(options: dict, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        build([done(JOB)], **options)
    assert str(caught.value) == message


def test_nothing_to_report() -> None:
    with pytest.raises(DataError) as caught:
        build([], [JOB], folder="out")
    expected = "no results in 'out': run 'adbench sweep' first, or name the folder that it wrote to"
    assert str(caught.value) == expected


VALUES = st.lists(
    st.tuples(
        st.sampled_from(CATEGORIES), st.integers(0, 3), st.sampled_from(["layer2", "layer10"]), st.none() | st.floats(0, 1)
    ),
    min_size=1,
    max_size=20,
    unique_by=lambda cell: cell[:3],
)


@given(VALUES, st.randoms(use_true_random=False))
def test_order_and_copies_of_results_change_no_mean(cells: list, random: Random) -> None:
    found = [done(replace(JOB, category=c, seed=seed, layers=(layer,)), value) for c, seed, layer, value in cells]
    shuffled = random.choices(found, k=5) + random.sample(found, len(found))
    planned = [result.job for result in found]
    assert texts(build(shuffled)) == texts(build(found))
    assert build(shuffled, random.sample(planned, len(planned))).table == build(found, planned).table


@given(VALUES)
def test_copies_of_every_category_change_no_mean(cells: list) -> None:
    found = [done(replace(JOB, category=c, seed=seed, layers=(layer,)), value) for c, seed, layer, value in cells]
    copies = [replace(result, job=replace(result.job, category=f"{result.job.category} again")) for result in found]
    numbers = [[text.rstrip("!").partition(" ")[0] for text in row[-2:]] for row in texts(build(found))]
    assert [[text.rstrip("!").partition(" ")[0] for text in row[-2:]] for row in texts(build(found + copies))] == numbers


def on(environment: dict[str, Any], layers: str = "layer2", **cost: float | None) -> Result:
    return replace(done(replace(JOB, layers=(layers,)), **cost), environment=environment)


OLD = {"torch": "2.9.1", "numpy": "2.1.0", "accelerator": None, "threads": 2}
NEW = OLD | {"torch": "2.14.1", "threads": 64}
GPU = NEW | {"accelerator": "NVIDIA H200"}


def trained(precision: str, layers: str) -> Result:
    found = on(NEW, layers)
    return replace(found, job=replace(found.job, params={"precision": "auto"}), details={"precision": precision})


@pytest.mark.parametrize(
    ("found", "mixed"),
    [
        ([trained("float32", "layer2"), trained("bfloat16", "layer3")], "training precisions bfloat16 and float32"),
        ([on(OLD), on(NEW, "layer3")], "torch 2.9.1 and 2.14.1"),
        ([on(NEW, accelerator_memory_mb=None), on(GPU, "layer3", accelerator_memory_mb=9.0)], "device kinds cpu and cuda"),
        ([on(NEW | {"device": "cuda:1"}), on(NEW | {"device": "mps"}, "layer3")], "device kinds cuda and mps"),
        (
            [on(GPU), on(OLD | {"numpy": "2.0"}, "layer3"), on(OLD | {"numpy": "1.26"}, "layer4")],
            "numpy 1.26, 2.0 and 2.1.0, torch 2.9.1 and 2.14.1; device kinds cpu and cuda",
        ),
    ],
)
def test_versions_and_devices_that_are_mixed_are_named(found: list[Result], mixed: str) -> None:
    assert build(found).notes == [f"the results mix {mixed}: last digits and times may differ"]


@pytest.mark.parametrize(
    "other",
    [on(OLD, "layer3"), on(OLD | {"threads": 9}, "layer3"), on({}, "layer3"), replace(on(NEW, "layer3"), status="failed")],
)
def test_nothing_is_said_of_one_environment(other: Result) -> None:
    assert not any("mix" in note for note in build([on(OLD), other]).notes)


def test_a_gpu_that_was_not_used_is_not_mixed_in() -> None:
    assert build([on(GPU, accelerator_memory_mb=None), on(NEW, "layer3", accelerator_memory_mb=None)]).notes == []


def with_plug_in(value: float, **changes: Any) -> Result:
    result = done(replace(JOB, **changes))
    return replace(result, metrics={"sharpness": value, "blur": 0.125} | result.metrics)


def test_metrics_of_plug_ins_follow_the_packages_own_by_name() -> None:
    report = build([with_plug_in(0.75), done(OTHER)])
    assert report.table.headers[1:] == ["image_auroc", "aupro", "blur", "sharpness"]
    assert [row[3:] for row in texts(report)] == [["0.125", "0.750"], ["-", "-"]]
    assert build([with_plug_in(0.75)], metrics=["Sharpness"]).table.headers[1:] == ["sharpness"]
    pivot = build([with_plug_in(0.75), with_plug_in(0.25, seed=1)], columns="seed", metrics=["sharpness"])
    assert texts(pivot)[0][1:] == ["0.750", "0.250"]
