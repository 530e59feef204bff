"""Reasons for which jobs have no result: each once, with its cells."""

from dataclasses import replace
from itertools import product

from adbench.sweep.reasons import by_reason, sentence
from adbench.types import Job

JOB = Job("parts", "f", "nut", "resnet50", "moco", "", ("layer1",), 256, 256, "knn", {}, 1, 0)
LAYERS = {"resnet50": ("layer1", "layer2"), "lite0": ("blocks.1", "blocks.2")}
WEIGHTS = {"resnet50": ("moco", "swav", "random"), "lite0": ("random",)}
JOBS = [
    replace(JOB, category=category, backbone=backbone, weights=weights, layers=(layer,))
    for category, backbone in product(("nut", "metal"), LAYERS)
    for weights, layer in product(WEIGHTS[backbone], LAYERS[backbone])
]


def test_a_reason_stands_once_with_the_cells_that_share_it() -> None:
    found = by_reason([(job, f"no {job.weights}") for job in JOBS if job.weights in ("moco", "swav")], JOBS)
    assert found == [
        {"reason": f"no {name}", "jobs": 4, "cells": {"backbone": ["resnet50"], "weights": [name]}} for name in ("moco", "swav")
    ]
    assert sentence(found[0], "skipped") == "4 jobs (backbone resnet50; weights moco) skipped: no moco"


def test_axes_on_which_all_values_fail_are_not_named() -> None:
    (everywhere,) = by_reason([(job, "disk full") for job in JOBS], JOBS)
    assert sentence(everywhere, "failed") == "16 jobs failed: disk full"
    (one,) = by_reason([(JOBS[0], None)], JOBS)
    assert sentence(one, "failed").startswith(
        "1 job (category nut; backbone resnet50; weights moco; layer layer1) failed: no reason"
    )


def test_the_most_frequent_reason_comes_first_and_long_lists_are_cut() -> None:
    jobs = [replace(JOB, seed=seed) for seed in range(20)]
    found = by_reason([(job, "a" if job.seed < 5 else "b") for job in jobs[:19]], jobs)
    assert [(entry["reason"], entry["jobs"]) for entry in found] == [("b", 14), ("a", 5)]
    assert sentence(found[0], "failed") == "14 jobs (seed 5, 6, 7, 8, 9, 10 and 8 more) failed: b"
