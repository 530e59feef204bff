"""What a user reads of a selection: a short table that fits the terminal, and grouped reasons."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from adbench.data.check import FileFacts
from adbench.metrics.support.labels import CategoryInputs
from adbench.reports.report import render
from adbench.selection.ranking import SCORED, Excluded, Ranked
from adbench.selection.select import Selection
from adbench.selection.tables import selection_report
from adbench.selection.validation import Validation
from adbench.types import Category, Job, Result, Sample

JOB = Job("parts", "f", "nut", "efficientnet_lite0", "imagenet", "s", ("blocks.2.1.add",), 256, 256, "patchcore",
          {"coreset_fraction": 0.1, "coreset_max": 4096}, 1, 0)  # fmt: skip
COST: dict[str, float | None] = {"latency_ms": 110.0, "memory_mb": 15.0}


def selection(count: int, layers: tuple[str, ...], *excluded: Excluded) -> Selection:
    """A selection of so many candidates at two image sizes."""
    samples = tuple(Sample(Path(f"{k}.png"), f"{k}.png") for k in range(24))
    facts = {sample.path: FileFacts(f"{k:064x}", 4, 4) for k, sample in enumerate(samples)}
    inputs = CategoryInputs(Category("parts", "nut", samples[:16], samples[16:]), facts)
    validation = Validation(inputs, (0.1,), reserved=("f" * 64,) * 8)
    ranking = []
    for number in range(count):
        job = replace(JOB, layers=(f"{layers[0]}{number:02}", *layers[1:]), image_size=(256, 320)[number % 2])
        metrics = dict.fromkeys(SCORED, 0.9 - number / 100)
        result = Result(job, "done", None, metrics, COST, details={"receptive_field_px": 64})
        ranking.append(Ranked(result, 0.9 - number / 100, (0.5, 0.95), number < 3))
    return Selection("demo", validation, tuple(ranking), excluded, Path("out"))


@pytest.mark.parametrize(
    ("width", "layers", "shown"),
    [(100, ("blocks.2.1.add",), True), (80, ("blocks.2.1.add",), False), (80, ("blocks.1.1.add", "blocks.2.1.add"), False)],
)
def test_the_table_is_short_and_fits_the_terminal(width: int, layers: tuple[str, ...], shown: bool) -> None:
    text = render(selection_report(selection(45, layers), 15, width), "table")
    lines = text.splitlines()
    rows = [line for line in lines if re.match(r"(\d+ |--)  *[b-]", line)]
    assert len(rows) == 16
    assert max(map(len, rows)) <= width
    assert ("AU-PRO  " in text) == shown
    assert len(lines) < 35
    assert "30 more candidates; --top 0 shows all" in lines
    assert "memory banks have at most 4,096 patches" in text
    assert lines[-1].startswith(
        "train it on 23 good images; the other 8 took no part in the selection and set its threshold; a rate of 0.01 would need "
        "99: adbench train patchcore "
    )
    assert " --fpr 0.2 --from-selection out/selection-nut.json " in lines[-1]


def test_without_reserved_images_no_threshold_is_promised() -> None:
    found = selection(1, ("a",))
    text = render(selection_report(replace(found, validation=replace(found.validation, reserved=()))), "table")
    assert "all took part in the selection, so a threshold needs new ones: adbench train" in text and "--fpr" not in text


def test_all_candidates_and_columns_are_there_where_no_terminal_limits_them() -> None:
    table = selection_report(selection(20, ("blocks.2.1.add",))).table
    assert len(table.rows) == 20
    assert {"RRF", "AUROC", "AU-PRO", "ms", "MB"} <= set(table.headers)


def test_a_best_candidate_without_ties_is_not_marked_as_one() -> None:
    few = selection(3, ("a",))
    assert [row[-1].text for row in selection_report(few).table.rows] == ["ties"] * 3
    alone = replace(few, ranking=(few.ranking[0], *(replace(one, tied=False) for one in few.ranking[1:])))
    assert [row[-1].text for row in selection_report(alone).table.rows] == [""] * 3


def test_candidates_with_one_reason_share_a_line() -> None:
    jobs = [replace(JOB, image_size=size) for size in (64, 128, 192, 320)]
    excluded = [Excluded(job, "cut", f"forecast to take {k} s, too long for the budget") for k, job in enumerate(jobs)]
    notes = selection_report(selection(2, ("a",), *excluded, Excluded(JOB, "failed", "diverged"))).notes
    names = ", ".join(f"blocks.2.1.add at {size} px" for size in (64, 128, 192))
    assert f"cut: {names} and 1 more: forecast to take too long for the budget" in notes
    assert "failed: blocks.2.1.add at 256 px: diverged" in notes
