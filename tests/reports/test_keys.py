"""Keys: the order of their values, which of them vary, and groups of jobs."""

import random
from dataclasses import replace

import pytest
from report_examples import JOB

from adbench.reports.keys import KeyedJob, grouped, groups_by, keyed_jobs, natural, varies, varying
from adbench.types import Job, Result


def keyed(*jobs: Job) -> list[KeyedJob]:
    return keyed_jobs([(job, None) for job in jobs])


@pytest.mark.parametrize(
    "values", [[64, 256, 1024, "native"], ["layer2.9", "layer2.10", "layer10.1"], ["", "a", "a2", "a10", "b"], [0.05, 0.3]]
)
def test_values_are_ordered_as_people_count(values: list) -> None:
    assert sorted(random.Random(0).sample(values, len(values)), key=natural) == values


def test_parameters_are_ordered_by_their_decimals() -> None:
    assert sorted(["p=0.25", "p=0.1"], key=lambda text: natural(text, "params")) == ["p=0.1", "p=0.25"]


def test_a_key_varies_only_among_jobs_that_agree_in_the_others() -> None:
    jobs = keyed(JOB, replace(JOB, detector="other", revision=7))
    assert varies(jobs, "revision") and not varies(jobs, "revision", ["detector"])
    assert varying(jobs, ["detector", "revision", "seed"]) == ["detector"]


def test_groups_are_labelled_by_values_that_need_a_word() -> None:
    jobs = keyed(replace(JOB, image_size=512), JOB)
    assert [group.label for group in groups_by(jobs, ["layer", "image_size", "seed"])] == [
        "layer2, 256 px, seed 0",
        "layer2, 512 px, seed 0",
    ]


def test_layers_are_ordered_by_receptive_field_and_unknown_ones_come_last() -> None:
    fields = {"z": 10, "b": 90, "a": None}
    found = [
        Result(replace(JOB, layers=(name,)), "done", details={"receptive_field_px": field}) for name, field in fields.items()
    ]
    assert [layer for (layer,) in grouped(keyed_jobs([(r.job, r) for r in reversed(found)]), ["layer"])] == ["z", "b", "a"]


def test_an_estimated_field_orders_layers_before_an_analytic_one_of_earlier_versions() -> None:
    fields = [("a", 200, "estimated"), ("a", 1799, None), ("b", 300, "estimated")]
    found = [
        Result(replace(JOB, layers=(name,), seed=seed), "done", details={"receptive_field_px": px, "receptive_field_kind": kind})
        for seed, (name, px, kind) in enumerate(fields)
    ]
    assert list(grouped(keyed_jobs([(result.job, result) for result in found]), ["layer"])) == [("a",), ("b",)]


def test_random_weights_of_each_jobs_seed_are_one_configuration_over_seeds() -> None:
    drawn = [replace(JOB, seed=seed, weights_sha256=f"random-{seed}") for seed in (0, 1)]
    assert not varies(keyed(*drawn), "weights_sha256")
    assert varies(keyed(*drawn, replace(JOB, seed=1, weights_sha256="random-0")), "weights_sha256")  # of version 0.1.0


def test_a_smoothing_has_one_name_where_only_the_sizes_differ() -> None:
    old = [replace(JOB, detector="patchcore", image_size=size) for size in (256, 512)]
    new = replace(old[1], smoothing=4.0)

    def names(*jobs: Job) -> list[str]:
        return [job.values["smoothing"] for job in keyed(*jobs)]

    assert names(*old) == ["4 px of a 256 grid"] * 2
    assert names(*old, new) == ["usual", "8 px", "usual"]
    assert names(old[1], replace(JOB, image_size=512)) == ["8 px", "usual"]
    assert names(*old, replace(new, detector="padim", smoothing=1.0))[2] == "1 px"
